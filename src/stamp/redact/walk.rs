//! A request, walked field by field along the strings and bytes that we know, with the secrets in them replaced.
//!
//! Only the strings and bytes of the schema are looked into (ids and numbers are not); every other field, known or
//! not, is copied as it is. A message in which nothing is replaced is not rebuilt, and the lengths of those
//! around a replaced string are written anew. Field order is never assumed.
//!
//! What cannot be read cannot be searched, so it is not kept: bytes that turn out to be no protobuf are cut off, and a
//! value nested deeper than [`DEEPEST`] is replaced. The check before the redaction lets neither through.

use std::borrow::Cow;

use super::REDACTED;
use super::prefilter::Prefilter;
use super::rules::{self, Compiled, Rules, Secret};
use crate::otlp::Signal;
use crate::otlp::schema::{Kind, Message};
use crate::otlp::wire::{Field, Fields, put_len_delimited};

/// Messages inside of one another: as many as the check lets through.
const DEEPEST: u32 = crate::otlp::check::MAX_DEPTH;

/// `ArrayValue.values`.
const VALUES: u32 = 1;
/// `KeyValue.key` and `KeyValue.value`.
const KEY_FIELD: u32 = 1;
const VALUE_FIELD: u32 = 2;
/// `AnyValue.string_value`, `bool_value`, `int_value`, `double_value`.
const STRING_VALUE: u32 = 1;
const BOOL_VALUE: u32 = 2;
const INT_VALUE: u32 = 3;
const DOUBLE_VALUE: u32 = 4;

/// The request with its secrets replaced and how many were; `None` if there were none.
pub(super) fn request(signal: Signal, bytes: &[u8], prefilter: &Prefilter, rules: &Rules) -> (Option<Vec<u8>>, u64) {
    let mut walk = Walk {
        prefilter,
        rules,
        replaced: 0,
    };
    match walk.message(bytes, Message::request(signal), 0) {
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
    fn message<'a>(&mut self, message: &'a [u8], schema: &'static Message, depth: u32) -> Cow<'a, [u8]> {
        let mut rebuilt = Rebuilt::new(message);
        let mut fields = Fields::new(message);
        loop {
            let before = fields.position();
            match fields.next() {
                None => return rebuilt.finish(message.len()),
                Some(Ok(field)) => {
                    let known = schema.field(field.number);
                    if let (Some(known), Some(bytes)) = (known, field.bytes())
                        && let Cow::Owned(content) = self.inside(known.kind, bytes, depth + 1)
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

    fn inside<'a>(&mut self, kind: Kind, bytes: &'a [u8], depth: u32) -> Cow<'a, [u8]> {
        match kind {
            Kind::String | Kind::Bytes => self.text(bytes),
            Kind::Message(_) if depth > DEEPEST => {
                self.replaced += 1;
                Cow::Owned(Vec::new())
            }
            Kind::Message(schema) if schema.is_key_value() => self.attribute(bytes, schema, depth),
            Kind::Message(schema) if schema.is_array_value() => match self.arguments(bytes) {
                Cow::Borrowed(bytes) => self.message(bytes, schema, depth),
                Cow::Owned(bytes) => Cow::Owned(self.message(&bytes, schema, depth).into_owned()),
            },
            Kind::Message(schema) => self.message(bytes, schema, depth),
            // Ids and packed numbers.
            _ => Cow::Borrowed(bytes),
        }
    }

    /// The built-in patterns, which are many, run only where one may match; a text that one of the user's patterns
    /// makes us look at is looked at for that one.
    fn text<'a>(&mut self, text: &'a [u8]) -> Cow<'a, [u8]> {
        let mut text = Cow::Borrowed(text);
        if self.prefilter.hits_built_in(&text) {
            self.replace(&self.rules.built_in, &mut text);
        }
        if self.prefilter.hits_users(&text) {
            self.replace(&self.rules.users, &mut text);
        }
        text
    }

    fn replace(&mut self, patterns: &[Compiled], text: &mut Cow<[u8]>) {
        if let (Cow::Owned(replaced), count) = rules::replace(patterns, text) {
            *text = Cow::Owned(replaced);
            self.replaced += count;
        }
    }

    fn attribute<'a>(&mut self, key_value: &'a [u8], schema: &'static Message, depth: u32) -> Cow<'a, [u8]> {
        let fields: Result<Vec<Field>, _> = Fields::new(key_value).collect();
        let Ok(fields) = fields else {
            return self.message(key_value, schema, depth);
        };
        // The last one counts, as for every decoder.
        let key = fields.iter().rfind(|field| field.number == KEY_FIELD);
        let key = key.and_then(Field::bytes).unwrap_or_default();
        let secret = self.rules.secret_by_key(key);
        if !secret.is_some_and(|secret| fields.iter().any(|field| holds(field, secret))) {
            return self.message(key_value, schema, depth);
        }
        self.replaced += 1;
        let mut out = Vec::with_capacity(key_value.len());
        for field in fields.iter().filter(|field| field.number != VALUE_FIELD) {
            match field.bytes() {
                Some(key) if field.number == KEY_FIELD => put_len_delimited(&mut out, KEY_FIELD, &self.text(key)),
                _ => out.extend_from_slice(field.raw),
            }
        }
        put_len_delimited(&mut out, VALUE_FIELD, &redacted());
        Cow::Owned(out)
    }

    /// A list, which may be a command's arguments, with those replaced that stand behind an option that names a secret.
    fn arguments<'a>(&mut self, list: &'a [u8]) -> Cow<'a, [u8]> {
        let mut rebuilt = Rebuilt::new(list);
        let mut fields = Fields::new(list);
        let mut is_named = false;
        loop {
            let start = fields.position();
            let Some(Ok(field)) = fields.next() else {
                return rebuilt.finish(list.len());
            };
            let Some(any_value) = field.bytes().filter(|_| field.number == VALUES) else {
                continue;
            };
            if is_named && is_secret(any_value, Secret::Any) {
                self.replaced += 1;
                rebuilt.replace(&field, start, &redacted());
            }
            let mut inside = Fields::new(any_value).map_while(Result::ok);
            let text = inside.find(|field| field.number == STRING_VALUE);
            let text = text.and_then(|field| field.bytes()).unwrap_or_default();
            is_named = self.rules.is_option(text);
        }
    }
}

/// Whether the field is a `KeyValue.value` that holds what a key of this kind makes a secret.
fn holds(value: &Field, secret: Secret) -> bool {
    let any_value = value.bytes().filter(|_| value.number == VALUE_FIELD);
    any_value.is_some_and(|any_value| is_secret(any_value, secret))
}

/// Whether an `AnyValue` is what a name of this kind makes a secret.
/// Nothing, an empty string and what has been replaced before are none.
fn is_secret(any_value: &[u8], secret: Secret) -> bool {
    Fields::new(any_value).any(|field| match field {
        Ok(field) => match field.number {
            BOOL_VALUE => false,
            INT_VALUE | DOUBLE_VALUE => secret == Secret::Any,
            _ => !matches!(field.bytes(), Some(bytes) if bytes.is_empty() || bytes == REDACTED.as_bytes()),
        },
        Err(_) => true,
    })
}

/// The `AnyValue` that stands where a secret was.
fn redacted() -> Vec<u8> {
    let mut any_value = Vec::new();
    put_len_delimited(&mut any_value, STRING_VALUE, REDACTED.as_bytes());
    any_value
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
