//! Records joined into one request, stamped with the principal on the way: the request is one buffer, and each record
//! remembers where in it its bytes lie, so that a bisection slices and never copies.
//!
//! A request that was stamped once may be stamped again to no effect, so what is set aside from here can be retried.

use std::ops::Range;

use bytes::Bytes;

use crate::{
    spool::{Outcome, Part, Position, Record},
    stamp::Stamp,
};

/// Several records of one log, as one request.
#[derive(Debug)]
pub(super) struct Joined {
    pub bytes: Bytes,
    pub records: Vec<Placed>,
}

/// One record's place in a joined request.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub position: Position,
    pub items: u64,
    pub range: Range<usize>,
}

/// Joins and stamps. What cannot be stamped is no request: it is returned apart, to be set aside.
/// `headroom` is a guess at what the stamp adds to each record.
pub(super) fn join(records: Vec<Record>, stamp: &Stamp, headroom: usize) -> (Joined, Vec<(Position, Outcome)>) {
    let raw: usize = records.iter().map(|record| record.bytes.len() + headroom).sum();
    let mut bytes = Vec::with_capacity(raw);
    let mut placed = Vec::with_capacity(records.len());
    let mut refused = Vec::new();
    for record in records {
        let start = bytes.len();
        match stamp.write(&record.bytes, &mut bytes) {
            Ok(()) => placed.push(Placed {
                position: record.position,
                items: record.items,
                range: start..bytes.len(),
            }),
            Err(malformed) => refused.push((record.position, whole(record, malformed.to_string()))),
        }
    }
    let joined = Joined {
        bytes: Bytes::from(bytes),
        records: placed,
    };
    (joined, refused)
}

fn whole(record: Record, reason: String) -> Outcome {
    Outcome {
        delivered: 0,
        rejected: 0,
        set_aside: vec![Part {
            items: record.items,
            bytes: record.bytes,
            reason,
        }],
    }
}
