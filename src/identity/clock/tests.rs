//! Two clocks, and what each of them can do to a lifetime.

use proptest::prelude::*;

use super::*;

fn now() -> Now {
    Now {
        wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000),
        boot: Duration::from_secs(5000),
        monotonic: Duration::from_secs(4000),
    }
}

fn later(wall: i64, boot: u64, monotonic: u64) -> Now {
    let mut later = now();
    if wall < 0 {
        later.wall -= Duration::from_secs(wall.unsigned_abs());
    } else {
        later.wall += Duration::from_secs(wall.unsigned_abs());
    }
    later.boot += Duration::from_secs(boot);
    later.monotonic += Duration::from_secs(monotonic);
    later
}

#[test]
fn either_clock_ends_a_credential() {
    let expiry = Expiry::new(now().wall + Duration::from_secs(300), Skew::default(), now());
    assert_eq!(expiry.remaining(later(100, 100, 100)).as_secs(), 200);
    assert_eq!(expiry.remaining(later(300, 0, 0)), Duration::ZERO);
    assert_eq!(expiry.remaining(later(0, 300, 0)), Duration::ZERO);
    assert_eq!(expiry.remaining(later(-3600, 100, 100)).as_secs(), 200);
}

#[test]
fn the_margin_is_a_twentieth_within_bounds() {
    let margin = |lifetime| Expiry::lasting(Duration::from_secs(lifetime), now()).margin();
    assert_eq!(margin(10), Duration::from_millis(500));
    assert_eq!(margin(300), Duration::from_secs(15));
    assert_eq!(margin(86_400), Duration::from_secs(30));
}

#[test]
fn a_suspend_and_a_set_clock_are_jumps_and_waiting_is_none() {
    assert!(!later(30, 30, 30).jumped_since(now()));
    assert!(!later(34, 30, 30).jumped_since(now()));
    assert!(later(3600, 3600, 10).jumped_since(now()), "suspend");
    assert!(later(3600, 10, 10).jumped_since(now()), "set ahead");
    assert!(later(-3600, 10, 10).jumped_since(now()), "set back");
}

#[test]
fn the_systems_clocks_go_forward() {
    let (first, second) = (Clock::System.now(), Clock::System.now());
    assert!(second.boot >= first.boot && second.monotonic >= first.monotonic);
    assert!(!second.jumped_since(first));
}

#[test]
fn small_skews_are_none_and_absurd_ones_are_clamped() {
    let wall = now().wall;
    assert_eq!(Skew::between(wall + Duration::from_secs(5), wall), Skew::default());
    let hour = Duration::from_secs(3600);
    assert_eq!(Skew::between(wall - hour, wall).correct(wall), wall - hour);
    let absurd = Skew::between(SystemTime::UNIX_EPOCH, wall);
    assert_eq!(absurd.correct(wall), wall - SKEW_LARGEST);
    assert!(absurd.is_behind() && absurd.seconds() < 0.0);
}

proptest! {
    #[test]
    fn no_jump_ever_extends_a_lifetime(
        lifetime in 0u64..200_000, wall in -10_000_000i64..10_000_000, boot in 0u64..400_000, skew in -200_000i64..200_000,
    ) {
        let theirs = later(skew, 0, 0).wall;
        let skew = Skew::between(theirs, now().wall);
        let expiry = Expiry::new(skew.correct(now().wall) + Duration::from_secs(lifetime), skew, now());
        let left = expiry.remaining(later(wall, boot, boot));
        prop_assert!(left <= Duration::from_secs(lifetime.saturating_sub(boot)));
    }
}
