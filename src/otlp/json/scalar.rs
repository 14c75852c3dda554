//! The scalar values of proto3 JSON, as OTLP has them: numbers that may be strings, hex ids, base64 (J1, J2, J5, J6).
//!
//! Integers are read exactly, never by way of a double. What does not fit its type is refused, not rounded.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::text::number_len;

/// Why a scalar is not a value of its field's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScalarError {
    #[error("not an integer")]
    Integer,
    #[error("not a number")]
    Number,
    #[error("the number is out of range")]
    Range,
    #[error("not a hex string")]
    Hex,
    #[error("not base64")]
    Base64,
}

/// An integer written as a JSON number or as a string with one in it; `1e3` and `1.50e1` are integers too.
///
/// # Errors
/// [`ScalarError::Integer`] if it has a fraction, [`ScalarError::Range`] if it is not between `min` and `max`.
pub(super) fn integer(text: &str, min: i128, max: i128) -> Result<i128, ScalarError> {
    if number_len(text.as_bytes()) != Some(text.len()) {
        return Err(ScalarError::Integer);
    }
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(unsigned) => (true, unsigned),
        None => (false, text),
    };
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let fraction = fraction.trim_end_matches('0');
    let mut value = 0_i128;
    for digit in whole.bytes().chain(fraction.bytes()) {
        value = value
            .checked_mul(10)
            .and_then(|value| value.checked_add(i128::from(digit - b'0')))
            .ok_or(ScalarError::Range)?;
    }
    // An exponent that does not fit is out of range, or makes a fraction, as much as any large one.
    let exponent: i64 = exponent.parse().unwrap_or(match exponent.starts_with('-') {
        true => -1_000_000_000,
        false => 1_000_000_000,
    });
    let mut scale = exponent.saturating_sub(i64::try_from(fraction.len()).unwrap_or(i64::MAX));
    while value != 0 && scale > 0 {
        value = value.checked_mul(10).ok_or(ScalarError::Range)?;
        scale -= 1;
    }
    while value != 0 && scale < 0 {
        if value % 10 != 0 {
            return Err(ScalarError::Integer);
        }
        value /= 10;
        scale += 1;
    }
    let value = if negative { -value } else { value };
    match (min..=max).contains(&value) {
        true => Ok(value),
        false => Err(ScalarError::Range),
    }
}

/// A double written as a JSON number, or as a string with one in it.
///
/// # Errors
/// [`ScalarError::Number`] if it is none, [`ScalarError::Range`] if no finite double is near it.
pub(super) fn double(text: &str) -> Result<f64, ScalarError> {
    if number_len(text.as_bytes()) != Some(text.len()) {
        return Err(ScalarError::Number);
    }
    let value: f64 = text.parse().map_err(|_| ScalarError::Number)?;
    match value.is_finite() {
        true => Ok(value),
        false => Err(ScalarError::Range),
    }
}

/// A double written as a string: `NaN`, `Infinity`, `-Infinity`, or a number.
///
/// # Errors
/// As [`double`].
pub(super) fn double_in_string(text: &str) -> Result<f64, ScalarError> {
    match text {
        "NaN" => Ok(f64::NAN),
        "Infinity" => Ok(f64::INFINITY),
        "-Infinity" => Ok(f64::NEG_INFINITY),
        _ => double(text),
    }
}

/// The bytes of a hex string in either case, of any length: whether an id has the right one is for
/// [`check`](crate::otlp::check::check) to say, which then refuses one span and not the request.
///
/// # Errors
/// [`ScalarError::Hex`] for an odd number of digits or another character.
pub(super) fn hex(text: &str) -> Result<Vec<u8>, ScalarError> {
    let digit = |byte: u8| char::from(byte).to_digit(16).ok_or(ScalarError::Hex);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return Err(ScalarError::Hex);
    }
    pairs
        .iter()
        .map(|&[high, low]| Ok((digit(high)? << 4 | digit(low)?) as u8))
        .collect()
}

/// The bytes of a base64 string: standard or URL-safe, padded or not, as proto3 JSON wants a parser to accept.
///
/// # Errors
/// [`ScalarError::Base64`] if it is neither.
pub(super) fn base64(text: &str) -> Result<Vec<u8>, ScalarError> {
    const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
    const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);
    let engine = match text.contains(['-', '_']) {
        true => &URL_SAFE,
        false => &STANDARD,
    };
    engine.decode(text).map_err(|_| ScalarError::Base64)
}
