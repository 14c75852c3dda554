//! Whether the bytes of a request may be kept: well-formed all the way down, and with valid ids.
//!
//! What is malformed is refused whole (R17), so that it cannot poison the queue; a span or log record that only has
//! invalid ids is taken out and counted (R7, P6), and the rest stays byte for byte.
//! Nothing is decoded and unknown fields pass. It refuses what common decoders upstream would refuse as well:
//! a known field of another wire type, a string that is not UTF-8, nesting beyond [`MAX_DEPTH`].
//! It does not judge meaning: times, kinds, attribute keys and links are the sender's business.

use bytes::Bytes;

use super::schema::{Field, Kind, Label, Message};
use super::wire::{self, Fields, Value, WireError};
use super::{Batch, Signal};

/// How deep messages may nest below the request; the limit of the usual decoders (C++, Java, Python, prost).
pub const MAX_DEPTH: u32 = 100;

/// What a check found to be fit to keep.
#[derive(Debug)]
pub struct Checked {
    /// The batch without its invalid items; the same bytes if there are none.
    pub batch: Batch,
    /// Items kept: spans, data points or log records.
    pub items: u64,
    /// Items taken out, each with an invalid trace or span id.
    pub rejected: u64,
    /// Why items were taken out, in words for the sender's developer. Empty if none was.
    pub reason: &'static str,
}

/// The bytes are no OTLP request of that signal; the message is for the sender's developer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub String);

/// Checks a request, and takes items with invalid ids out of it.
///
/// # Errors
/// [`Malformed`], with the path to the field, if any part of the request is not what its message type says.
pub fn check(batch: Batch) -> Result<Checked, Malformed> {
    let Batch { signal, bytes } = batch;
    let tally = walk_request(signal, &bytes).map_err(|problem| problem.explain())?;
    let bytes = if tally.rejected == 0 {
        bytes
    } else {
        Bytes::from(without_invalid(signal, &bytes))
    };
    let reason = match (tally.rejected, signal) {
        (0, _) => "",
        (_, Signal::Logs) => LOGS_REASON,
        _ => SPANS_REASON,
    };
    Ok(Checked {
        batch: Batch { signal, bytes },
        items: tally.kept,
        rejected: tally.rejected,
        reason,
    })
}

/// How many items a request that passed [`check`] holds. In bytes that did not, it counts up to the first error.
pub fn count(signal: Signal, bytes: &[u8]) -> u64 {
    children(bytes, RESOURCES)
        .map(|resource| count_in_resource(signal, resource))
        .sum()
}

/// How many items a `ResourceSpans`, `ResourceMetrics` or `ResourceLogs` holds.
pub(super) fn count_in_resource(signal: Signal, resource: &[u8]) -> u64 {
    children(resource, SCOPES)
        .map(|scope| count_in_scope(signal, scope))
        .sum()
}

/// How many items a `ScopeSpans`, `ScopeMetrics` or `ScopeLogs` holds.
pub(super) fn count_in_scope(signal: Signal, scope: &[u8]) -> u64 {
    match signal {
        Signal::Traces | Signal::Logs => children(scope, ITEMS).count() as u64,
        Signal::Metrics => children(scope, ITEMS).map(count_in_metric).sum(),
    }
}

/// How many data points a `Metric` holds.
pub(super) fn count_in_metric(metric: &[u8]) -> u64 {
    let mut points = Points::default();
    for field in Fields::new(metric).map_while(Result::ok) {
        if let (true, Some(data)) = (is_metric_data(field.number), field.bytes()) {
            points.add(field.number, children(data, DATA_POINTS).count() as u64);
        }
    }
    points.count
}

/// The submessages of that field number, up to the first error.
pub(super) fn children(message: &[u8], number: u32) -> impl Iterator<Item = &[u8]> {
    Fields::new(message)
        .map_while(Result::ok)
        .filter(move |field| field.number == number)
        .filter_map(|field| field.bytes())
}

/// Field numbers of the nesting that the three signals share.
pub(super) const RESOURCES: u32 = 1;
pub(super) const SCOPES: u32 = 2;
pub(super) const ITEMS: u32 = 2;
pub(super) const DATA_POINTS: u32 = 1;

/// Whether a field of `Metric` is one of its `data`: gauge, sum, histogram, exponential histogram, summary.
pub(super) const fn is_metric_data(number: u32) -> bool {
    matches!(number, 5 | 7 | 9 | 10 | 11)
}

