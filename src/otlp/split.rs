//! Halving a request: by resource, then by scope, then by item; a metric by its data points.
//!
//! For a bisection that looks for the one item that upstream refuses, or for a request that upstream finds too large.
//! Each half is a whole request: around its items stand the same resource, scope, schema URLs and unknown fields.
//! It cuts by number of items, not by bytes, so that each half has at least one and every bisection ends.
//! It refuses nothing: bytes that [`check`](super::check::check) would refuse are cut as far as they can be read.

use bytes::Bytes;

use super::Signal;
use super::check::{self, DATA_POINTS, ITEMS, RESOURCES, SCOPES};
use super::wire::{self, Fields};

/// Two requests that hold, together and in order, what this one holds; `None` if it is down to a single item
/// (a span, a log record or a data point) or to none.
pub fn halve(signal: Signal, request: &Bytes) -> Option<(Bytes, Bytes)> {
    let (left, right) = halve_level(Level::Request, signal, request)?;
    Some((left.into(), right.into()))
}

/// The messages that a request nests, outermost first.
#[derive(Clone, Copy)]
enum Level {
    Request,
    Resource,
    Scope,
    Metric,
    /// `Gauge`, `Sum`, `Histogram`, `ExponentialHistogram` or `Summary`.
    MetricData,
    /// A span, a log record or a data point.
    Item,
}

impl Level {
    /// Whether a field of a message of this level is one of what is shared out between the halves.
    const fn has_child(self, number: u32) -> bool {
        match self {
            Level::Request => number == RESOURCES,
            Level::Resource => number == SCOPES,
            Level::Scope => number == ITEMS,
            Level::Metric => check::is_metric_data(number),
            Level::MetricData => number == DATA_POINTS,
            Level::Item => false,
        }
    }

    const fn below(self, signal: Signal) -> Level {
        match (self, signal) {
            (Level::Request, _) => Level::Resource,
            (Level::Resource, _) => Level::Scope,
            (Level::Scope, Signal::Metrics) => Level::Metric,
            (Level::Metric, _) => Level::MetricData,
            (Level::Scope | Level::MetricData | Level::Item, _) => Level::Item,
        }
    }

    /// How many items a message of this level holds.
    fn items(self, signal: Signal, message: &[u8]) -> u64 {
        match self {
            Level::Request => check::count(signal, message),
            Level::Resource => check::count_in_resource(signal, message),
            Level::Scope => check::count_in_scope(signal, message),
            Level::Metric => check::count_in_metric(message),
            Level::MetricData => check::children(message, DATA_POINTS).count() as u64,
            Level::Item => 1,
        }
    }
}

/// One field of the message that is cut.
struct Part<'a> {
    raw: &'a [u8],
    number: u32,
    /// The content, if the field is a child that holds items.
    child: Option<&'a [u8]>,
    items: u64,
}

fn halve_level(level: Level, signal: Signal, message: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let below = level.below(signal);
    let parts: Vec<Part<'_>> = Fields::new(message)
        .map_while(Result::ok)
        .map(|field| {
            let child = field.bytes().filter(|_| level.has_child(field.number));
            let items = child.map_or(0, |child| below.items(signal, child));
            Part {
                raw: field.raw,
                number: field.number,
                child: child.filter(|_| items > 0),
                items,
            }
        })
        .collect();
    let mut full = parts.iter().enumerate().filter(|(_, part)| part.child.is_some());
    let (first, only) = full.next()?;
    if full.next().is_none() {
        let (left, right) = halve_level(below, signal, only.child?)?;
        return Some((around(&parts, first, &left), around(&parts, first, &right)));
    }
    // Two members of a `oneof`: the later replaces the earlier, also where it is empty, so they must stay together.
    if matches!(level, Level::Metric)
        && parts
            .iter()
            .any(|part| level.has_child(part.number) && part.number != only.number)
    {
        return None;
    }
    Some(cut(&parts))
}

/// The message again, with `content` in the place of the child at `index`.
fn around(parts: &[Part<'_>], index: usize, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for (at, part) in parts.iter().enumerate() {
        if at == index {
            wire::put_len_delimited(&mut out, part.number, content);
        } else {
            out.extend_from_slice(part.raw);
        }
    }
    out
}

/// Shares the children out, about half of the items each; all other fields go to both sides.
fn cut(parts: &[Part<'_>]) -> (Vec<u8>, Vec<u8>) {
    let total: u64 = parts.iter().map(|part| part.items).sum();
    let last = parts.iter().rposition(|part| part.child.is_some()).unwrap_or(0);
    let (mut left, mut right) = (Vec::new(), Vec::new());
    let mut taken = 0;
    for (at, part) in parts.iter().enumerate() {
        if part.child.is_none() {
            left.extend_from_slice(part.raw);
            right.extend_from_slice(part.raw);
        } else if taken * 2 < total && at != last {
            left.extend_from_slice(part.raw);
            taken += part.items;
        } else {
            right.extend_from_slice(part.raw);
        }
    }
    (left, right)
}

#[cfg(test)]
mod tests;
