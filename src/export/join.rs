//! Records joined into one request, stamped with the principal on the way. What is long stays where the spool has it, the
//! rest is copied together; each record remembers where its bytes are, so that a bisection slices and never copies.
//!
//! A request that was stamped once may be stamped again to no effect, so what is set aside from here can be retried.

use std::ops::Range;

use crate::{
    pieces::{Pieces, PiecesMut},
    spool::{Outcome, Part, Position, Record},
    stamp::Stamp,
};

/// Several records of one log, as one request.
#[derive(Debug)]
pub(super) struct Joined {
    pub bytes: Pieces,
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
pub(super) fn join(records: Vec<Record>, stamp: &Stamp) -> (Joined, Vec<(Position, Outcome)>) {
    let mut bytes = PiecesMut::default();
    bytes.reserve(records.iter().map(|record| stamp.room(&record.bytes)).sum());
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
        bytes: bytes.freeze(),
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
            bytes: record.bytes.to_bytes(),
            reason,
        }],
    }
}
