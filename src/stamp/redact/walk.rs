//! A request, walked field by field along the strings and bytes that we know, with the secrets in them replaced.
//!
//! The schema is a table of messages, of which only the fields that can hold text are listed; every other field,
//! known or not, is copied as it is. A message in which nothing is replaced is not rebuilt, and the lengths of those
//! around a replaced string are written anew. Field order is never assumed.
//!
//! What cannot be read cannot be searched, so it is not kept: bytes that turn out to be no protobuf are cut off, and a
//! value nested deeper than [`DEEPEST`] is replaced. The check before the redaction lets neither through.

use std::borrow::Cow;

use super::REDACTED;
use super::prefilter::Prefilter;
use super::rules::{Rules, Secret};
use crate::otlp::Signal;
use crate::otlp::wire::{Field, Fields, put_len_delimited};

/// Messages inside of one another; protobuf's own decoders stop at this many.
const DEEPEST: usize = 100;

/// A message: its fields that can hold text.
struct Message(&'static [(u32, Inside)]);

/// What a field holds.
#[derive(Clone, Copy)]
enum Inside {
    Message(&'static Message),
    /// A `KeyValue`, whose key may make a secret of its value.
    Attribute,
    /// An `AnyValue`.
    Value,
    /// A string or bytes.
    Text,
}

use Inside::{Attribute, Text, Value};

/// `KeyValue.key` and `KeyValue.value`.
const KEY_FIELD: u32 = 1;
const VALUE_FIELD: u32 = 2;
/// `AnyValue.string_value`, `bool_value`, `int_value`, `double_value`.
const STRING_VALUE: u32 = 1;
const BOOL_VALUE: u32 = 2;
const INT_VALUE: u32 = 3;
const DOUBLE_VALUE: u32 = 4;

// The messages of opentelemetry/proto, by file.

// common/v1
static ANY_VALUE: Message = Message(&[
    (1, Text),
    (5, Inside::Message(&ARRAY_VALUE)),
    (6, Inside::Message(&ATTRIBUTES_AS_1)),
    (7, Text),
]);
static ARRAY_VALUE: Message = Message(&[(1, Value)]);
static KEY_VALUE: Message = Message(&[(KEY_FIELD, Text), (VALUE_FIELD, Value)]);
static SCOPE: Message = Message(&[(1, Text), (2, Text), (3, Attribute)]);
/// `KeyValueList`, and `Resource`, whose other fields hold keys only.
static ATTRIBUTES_AS_1: Message = Message(&[(1, Attribute)]);

// trace/v1
static TRACES: Message = Message(&[(1, Inside::Message(&RESOURCE_SPANS))]);
static RESOURCE_SPANS: Message = Message(&[
    (1, Inside::Message(&ATTRIBUTES_AS_1)),
    (2, Inside::Message(&SCOPE_SPANS)),
    (3, Text),
]);
static SCOPE_SPANS: Message = Message(&[(1, Inside::Message(&SCOPE)), (2, Inside::Message(&SPAN)), (3, Text)]);
static SPAN: Message = Message(&[
    (3, Text),
    (5, Text),
    (9, Attribute),
    (11, Inside::Message(&EVENT)),
    (13, Inside::Message(&LINK)),
    (15, Inside::Message(&STATUS)),
]);
static EVENT: Message = Message(&[(2, Text), (3, Attribute)]);
static LINK: Message = Message(&[(3, Text), (4, Attribute)]);
static STATUS: Message = Message(&[(2, Text)]);

// logs/v1
static LOGS: Message = Message(&[(1, Inside::Message(&RESOURCE_LOGS))]);
static RESOURCE_LOGS: Message = Message(&[
    (1, Inside::Message(&ATTRIBUTES_AS_1)),
    (2, Inside::Message(&SCOPE_LOGS)),
    (3, Text),
]);
static SCOPE_LOGS: Message = Message(&[
    (1, Inside::Message(&SCOPE)),
    (2, Inside::Message(&LOG_RECORD)),
    (3, Text),
]);
static LOG_RECORD: Message = Message(&[(3, Text), (5, Value), (6, Attribute), (12, Text)]);

// metrics/v1
static METRICS: Message = Message(&[(1, Inside::Message(&RESOURCE_METRICS))]);
static RESOURCE_METRICS: Message = Message(&[
    (1, Inside::Message(&ATTRIBUTES_AS_1)),
    (2, Inside::Message(&SCOPE_METRICS)),
    (3, Text),
]);
static SCOPE_METRICS: Message = Message(&[(1, Inside::Message(&SCOPE)), (2, Inside::Message(&METRIC)), (3, Text)]);
static METRIC: Message = Message(&[
    (1, Text),
    (2, Text),
    (3, Text),
    (5, Inside::Message(&NUMBERS)),
    (7, Inside::Message(&NUMBERS)),
    (9, Inside::Message(&HISTOGRAM)),
    (10, Inside::Message(&EXPONENTIAL_HISTOGRAM)),
    (11, Inside::Message(&SUMMARY)),
    (12, Attribute),
]);
/// `Gauge` and `Sum`.
static NUMBERS: Message = Message(&[(1, Inside::Message(&NUMBER_POINT))]);
static HISTOGRAM: Message = Message(&[(1, Inside::Message(&HISTOGRAM_POINT))]);
static EXPONENTIAL_HISTOGRAM: Message = Message(&[(1, Inside::Message(&EXPONENTIAL_HISTOGRAM_POINT))]);
static SUMMARY: Message = Message(&[(1, Inside::Message(&SUMMARY_POINT))]);
static NUMBER_POINT: Message = Message(&[(5, Inside::Message(&EXEMPLAR)), (7, Attribute)]);
static HISTOGRAM_POINT: Message = Message(&[(8, Inside::Message(&EXEMPLAR)), (9, Attribute)]);
static EXPONENTIAL_HISTOGRAM_POINT: Message = Message(&[(1, Attribute), (11, Inside::Message(&EXEMPLAR))]);
static SUMMARY_POINT: Message = Message(&[(7, Attribute)]);
static EXEMPLAR: Message = Message(&[(7, Attribute)]);

/// The request with its secrets replaced and how many were; `None` if there were none.
pub(super) fn request(signal: Signal, bytes: &[u8], prefilter: &Prefilter, rules: &Rules) -> (Option<Vec<u8>>, u64) {
    let mut walk = Walk {
        prefilter,
        rules,
        replaced: 0,
    };
    let schema = match signal {
        Signal::Traces => &TRACES,
        Signal::Metrics => &METRICS,
        Signal::Logs => &LOGS,
    };
    match walk.message(bytes, schema, 0) {
        Cow::Owned(bytes) => (Some(bytes), walk.replaced),
        Cow::Borrowed(_) => (None, 0),
    }
}

/// One walk through one request.
struct Walk<'r> {
    prefilter: &'r Prefilter,
    rules: &'r Rules,
    /// How many secrets were replaced so far.
    replaced: u64,
}

impl Walk<'_> {
    fn message<'a>(&mut self, message: &'a [u8], schema: &'static Message, depth: usize) -> Cow<'a, [u8]> {
        let mut rebuilt = Rebuilt::new(message);
        let mut fields = Fields::new(message);
        loop {
            let before = fields.position();
            match fields.next() {
                None => return rebuilt.finish(message.len()),
                Some(Ok(field)) => {
                    let inside = schema.0.iter().find(|(number, _)| *number == field.number);
                    if let (Some((_, inside)), Some(bytes)) = (inside, field.bytes())
                        && let Cow::Owned(content) = self.inside(*inside, bytes, depth + 1)
                    {
                        rebuilt.replace(&field, before, &content);
                    }
                }
                Some(Err(_)) => {
                    self.replaced += 1;
                    return rebuilt.cut(before);
                }
            }
        }
    }

    fn inside<'a>(&mut self, inside: Inside, bytes: &'a [u8], depth: usize) -> Cow<'a, [u8]> {
        match inside {
            Text => self.text(bytes),
            _ if depth > DEEPEST => {
                self.replaced += 1;
                Cow::Owned(Vec::new())
            }
            Attribute => self.attribute(bytes, depth),
            Value => self.message(bytes, &ANY_VALUE, depth),
            Inside::Message(schema) => self.message(bytes, schema, depth),
        }
    }

    fn text<'a>(&mut self, text: &'a [u8]) -> Cow<'a, [u8]> {
        if !self.prefilter.hits(text) {
            return Cow::Borrowed(text);
        }
        let (text, count) = self.rules.replace(text);
        self.replaced += count;
        text
    }

    fn attribute<'a>(&mut self, key_value: &'a [u8], depth: usize) -> Cow<'a, [u8]> {
        let fields: Result<Vec<Field>, _> = Fields::new(key_value).collect();
        let Ok(fields) = fields else {
            return self.message(key_value, &KEY_VALUE, depth);
        };
        // The last one counts, as for every decoder.
        let key = fields.iter().rfind(|field| field.number == KEY_FIELD);
        let key = key.and_then(Field::bytes).unwrap_or_default();
        let secret = self.rules.secret_by_key(key);
        if !secret.is_some_and(|secret| fields.iter().any(|field| holds(field, secret))) {
            return self.message(key_value, &KEY_VALUE, depth);
        }
        self.replaced += 1;
        let mut out = Vec::with_capacity(key_value.len());
        for field in fields.iter().filter(|field| field.number != VALUE_FIELD) {
            match field.bytes() {
                Some(key) if field.number == KEY_FIELD => put_len_delimited(&mut out, KEY_FIELD, &self.text(key)),
                _ => out.extend_from_slice(field.raw),
            }
        }
        let mut value = Vec::new();
        put_len_delimited(&mut value, STRING_VALUE, REDACTED.as_bytes());
        put_len_delimited(&mut out, VALUE_FIELD, &value);
        Cow::Owned(out)
    }
}