const SPANS_REASON: &str = "spans without a valid id were refused: trace_id must be 16 bytes and span_id 8 bytes, \
                            neither all zero, and parent_span_id empty or 8 bytes";
const LOGS_REASON: &str =
    "log records with an invalid id were refused: trace_id must be empty or 16 bytes, and span_id empty or 8 bytes";

#[derive(Default)]
struct Tally {
    kept: u64,
    rejected: u64,
}

/// Counts the data points of one metric: `data` is a `oneof`, so a later member replaces an earlier one,
/// and occurrences of the same member are merged.
#[derive(Default)]
struct Points {
    member: u32,
    count: u64,
}

/// What is wrong, and where; boxed, so that the way of success stays narrow.
struct Problem {
    what: What,
    /// JSON names of fields, innermost first.
    path: Vec<&'static str>,
}

enum What {
    Wire(WireError),
    WireType,
    Utf8,
    Depth,
}

impl Points {
    fn add(&mut self, member: u32, count: u64) {
        if self.member != member {
            *self = Points { member, count: 0 };
        }
        self.count += count;
    }
}

// === impl Problem ===

impl Problem {
    #[cold]
    fn new(what: What) -> Box<Problem> {
        Box::new(Problem { what, path: Vec::new() })
    }

    #[cold]
    fn within(mut self: Box<Self>, field: &Field) -> Box<Problem> {
        self.path.push(field.json);
        self
    }

    fn explain(&self) -> Malformed {
        let what = match &self.what {
            What::Wire(error) => error.to_string(),
            What::WireType => "the field has another wire type than OTLP gives it".to_owned(),
            What::Utf8 => "the string is not UTF-8".to_owned(),
            What::Depth => format!("messages nest deeper than {MAX_DEPTH} levels"),
        };
        // The outermost dozen is enough to find it; a deep nest would make a long line.
        let path: Vec<&str> = self.path.iter().rev().take(12).copied().collect();
        match path.is_empty() {
            true => Malformed(format!("not an OTLP request: {what}")),
            false => Malformed(format!("not an OTLP request: {}: {what}", path.join("."))),
        }
    }
}

impl From<WireError> for Box<Problem> {
    #[cold]
    fn from(error: WireError) -> Self {
        Problem::new(What::Wire(error))
    }
}

// === the walk ===

fn walk_request(signal: Signal, request: &[u8]) -> Result<Tally, Box<Problem>> {
    let mut tally = Tally::default();
    let message = Message::request(signal);
    each_field(request, message, RESOURCES, 0, |resource| {
        let message = message.child(RESOURCES);
        each_field(resource, message, SCOPES, 1, |scope| {
            let message = message.child(SCOPES);
            let item = message.child(ITEMS);
            each_field(scope, message, ITEMS, 2, |bytes| {
                match signal {
                    Signal::Traces if !walk_span(item, bytes)? => tally.rejected += 1,
                    Signal::Logs if !walk_log_record(item, bytes)? => tally.rejected += 1,
                    Signal::Traces | Signal::Logs => tally.kept += 1,
                    Signal::Metrics => tally.kept += walk_metric(item, bytes)?,
                }
                Ok(())
            })
        })
    })?;
    Ok(tally)
}

/// Walks one message: hands the submessages of field `number` to `visit`, and validates all other known fields.
#[inline(always)]
fn each_field<'a>(
    bytes: &'a [u8],
    message: &'static Message,
    number: u32,
    depth: u32,
    mut visit: impl FnMut(&'a [u8]) -> Result<(), Box<Problem>>,
) -> Result<(), Box<Problem>> {
    for field in Fields::new(bytes) {
        let field = field?;
        let Some(known) = message.field(field.number) else {
            continue;
        };
        let outcome = match (field.number == number, field.value) {
            (true, Value::Bytes(child)) => visit(child),
            (_, value) => validate(known, value, depth),
        };
        outcome.map_err(|problem| problem.within(known))?;
    }
    Ok(())
}

/// Whether the span's ids are valid (P6): the last occurrence counts, as it does for a decoder.
fn walk_span(message: &'static Message, span: &[u8]) -> Result<bool, Box<Problem>> {
    let (mut trace_id, mut span_id, mut parent) = (&[][..], &[][..], &[][..]);
    for field in Fields::new(span) {
        let field = field?;
        match (field.number, field.value) {
            (1, Value::Bytes(id)) => trace_id = id,
            (2, Value::Bytes(id)) => span_id = id,
            (4, Value::Bytes(id)) => parent = id,
            (9, Value::Bytes(attribute)) if is_plain_attribute(attribute) => {}
            (_, value) => validate_in(message, field.number, value, 3)?,
        }
    }
    Ok(is_id::<16>(trace_id) && is_id::<8>(span_id) && matches!(parent.len(), 0 | 8))
}

