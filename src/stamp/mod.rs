//! A stamp: resource attributes written into a batch, replacing what the sender put under those keys.
//!
//! It takes a request's bytes and gives a request's bytes; it does no IO, reads no clock and decodes no span.
//! Only the small `Resource` submessages are rewritten (see `resource`); everything else, known or not, stays as it is
//! byte for byte, and where it is if it is long. Field order is never assumed: some senders write back to front.
//! The three signals share the same nesting and field numbers down to the resource, so no signal is asked for.
//!
//! Stamping twice composes: each stamp removes only its own prefixes and writes only its own keys.

pub mod redact;
mod resource;

use std::ops::Range;

use bytes::Bytes;

use crate::otlp::check::Malformed;
use crate::otlp::wire::{self, Fields, WireError, WireType, put_len_delimited, put_len_header, read_varint};
use crate::pieces::{Pieces, PiecesMut, SHARED_FROM};

/// `resource_spans`, `resource_metrics`, `resource_logs` in their request, and `resource` in each of those.
const RESOURCE: u32 = 1;
/// `Resource.attributes`.
const ATTRIBUTES: u32 = 1;

/// What is copied of a group whose items are not: a usual resource, and little else.
const SURROUNDINGS: usize = 1024;

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

    /// Appends the stamped `request` to `out`, which had better have [`Stamp::room`] for it. On an error `out` is as it was.
    ///
    /// # Errors
    /// [`Malformed`] if the request, one of its resource groups or one of their resources is no protobuf message.
    pub fn write(&self, request: &Pieces, out: &mut PiecesMut) -> Result<(), Malformed> {
        let start = out.len();
        let mut written = self.write_fields(request, out);
        if written.is_err() && request.iter().len() > 1 {
            // A stamp's own pieces are cut between fields. Should somebody cut elsewhere, it is read in one piece.
            out.truncate(start);
            written = self.write_fields(&request.to_bytes().into(), out);
        }
        written.map_err(|error| {
            out.truncate(start);
            Malformed(format!("the request could not be read: {error}"))
        })
    }

    fn write_fields(&self, request: &Pieces, out: &mut PiecesMut) -> Result<(), WireError> {
        let mut scratch = Vec::new();
        let mut at = 0;
        while let Some((piece, run)) = request.runs(at..request.len()).next() {
            let rest = &piece[run.clone()];
            if let Some(group) = group(rest)? {
                // Not `at + end > len`: a hostile length near `usize::MAX` would wrap.
                if group.end > request.len() - at {
                    return Err(WireError::Truncated);
                }
                self.write_group(request.runs(at + group.start..at + group.end), &mut scratch, out)?;
                at += group.end;
            } else {
                let field = Fields::new(rest).next().ok_or(WireError::Truncated)??;
                at += field.raw.len();
                out.share(piece, run.start..run.start + field.raw.len());
            }
        }
        Ok(())
    }

    /// Appends one `ResourceSpans`, `ResourceMetrics` or `ResourceLogs`: its resources as a single one, then the rest as it was.
    fn write_group<'a>(
        &self,
        group: impl Iterator<Item = (&'a Bytes, Range<usize>)> + Clone,
        resource: &mut Vec<u8>,
        out: &mut PiecesMut,
    ) -> Result<(), WireError> {
        let mut found = resource::Resource::default();
        let (mut len, mut rest) = (0, 0);
        for (piece, run) in group.clone() {
            len += run.len();
            for field in Fields::new(&piece[run]) {
                let field = field?;
                match (field.number, field.bytes()) {
                    (RESOURCE, Some(bytes)) => found.merge(bytes)?,
                    _ => rest += field.raw.len(),
                }
            }
        }
        resource.clear();
        resource.reserve(len - rest + self.added_len());
        found.write(self, resource);

        // Its tag and length, and the group's, are only known now: they are made behind it and go in front of it.
        let size = resource.len();
        put_len_header(resource, RESOURCE, wire::len_delimited_len(RESOURCE, size) + rest);
        put_len_header(resource, RESOURCE, size);
        let (resource, headers) = resource.split_at(size);
        out.copy(headers);
        out.copy(resource);
        for (piece, run) in group {
            write_rest(piece, run, out)?;
        }
        Ok(())
    }

    /// How many bytes of `request` will be copied, and how many made: rather too many, but for a resource of unusual size.
    pub fn room(&self, request: &Pieces) -> usize {
        let (mut at, mut room) = (0, 0);
        while let Some((piece, run)) = request.runs(at..request.len()).next() {
            let Ok(Some(group)) = group(&piece[run]) else { break };
            room += self.added_len()
                + if group.end < SHARED_FROM {
                    group.end
                } else {
                    SURROUNDINGS
                };
            at = at.saturating_add(group.end);
        }
        room
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

/// The content of the resource group at the start of `bytes`, which may reach beyond them. `None` if something else is there.
fn group(bytes: &[u8]) -> Result<Option<Range<usize>>, WireError> {
    let (tag, tag_len) = read_varint(bytes)?;
    if tag != u64::from(RESOURCE) << 3 | WireType::Bytes as u64 {
        return Ok(None);
    }
    let (length, length_len) = read_varint(&bytes[tag_len..])?;
    let start = tag_len + length_len;
    let end = usize::try_from(length)
        .ok()
        .and_then(|length| start.checked_add(length));
    Ok(Some(start..end.ok_or(WireError::Truncated)?))
}

/// Appends every field of a resource group but its resources, in runs, so that the one long run stays where it is.
fn write_rest(piece: &Bytes, run: Range<usize>, out: &mut PiecesMut) -> Result<(), WireError> {
    let mut fields = Fields::new(&piece[run.clone()]);
    let mut written = run.start;
    while let Some(field) = fields.next() {
        let field = field?;
        if field.number == RESOURCE && field.bytes().is_some() {
            let behind = run.start + fields.position();
            out.share(piece, written..behind - field.raw.len());
            written = behind;
        }
    }
    out.share(piece, written..run.end);
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
