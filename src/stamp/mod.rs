//! A stamp: resource attributes written into a batch, replacing what the sender put under those keys.
//!
//! It takes a request's bytes and gives a request's bytes; it does no IO, reads no clock and decodes no span.
//! Only the small `Resource` submessages are rewritten (see [`resource`]); everything else, known or not, is copied
//! byte for byte. Field order is never assumed: some senders write back to front.
//! The three signals share the same nesting and field numbers down to the resource, so no signal is asked for.
//!
//! Stamping twice composes: each stamp removes only its own prefixes and writes only its own keys.

pub mod redact;
mod resource;

use crate::otlp::check::Malformed;
use crate::otlp::wire::{self, Fields, WireError, put_len_delimited, put_len_header};

/// `resource_spans`, `resource_metrics`, `resource_logs` in their request, and `resource` in each of those.
const RESOURCE: u32 = 1;
/// `Resource.attributes`.
const ATTRIBUTES: u32 = 1;

/// What to write into every resource of a batch.
#[derive(Clone, Debug, Default)]
pub struct Stamp {
    remove: Vec<&'static str>,
    set: Vec<Attribute>,
    absent: Vec<Attribute>,
}

/// One string attribute, encoded once so that stamping only copies.
#[derive(Clone, Debug)]
struct Attribute {
    key: String,
    /// The `KeyValue` message.
    key_value: Vec<u8>,
    /// The same as a whole field of `Resource`, tag and length included.
    field: Vec<u8>,
}

// === impl Stamp ===

impl Stamp {
    /// `remove`: prefixes of keys that are taken out whoever wrote them (`"user."`).
    /// `set`: written, replacing what is there. `absent`: written only where the key is not there.
    ///
    /// A key that is given twice in one list keeps its last value; a key in both lists is set.
    pub fn new(remove: Vec<&'static str>, set: Vec<(String, String)>, absent: Vec<(String, String)>) -> Stamp {
        let set = attributes(set);
        let mut absent = attributes(absent);
        absent.retain(|wanted| set.iter().all(|other| other.key != wanted.key));
        Stamp { remove, set, absent }
    }

    /// Appends the stamped `request` to `out`. On an error `out` is as it was.
    ///
    /// # Errors
    /// [`Malformed`] if the request, one of its resource groups or one of their resources is no protobuf message.
    pub fn write(&self, request: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
        let start = out.len();
        out.reserve(request.len() + self.added_len());
        self.write_fields(request, out).map_err(|error| {
            out.truncate(start);
            Malformed(format!("the request could not be read: {error}"))
        })
    }

    fn write_fields(&self, request: &[u8], out: &mut Vec<u8>) -> Result<(), WireError> {
        let mut scratch = Vec::new();
        for field in Fields::new(request) {
            let field = field?;
            match field.bytes() {
                Some(group) if field.number == RESOURCE => self.write_group(group, &mut scratch, out)?,
                _ => out.extend_from_slice(field.raw),
            }
        }
        Ok(())
    }

    /// Appends one `ResourceSpans`, `ResourceMetrics` or `ResourceLogs`: its resources as a single one, then the rest as it was.
    fn write_group(&self, group: &[u8], resource: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<(), WireError> {
        let mut found = resource::Resource::default();
        let mut rest = group.len();
        for field in Fields::new(group) {
            let field = field?;
            if let (RESOURCE, Some(bytes)) = (field.number, field.bytes()) {
                found.merge(bytes)?;
                rest -= field.raw.len();
            }
        }
        resource.clear();
        resource.reserve(group.len() - rest + self.added_len());
        found.write(self, resource);

        let length = wire::len_delimited_len(RESOURCE, resource.len()) + rest;
        put_len_header(out, RESOURCE, length);
        put_len_delimited(out, RESOURCE, resource);
        copy_rest(group, out)
    }

    /// How much a request with one resource can grow by.
    fn added_len(&self) -> usize {
        let attributes = self.set.iter().chain(&self.absent);
        // 64: room for longer length prefixes and a resource where there was none.
        64 + attributes.map(|attribute| attribute.field.len()).sum::<usize>()
    }

    /// Whether an attribute that a sender wrote under `key` is taken out (it may be set again).
    fn takes_out(&self, key: &[u8]) -> bool {
        self.remove.iter().any(|prefix| key.starts_with(prefix.as_bytes())) || self.sets(key).is_some()
    }

    fn sets(&self, key: &[u8]) -> Option<&Attribute> {
        self.set.iter().find(|attribute| attribute.key.as_bytes() == key)
    }
}

/// Copies every field of a resource group but its resources, in runs, so that the one large run is one copy.
fn copy_rest(group: &[u8], out: &mut Vec<u8>) -> Result<(), WireError> {
    let mut fields = Fields::new(group);
    let mut copied = 0;
    while let Some(field) = fields.next() {
        let field = field?;
        if field.number == RESOURCE && field.bytes().is_some() {
            out.extend_from_slice(&group[copied..fields.position() - field.raw.len()]);
            copied = fields.position();
        }
    }
    out.extend_from_slice(&group[copied..]);
    Ok(())
}

/// Encodes each pair; of pairs with the same key the last value stays, in the first one's place.
fn attributes(pairs: Vec<(String, String)>) -> Vec<Attribute> {
    let mut attributes: Vec<Attribute> = Vec::with_capacity(pairs.len());
    for (key, value) in pairs {
        let attribute = Attribute::new(key, &value);
        match attributes.iter_mut().find(|other| other.key == attribute.key) {
            Some(other) => *other = attribute,
            None => attributes.push(attribute),
        }
    }
    attributes
}

// === impl Attribute ===

impl Attribute {
    fn new(key: String, value: &str) -> Attribute {
        let mut any_value = Vec::new();
        put_len_delimited(&mut any_value, 1, value.as_bytes());
        let mut key_value = Vec::new();
        put_len_delimited(&mut key_value, 1, key.as_bytes());
        put_len_delimited(&mut key_value, 2, &any_value);
        let mut field = Vec::new();
        put_len_delimited(&mut field, ATTRIBUTES, &key_value);
        Attribute { key, key_value, field }
    }
}

#[cfg(test)]
mod tests;
