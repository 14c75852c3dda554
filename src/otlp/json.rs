//! OTLP/JSON to the protobuf bytes of the same request.
//!
//! It streams: each value is written as it is read, and no tree is built. The messages come from `schema`'s tables.
//! The rules are proto3 JSON's (J6) with OTLP's changes: hex ids (J1), enums as integers only (J2), unknown keys
//! ignored (J3), lowerCamelCase keys only (J4), 64-bit integers as strings or numbers (J5).
//! `null` leaves a field unset, but is no element of an array. A key or a `oneof` that is given twice is refused,
//! and so is everything else that would have to be guessed; nothing is dropped silently.

mod scalar;
mod text;

use std::ops::{Deref, DerefMut};

use bytes::Bytes;

use self::scalar::ScalarError;
use self::text::{Next, Text, TextError};
use super::Signal;
use super::check::{MAX_DEPTH, Malformed};
use super::schema::{Field, Kind, Label, Message};
use super::wire::{self, WireType};

/// The protobuf has at most so many times the bytes of its text: `0,` in a list of counts becomes eight bytes.
pub const GROWTH: usize = 4;

/// The request as protobuf.
///
/// # Errors
/// As of [`to_protobuf_within`].
pub fn to_protobuf(signal: Signal, json: &[u8]) -> Result<Bytes, Malformed> {
    to_protobuf_within(signal, json, usize::MAX).map(Option::unwrap_or_default)
}

/// The request as protobuf, or `None` if that takes more than `room` bytes; hardly more than those are written then.
///
/// # Errors
/// [`Malformed`], with the path to the value (`resourceSpans[0].scopeSpans[1].spans[3].traceId: …`), if the bytes are
/// no JSON or no such request. The values themselves are not repeated: they may be private.
pub fn to_protobuf_within(signal: Signal, json: &[u8], room: usize) -> Result<Option<Bytes>, Malformed> {
    let text = std::str::from_utf8(json).map_err(|_| Malformed("not OTLP/JSON: the text is not UTF-8".to_owned()))?;
    let mut out = Out {
        // Keys and quotes are most of the text.
        bytes: Vec::with_capacity((json.len() / 2).min(room)),
        room,
    };
    let mut text = Text::new(text);
    let written = message(&mut text, Message::request(signal), 0, &mut out).and_then(|()| Ok(text.end()?));
    match written {
        Ok(()) if out.len() <= room => Ok(Some(out.bytes.into_boxed_slice().into())),
        Ok(()) => Ok(None),
        Err(problem) if matches!(problem.what, What::Room) => Ok(None),
        Err(problem) => Err(problem.explain()),
    }
}

/// What is written, and how much it may become.
struct Out {
    bytes: Vec<u8>,
    room: usize,
}

/// What is wrong, and where; boxed, so that the way of success stays narrow.
struct Problem {
    what: What,
    /// Innermost first.
    path: Vec<Step>,
}

enum What {
    Text(TextError),
    Scalar(ScalarError),
    Expected(&'static str),
    Twice,
    Oneof,
    Null,
    Depth,
    /// Nothing is wrong, but there is no room for it.
    Room,
}

enum Step {
    Key(&'static str),
    Index(usize),
}

// === impl Out ===

impl Deref for Out {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.bytes
    }
}

impl DerefMut for Out {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

// === impl Problem ===

impl Problem {
    #[cold]
    fn new(what: What) -> Box<Problem> {
        Box::new(Problem { what, path: Vec::new() })
    }

    #[cold]
    fn within(mut self: Box<Self>, step: Step) -> Box<Problem> {
        self.path.push(step);
        self
    }

