//! The figures of the timing, as arithmetic.

use proptest::prelude::*;

use super::*;

#[test]
fn half_of_the_lifetime_is_left_at_the_refresh() {
    let hour = Duration::from_secs(3600);
    assert_eq!(refresh_at(hour, 0.0), Duration::from_secs(1800));
    assert_eq!(refresh_at(hour, 1.0), Duration::from_secs(1620));
    assert_eq!(refresh_at(Duration::from_secs(10), 0.0), Duration::from_secs(5));
}

#[test]
fn the_mandatory_window_has_no_floor() {
    assert!(mandatory(Duration::from_secs(20)) < Duration::from_secs(4));
    assert_eq!(mandatory(Duration::from_secs(86_400)), Duration::from_secs(600));
}

#[test]
fn failures_double_the_delay_up_to_the_limit() {
    let much = Duration::from_secs(86_400);
    let full = |failures| retry_while_usable(failures, much, 1.0).as_secs();
    assert_eq!([full(1), full(2), full(6), full(60)], [10, 20, 300, 300]);
    let starved = |failures| retry_while_starved(failures, None, 1.0).as_secs();
    assert_eq!([starved(1), starved(2), starved(7), starved(u32::MAX)], [1, 2, 60, 60]);
    let short = |lifetime| retry_while_starved(9, Some(Duration::from_secs(lifetime)), 1.0).as_secs();
    assert_eq!([short(5), short(15), short(3600)], [10, 15, 60]);
    assert_eq!(probe_gap(1), Duration::from_secs(4));
    assert_eq!(probe_gap(40), Duration::from_secs(300));
}

proptest! {
    #[test]
    fn no_figure_overflows_and_each_keeps_its_bounds(
        lifetime in 0u64..400_000_000, remaining in 0u64..400_000_000, count in any::<u32>(), unit in 0.0f64..1.0,
    ) {
        let (lifetime, remaining) = (Duration::from_secs(lifetime), Duration::from_secs(remaining));
        prop_assert!(refresh_at(lifetime, unit) <= lifetime / 2);
        prop_assert!(refresh_at(lifetime, unit) >= lifetime.mul_f64(0.449));
        prop_assert!(retry_while_usable(count, remaining, unit) <= remaining / 4);
        prop_assert!(retry_while_starved(count, Some(lifetime), unit) >= LEAST_GAP);
        prop_assert!(least_gap(Some(lifetime)) >= LEAST_GAP);
        prop_assert!(forced_gap(count, Some(lifetime)) <= Duration::from_secs(300));
        prop_assert!(attempt(Some(remaining)) <= ATTEMPT);
        prop_assert!(ask_cache_again(Some(lifetime), remaining) >= LEAST_GAP);
        prop_assert!(ask_cache_again(Some(lifetime), remaining) <= Duration::from_secs(300));
        prop_assert!(after_resume(Some(lifetime), unit) <= Duration::from_secs(5));
    }
}