/// Whether the log record's ids may be kept: absent (or all zero, which means absent), or of the right length.
fn walk_log_record(message: &'static Message, record: &[u8]) -> Result<bool, Box<Problem>> {
    let (mut trace_id, mut span_id) = (0, 0);
    for field in Fields::new(record) {
        let field = field?;
        match (field.number, field.value) {
            (9, Value::Bytes(id)) => trace_id = id.len(),
            (10, Value::Bytes(id)) => span_id = id.len(),
            (_, value) => validate_in(message, field.number, value, 3)?,
        }
    }
    Ok(matches!(trace_id, 0 | 16) && matches!(span_id, 0 | 8))
}

/// How many data points the metric holds.
fn walk_metric(message: &'static Message, metric: &[u8]) -> Result<u64, Box<Problem>> {
    let mut points = Points::default();
    for field in Fields::new(metric) {
        let field = field?;
        match field.value {
            Value::Bytes(data) if is_metric_data(field.number) => {
                let data_message = message.child(field.number);
                let point = data_message.child(DATA_POINTS);
                let mut count = 0;
                each_field(data, data_message, DATA_POINTS, 4, |bytes| {
                    count += 1;
                    walk(point, bytes, 5)
                })
                .map_err(|problem| match message.field(field.number) {
                    Some(known) => problem.within(known),
                    None => problem,
                })?;
                points.add(field.number, count);
            }
            value => validate_in(message, field.number, value, 3)?,
        }
    }
    Ok(points.count)
}

/// Validates a message and all below it.
fn walk(message: &'static Message, bytes: &[u8], depth: u32) -> Result<(), Box<Problem>> {
    if depth > MAX_DEPTH {
        return Err(Problem::new(What::Depth));
    }
    for field in Fields::new(bytes) {
        let field = field?;
        validate_in(message, field.number, field.value, depth)?;
    }
    Ok(())
}

#[inline(always)]
fn validate_in(message: &'static Message, number: u32, value: Value<'_>, depth: u32) -> Result<(), Box<Problem>> {
    match message.field(number) {
        Some(known) => validate(known, value, depth).map_err(|problem| problem.within(known)),
        None => Ok(()),
    }
}

/// Validates one known field of a message at `depth`.
#[inline(always)]
fn validate(field: &Field, value: Value<'_>, depth: u32) -> Result<(), Box<Problem>> {
    match (field.kind, value) {
        (Kind::Message(message), Value::Bytes(bytes)) => {
            if message.is_key_value() && depth + 2 <= MAX_DEPTH && is_plain_attribute(bytes) {
                return Ok(());
            }
            walk(message, bytes, depth + 1)
        }
        (Kind::String, Value::Bytes(bytes)) => match is_utf8(bytes) {
            true => Ok(()),
            false => Err(Problem::new(What::Utf8)),
        },
        (Kind::Bytes | Kind::Id, Value::Bytes(_))
        | (Kind::Fixed32, Value::Fixed32(_))
        | (Kind::Fixed64 | Kind::Sfixed64 | Kind::Double, Value::Fixed64(_))
        | (
            Kind::Bool | Kind::Int32 | Kind::Uint32 | Kind::Int64 | Kind::Uint64 | Kind::Sint32 | Kind::Enum,
            Value::Varint(_),
        ) => Ok(()),
        (kind, Value::Bytes(packed)) if field.label == Label::Repeated => validate_packed(kind, packed),
        _ => Err(Problem::new(What::WireType)),
    }
}

/// Whether a `KeyValue` is written as nearly all are: a short key in ASCII, then a value with a short string in ASCII or
/// with a number. Of a span most fields are in its attributes, and this settles four of them at once. `false` says nothing.
#[inline(always)]
fn is_plain_attribute(bytes: &[u8]) -> bool {
    const KEY: u8 = 0x0a;
    const VALUE: u8 = 0x12;
    const STRING_VALUE: u8 = 0x0a;
    const BOOL_VALUE: u8 = 0x10;
    const INT_VALUE: u8 = 0x18;
    const DOUBLE_VALUE: u8 = 0x21;
    let [KEY, key_length, rest @ ..] = bytes else {
        return false;
    };
    let Some((key, [VALUE, value_length, kind, content @ ..])) = rest.split_at_checked(usize::from(*key_length)) else {
        return false;
    };
    // A length of two bytes has its high bit set, and so is not ASCII.
    let fits = usize::from(*value_length) == content.len() + 1;
    match (*kind, content) {
        (STRING_VALUE, [length, string @ ..]) => fits && usize::from(*length) == string.len() && is_ascii(bytes),
        (BOOL_VALUE | INT_VALUE, varint) => fits && is_varint(varint) && key_length.is_ascii() && is_ascii(key),
        (DOUBLE_VALUE, double) => fits && double.len() == 8 && key_length.is_ascii() && is_ascii(key),
        _ => false,
    }
}