    fn explain(&self) -> Malformed {
        let mut path = String::new();
        // The outermost two dozen steps are enough to find it; a deep nest would make a long line.
        for step in self.path.iter().rev().take(24) {
            match step {
                Step::Key(key) if path.is_empty() => path.push_str(key),
                Step::Key(key) => path.extend([".", key]),
                Step::Index(index) => path.push_str(&format!("[{index}]")),
            }
        }
        let what = match &self.what {
            What::Text(error) => error.to_string(),
            What::Scalar(error) => error.to_string(),
            What::Expected(what) => format!("expected {what}"),
            What::Twice => "the key is given twice".to_owned(),
            What::Oneof => "another key of the same oneof is given too".to_owned(),
            What::Null => "null is no element of an array".to_owned(),
            What::Depth => format!("messages nest deeper than {MAX_DEPTH} levels"),
            What::Room => "it takes more room than it may".to_owned(),
        };
        match path.is_empty() {
            true => Malformed(format!("not OTLP/JSON: {what}")),
            false => Malformed(format!("not OTLP/JSON: {path}: {what}")),
        }
    }
}

impl From<TextError> for Box<Problem> {
    #[cold]
    fn from(error: TextError) -> Self {
        Problem::new(What::Text(error))
    }
}

impl From<ScalarError> for Box<Problem> {
    #[cold]
    fn from(error: ScalarError) -> Self {
        Problem::new(What::Scalar(error))
    }
}

// === messages ===

/// Reads an object and writes the fields of that message.
fn message(text: &mut Text<'_>, message: &'static Message, depth: u32, out: &mut Out) -> Result<(), Box<Problem>> {
    if depth > MAX_DEPTH {
        return Err(Problem::new(What::Depth));
    }
    expect(text, Next::Object, "an object")?;
    text.open(b'{')?;
    let mut seen = Seen::default();
    let mut first = true;
    while let Some(key) = text.key(first)? {
        first = false;
        match message.field_by_name(&key) {
            Some(known) => {
                member(text, known, &mut seen, depth, out).map_err(|problem| problem.within(Step::Key(known.json)))?
            }
            None => text.skip(MAX_DEPTH)?,
        }
    }
    Ok(())
}

/// Which fields of a message were given; a `null` is not.
#[derive(Default)]
struct Seen {
    numbers: u32,
    oneof: bool,
}

/// Reads the value of one known key.
fn member(
    text: &mut Text<'_>,
    field: &'static Field,
    seen: &mut Seen,
    depth: u32,
    out: &mut Out,
) -> Result<(), Box<Problem>> {
    if text.null()? {
        return Ok(());
    }
    if seen.numbers & 1 << field.number != 0 {
        return Err(Problem::new(What::Twice));
    }
    seen.numbers |= 1 << field.number;
    match field.label {
        Label::Repeated => elements(text, field, depth, out),
        Label::Oneof if seen.oneof => Err(Problem::new(What::Oneof)),
        Label::Oneof | Label::Optional | Label::Implicit => {
            seen.oneof |= field.label == Label::Oneof;
            value(text, field, depth, out)
        }
    }
}

/// Reads an array. Scalars are written packed, as encoders do; strings and messages field by field.
fn elements(text: &mut Text<'_>, field: &'static Field, depth: u32, out: &mut Out) -> Result<(), Box<Problem>> {
    expect(text, Next::Array, "an array")?;
    text.open(b'[')?;
    if matches!(field.kind, Kind::Message(_) | Kind::String | Kind::Bytes | Kind::Id) {
        return each_element(text, |text| value(text, field, depth, out));
    }
    let start = open_len(out, field.number);
    each_element(text, |text| {
        scalar(text, field.kind, out)?;
        // Lists of numbers are all that takes much more room than its text does.
        if out.len() > out.room {
            return Err(Problem::new(What::Room));
        }
        Ok(())
    })?;
    match out.len() == start {
        // An empty list is not written at all.
        true => out.truncate(start - wire::len_delimited_len(field.number, 0)),
        false => close_len(out, start),
    }
    Ok(())
}

fn each_element<'a>(
    text: &mut Text<'a>,
    mut read: impl FnMut(&mut Text<'a>) -> Result<(), Box<Problem>>,
) -> Result<(), Box<Problem>> {
    let mut index = 0;
    while text.element(index == 0)? {
        let outcome = match text.null() {
            Ok(false) => read(text),
            Ok(true) => Err(Problem::new(What::Null)),
            Err(error) => Err(error.into()),
        };
        outcome.map_err(|problem| problem.within(Step::Index(index)))?;
        index += 1;
    }
    Ok(())
}

/// Reads one value and writes it as one field.
fn value(text: &mut Text<'_>, field: &'static Field, depth: u32, out: &mut Out) -> Result<(), Box<Problem>> {
    // proto3's plain fields are not written when they have their default value.
    let implicit = field.label == Label::Implicit;
    let bytes = match field.kind {
        Kind::Message(child) => {
            let start = open_len(out, field.number);
            message(text, child, depth + 1, out)?;
            close_len(out, start);
            return Ok(());
        }
        Kind::String => {
            expect(text, Next::String, "a string")?;
            let string = text.string()?;
            if !implicit || !string.is_empty() {
                wire::put_len_delimited(out, field.number, string.as_bytes());
            }
            return Ok(());
        }
        Kind::Bytes => {
            expect(text, Next::String, "a base64 string")?;
            scalar::base64(&text.string()?)?
        }
        Kind::Id => {
            expect(text, Next::String, "a hex string")?;
            scalar::hex(&text.string()?)?
        }
        kind => {
            let start = out.len();
            wire::put_tag(out, field.number, wire_type(kind));
            let is_default = scalar(text, kind, out)?;
            if implicit && is_default {
                out.truncate(start);
            }
            return Ok(());
        }
    };
    if !implicit || !bytes.is_empty() {
        wire::put_len_delimited(out, field.number, &bytes);
    }
    Ok(())
}

/// Opens a length-delimited field, with one byte kept for its length. Returns where its content starts.
fn open_len(out: &mut Vec<u8>, number: u32) -> usize {
    wire::put_len_header(out, number, 0);
    out.len()
}

/// Writes the length of a field that [`open_len`] opened, and moves its content if that takes more than one byte.
fn close_len(out: &mut Vec<u8>, start: usize) {
    let length = out.len() - start;
    let extra = wire::varint_len(length as u64) - 1;
    if extra > 0 {
        out.resize(out.len() + extra, 0);
        out.copy_within(start..start + length, start + extra);
    }
    let mut rest = length as u64;
    for slot in &mut out[start - 1..start + extra] {
        *slot = rest as u8 & 0x7f | 0x80;
        rest >>= 7;
    }
    out[start + extra - 1] &= 0x7f;
}

// === scalars ===

/// Reads a scalar and appends it without a tag. Returns whether it is the type's default.
fn scalar(text: &mut Text<'_>, kind: Kind, out: &mut Out) -> Result<bool, Box<Problem>> {
    let (min, max) = match kind {
        Kind::Bool => {
            expect(text, Next::Bool, "true or false")?;
            let value = text.bool()?;
            out.push(u8::from(value));
            return Ok(!value);
        }
        Kind::Double => {
            let value = double(text)?;
            out.extend_from_slice(&value.to_le_bytes());
            // Negative zero is not the default: its bits differ.
            return Ok(value.to_bits() == 0);
        }
        Kind::Int32 | Kind::Sint32 | Kind::Enum => (i128::from(i32::MIN), i128::from(i32::MAX)),
        Kind::Uint32 | Kind::Fixed32 => (0, i128::from(u32::MAX)),
        Kind::Int64 | Kind::Sfixed64 => (i128::from(i64::MIN), i128::from(i64::MAX)),
        Kind::Uint64 | Kind::Fixed64 => (0, i128::from(u64::MAX)),
        Kind::Message(_) | Kind::String | Kind::Bytes | Kind::Id => {
            unreachable!("length-delimited values are written by their callers")
        }
    };
    let value = match (text.next()?, kind) {
        (Next::Number, _) => scalar::integer(text.number()?, min, max)?,
        (_, Kind::Enum) => {
            return Err(Problem::new(What::Expected(
                "the number of the enum value, not its name",
            )));
        }
        (Next::String, _) => scalar::integer(&text.string()?, min, max)?,
        _ => return Err(Problem::new(What::Expected("an integer"))),
    };
    // In two's complement, where the cast takes the low bits: a negative int32 travels as 64 bits.
    let bits = value as u64;
    match kind {
        Kind::Fixed32 => out.extend_from_slice(&(bits as u32).to_le_bytes()),
        Kind::Fixed64 | Kind::Sfixed64 => out.extend_from_slice(&bits.to_le_bytes()),
        Kind::Sint32 => wire::put_varint(out, u64::from(zigzag(bits as i32))),
        _ => wire::put_varint(out, bits),
    }
    Ok(bits == 0)
}

fn double(text: &mut Text<'_>) -> Result<f64, Box<Problem>> {
    match text.next()? {
        Next::Number => Ok(scalar::double(text.number()?)?),
        Next::String => Ok(scalar::double_in_string(&text.string()?)?),
        _ => Err(Problem::new(What::Expected("a number"))),
    }
}

const fn zigzag(value: i32) -> u32 {
    ((value << 1) ^ (value >> 31)) as u32
}

const fn wire_type(kind: Kind) -> WireType {
    match kind {
        Kind::Message(_) | Kind::String | Kind::Bytes | Kind::Id => WireType::Bytes,
        Kind::Fixed32 => WireType::Fixed32,
        Kind::Fixed64 | Kind::Sfixed64 | Kind::Double => WireType::Fixed64,
        Kind::Bool | Kind::Int32 | Kind::Uint32 | Kind::Int64 | Kind::Uint64 | Kind::Sint32 | Kind::Enum => {
            WireType::Varint
        }
    }
}

fn expect(text: &mut Text<'_>, wanted: Next, words: &'static str) -> Result<(), Box<Problem>> {
    match text.next()? == wanted {
        true => Ok(()),
        false => Err(Problem::new(What::Expected(words))),
    }
}

#[cfg(test)]
mod tests;
