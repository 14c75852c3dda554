//! Points in time as JSON texts write them (RFC 3339). Pure.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// `2026-11-21T12:01:01Z`, with a fraction or an offset where there is one. None for anything else, for a time before
/// 1970, and for a day that no calendar has.
///
/// A leap second counts as the second after it.
pub(super) fn rfc3339(text: &str) -> Option<SystemTime> {
    let bytes = text.trim().as_bytes();
    let (head, rest) = bytes.split_at_checked(19)?;
    let shape = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')];
    if shape.iter().any(|(at, mark)| head[*at] != *mark) || !matches!(head[10], b'T' | b't' | b' ') {
        return None;
    }
    let [year, month, day] = [number(&head[..4])?, number(&head[5..7])?, number(&head[8..10])?];
    let [hour, minute, second] = [number(&head[11..13])?, number(&head[14..16])?, number(&head[17..19])?];
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=last).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (fraction, zone) = fraction(rest)?;
    let seconds = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset(zone)?;
    UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(seconds).ok()?) + fraction)
}

/// Days since 1970, as Howard Hinnant's `days_from_civil` counts them.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, month) = (year.div_euclid(400), (month + 9) % 12);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Only digits; a sign is none.
fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |sum, byte| {
        byte.is_ascii_digit().then(|| sum * 10 + i64::from(byte - b'0'))
    })
}

/// The fraction of a second, to the nanosecond, and what follows it.
fn fraction(rest: &[u8]) -> Option<(Duration, &[u8])> {
    let Some(digits) = rest.strip_prefix(b".") else {
        return Some((Duration::ZERO, rest));
    };
    let length = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let kept = length.min(9);
    let scale = 10_i64.checked_pow(u32::try_from(9 - kept).ok()?)?;
    let nanos = u64::try_from(number(&digits[..kept])? * scale).ok()?;
    (length > 0).then_some((Duration::from_nanos(nanos), &digits[length..]))
}

/// Seconds east of Greenwich.
fn offset(zone: &[u8]) -> Option<i64> {
    match zone {
        b"Z" | b"z" => Some(0),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (number(&[*h1, *h2])?, number(&[*m1, *m2])?);
            let seconds = hours * 3600 + minutes * 60;
            (hours < 24 && minutes < 60).then_some(if *sign == b'-' { -seconds } else { seconds })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_any_zone_and_precision_are_read() {
        for (text, millis) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-28T23:59:59Z", 951_782_399_000),
            ("2000-02-29T00:00:00Z", 951_782_400_000),
            ("2026-11-21T12:01:01.5Z", 1_795_262_461_500),
            ("2026-11-21T14:01:01.500999999+02:00", 1_795_262_461_500),
            ("2026-11-21T07:01:01-05:00", 1_795_262_461_000),
            ("2016-12-31T23:59:60Z", 1_483_228_800_000),
        ] {
            let read = rfc3339(text)
                .expect(text)
                .duration_since(UNIX_EPOCH)
                .expect("after 1970");
            assert_eq!(read.as_millis(), millis, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[0-9TtZz:.+ -]{0,40}|.{0,40}") {
            let _ = rfc3339(&text);
        }
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in [
            "",
            "2026-11-21",
            "2026-11-21T12:01:01",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-11-21T24:00:00Z",
            "2026-11-21T12:01:01.Z",
            "+026-11-21T12:01:01Z",
            "1969-12-31T23:59:59Z",
            "2026-11-21T12:01:01+2:00",
            "2026-11-21T12:01:01Zürich",
            "20261121T120101Z00000",
        ] {
            assert_eq!(rfc3339(text), None, "{text}");
        }
    }
}
