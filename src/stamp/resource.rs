//! One `Resource`, as the sender wrote it in however many pieces, and as it is written back.
//!
//! Attribute keys of a resource must be unique (resource.proto), and a decoder that meets `resource` twice merges the
//! two, so all occurrences are read as one. Of attributes with the same key the last one stays, in the first one's place.
//! Values are never looked into, and fields that this crate does not know are kept.
//!
//! Every key that an `entity_ref` names must exist (resource.proto), and a loose attribute that replaces one of an
//! entity's own makes the entity another one, so the entity is dropped (OpenTelemetry specification, resource data
//! model, merging). So a reference stays only if each of its `id_keys` is still what the sender wrote; the
//! `description_keys` that are not are taken out of the reference, which stays.

use std::collections::HashMap;

use super::{ATTRIBUTES, Stamp};
use crate::otlp::wire::{Fields, WireError, put_len_delimited};

/// `Resource.entity_refs`.
const ENTITY_REFS: u32 = 3;
/// `EntityRef.id_keys`.
const ID_KEYS: u32 = 3;
/// `EntityRef.description_keys`.
const DESCRIPTION_KEYS: u32 = 4;
/// `KeyValue.key`.
const KEY: u32 = 1;
/// Below this many attributes comparing keys is faster than hashing them; above it a hostile sender could make it slow.
const FEW: usize = 32;

/// A usual resource, stamped, has no more attributes.
const USUAL: usize = 16;

/// What the sender wrote.
#[derive(Debug, Default)]
pub(super) struct Resource<'a> {
    attributes: Vec<Sent<'a>>,
    /// Places in `attributes` by key, once there are more than [`FEW`].
    places: HashMap<&'a [u8], usize>,
    entity_refs: Vec<&'a [u8]>,
    /// Whole fields of any other kind.
    others: Vec<&'a [u8]>,
}

/// One attribute as the sender wrote it.
#[derive(Clone, Copy, Debug)]
struct Sent<'a> {
    key: &'a [u8],
    /// The `KeyValue` message.
    key_value: &'a [u8],
    /// The same as a whole field of `Resource`.
    field: &'a [u8],
}

impl<'a> Resource<'a> {
    /// Adds one occurrence of the `resource` field.
    pub(super) fn merge(&mut self, bytes: &'a [u8]) -> Result<(), WireError> {
        for field in Fields::new(bytes) {
            let field = field?;
            match (field.number, field.bytes()) {
                (ATTRIBUTES, Some(key_value)) => self.keep(Sent {
                    key: key_of(key_value)?,
                    key_value,
                    field: field.raw,
                }),
                (ENTITY_REFS, Some(reference)) => self.entity_refs.push(reference),
                _ => self.others.push(field.raw),
            }
        }
        Ok(())
    }

    fn keep(&mut self, sent: Sent<'a>) {
        match self.place(sent.key) {
            Some(place) => self.attributes[place] = sent,
            None => {
                let place = self.attributes.len();
                if place == 0 {
                    self.attributes.reserve(USUAL);
                }
                self.attributes.push(sent);
                if place == FEW {
                    let places = self.attributes.iter().enumerate();
                    self.places = places.map(|(place, sent)| (sent.key, place)).collect();
                } else if place > FEW {
                    self.places.insert(sent.key, place);
                }
            }
        }
    }

    fn place(&self, key: &[u8]) -> Option<usize> {
        if self.attributes.len() > FEW {
            self.places.get(key).copied()
        } else {
            self.attributes.iter().position(|sent| sent.key == key)
        }
    }

    /// Appends the stamped resource, without its own tag and length.
    pub(super) fn write(&self, stamp: &Stamp, out: &mut Vec<u8>) {
        for sent in self.attributes.iter().filter(|sent| !stamp.takes_out(sent.key)) {
            out.extend_from_slice(sent.field);
        }
        for attribute in &stamp.set {
            out.extend_from_slice(&attribute.field);
        }
        for attribute in &stamp.absent {
            let key = attribute.key.as_bytes();
            if self.place(key).is_none() || stamp.takes_out(key) {
                out.extend_from_slice(&attribute.field);
            }
        }
        for other in &self.others {
            out.extend_from_slice(other);
        }
        for reference in &self.entity_refs {
            self.write_entity_ref(reference, stamp, out);
        }
    }

    /// Whether the attribute under `key` is still what the sender wrote. Setting it to the very same value changes nothing.
    fn survives(&self, key: &[u8], stamp: &Stamp) -> bool {
        self.place(key).is_some_and(|place| match stamp.sets(key) {
            Some(attribute) => attribute.key_value == self.attributes[place].key_value,
            None => !stamp.takes_out(key),
        })
    }

    /// Appends the reference unless it named, as part of the entity's identity, what is no longer there.
    /// One that cannot be read is dropped: its keys cannot be vouched for.
    fn write_entity_ref(&self, reference: &[u8], stamp: &Stamp, out: &mut Vec<u8>) {
        let mut kept = Vec::with_capacity(reference.len());
        for field in Fields::new(reference) {
            let Ok(field) = field else { return };
            match (field.number, field.bytes()) {
                (ID_KEYS, Some(key)) if !self.survives(key, stamp) => return,
                (DESCRIPTION_KEYS, Some(key)) if !self.survives(key, stamp) => {}
                _ => kept.extend_from_slice(field.raw),
            }
        }
        put_len_delimited(out, ENTITY_REFS, &kept);
    }
}

/// A `KeyValue`'s key: the last one it gives, as every decoder has it; empty if it gives none.
fn key_of(key_value: &[u8]) -> Result<&[u8], WireError> {
    let mut key: &[u8] = &[];
    for field in Fields::new(key_value) {
        let field = field?;
        if let (KEY, Some(bytes)) = (field.number, field.bytes()) {
            key = bytes;
        }
    }
    Ok(key)
}