/// Whether the field is a `KeyValue.value` that holds what a key of this kind makes a secret.
/// Nothing, an empty string and what has been replaced before are none.
fn holds(value: &Field, secret: Secret) -> bool {
    let Some(any_value) = value.bytes().filter(|_| value.number == VALUE_FIELD) else {
        return false;
    };
    Fields::new(any_value).any(|field| match field {
        Ok(field) => match field.number {
            BOOL_VALUE => false,
            INT_VALUE | DOUBLE_VALUE => secret == Secret::Any,
            _ => !matches!(field.bytes(), Some(bytes) if bytes.is_empty() || bytes == REDACTED.as_bytes()),
        },
        Err(_) => true,
    })
}

/// A message that is copied only once something in it changes.
struct Rebuilt<'a> {
    message: &'a [u8],
    out: Vec<u8>,
    /// How much of `message` is in `out` already.
    copied: usize,
}

impl<'a> Rebuilt<'a> {
    const fn new(message: &'a [u8]) -> Rebuilt<'a> {
        Rebuilt {
            message,
            out: Vec::new(),
            copied: 0,
        }
    }

    /// Writes `content` in the place of the one of `field`, which starts at `start`.
    fn replace(&mut self, field: &Field, start: usize, content: &[u8]) {
        self.out.extend_from_slice(&self.message[self.copied..start]);
        put_len_delimited(&mut self.out, field.number, content);
        self.copied = start + field.raw.len();
    }

    /// Everything up to `end`.
    fn cut(mut self, end: usize) -> Cow<'a, [u8]> {
        self.out.extend_from_slice(&self.message[self.copied..end]);
        Cow::Owned(self.out)
    }

    fn finish(self, end: usize) -> Cow<'a, [u8]> {
        // A field takes a byte at least, so whatever was replaced moved `copied`.
        if self.copied == 0 {
            return Cow::Borrowed(self.message);
        }
        self.cut(end)
    }
}