/// Whether these bytes are one varint of at most 63 bits.
#[inline(always)]
fn is_varint(bytes: &[u8]) -> bool {
    let Some((last, others)) = bytes.split_last() else {
        return false;
    };
    last.is_ascii() && others.len() < 9 && !others.iter().any(u8::is_ascii)
}

fn validate_packed(kind: Kind, mut packed: &[u8]) -> Result<(), Box<Problem>> {
    let width = match kind {
        Kind::Fixed64 | Kind::Sfixed64 | Kind::Double => 8,
        Kind::Fixed32 => 4,
        _ => {
            while !packed.is_empty() {
                let (_, length) = wire::read_varint(packed)?;
                packed = &packed[length..];
            }
            return Ok(());
        }
    };
    match packed.len() % width {
        0 => Ok(()),
        _ => Err(WireError::Truncated.into()),
    }
}

#[inline(always)]
fn is_utf8(bytes: &[u8]) -> bool {
    // Most strings are short ASCII, for which this test is several times cheaper than the decoder's.
    is_ascii(bytes) || std::str::from_utf8(bytes).is_ok()
}

/// The standard library's looks at what is left over byte by byte, and of short strings that is most.
#[inline(always)]
fn is_ascii(bytes: &[u8]) -> bool {
    const HIGH_BITS: u64 = 0x8080_8080_8080_8080;
    let bits = match (bytes.as_chunks(), bytes.last_chunk()) {
        // The last word overlaps the one before it.
        ((words, _), Some(last)) => words
            .iter()
            .fold(u64::from_ne_bytes(*last), |bits, word| bits | u64::from_ne_bytes(*word)),
        ((_, rest), None) => rest.iter().fold(0, |bits, byte| bits | u64::from(*byte)),
    };
    bits & HIGH_BITS == 0
}

#[inline(always)]
fn is_id<const LENGTH: usize>(id: &[u8]) -> bool {
    <&[u8; LENGTH]>::try_from(id).is_ok_and(|id| *id != [0; LENGTH])
}

// === taking items out ===

/// The request, which passed the walk, without its invalid items and without the envelopes that this empties.
fn without_invalid(signal: Signal, request: &[u8]) -> Vec<u8> {
    let message = Message::request(signal).child(RESOURCES).child(SCOPES).child(ITEMS);
    let valid = |item: &[u8]| match signal {
        Signal::Traces => walk_span(message, item).unwrap_or(false),
        Signal::Logs => walk_log_record(message, item).unwrap_or(false),
        Signal::Metrics => true,
    };
    rewrite(request, RESOURCES, |resource, out| {
        let rewritten = rewrite(resource, SCOPES, |scope, out| {
            let rewritten = rewrite(scope, ITEMS, |item, out| {
                if valid(item) {
                    wire::put_len_delimited(out, ITEMS, item);
                }
            });
            put_unless_emptied(out, SCOPES, scope, &rewritten, ITEMS);
        });
        put_unless_emptied(out, RESOURCES, resource, &rewritten, SCOPES);
    })
}

/// Copies a message, but lets `child` write the fields of that number.
fn rewrite(message: &[u8], number: u32, mut child: impl FnMut(&[u8], &mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len());
    for field in Fields::new(message).map_while(Result::ok) {
        match field.bytes() {
            Some(bytes) if field.number == number => child(bytes, &mut out),
            _ => out.extend_from_slice(field.raw),
        }
    }
    out
}

/// An envelope that was sent empty stays; one that lost all its children goes with them (E15).
fn put_unless_emptied(out: &mut Vec<u8>, number: u32, before: &[u8], after: &[u8], child: u32) {
    if children(before, child).next().is_none() || children(after, child).next().is_some() {
        wire::put_len_delimited(out, number, after);
    }
}

#[cfg(test)]
mod tests;
