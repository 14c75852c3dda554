//! Checks, stamps, counts and halves arbitrary bytes as requests of all three signals.
//! Beyond not panicking: what was kept is kept again unchanged, and a bisection loses no item.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tagalong::otlp::check::{check, count};
use tagalong::otlp::split::halve;
use tagalong::otlp::status::{Response, Status};
use tagalong::otlp::{Batch, Signal};
use tagalong::pieces::PiecesMut;
use tagalong::stamp::Stamp;

fuzz_target!(|bytes: &[u8]| {
    let _ = Status::from_protobuf(bytes);
    let _ = Response::from_protobuf(bytes);
    let bytes = Bytes::copy_from_slice(bytes);
    for signal in Signal::ALL {
        count(signal, &bytes);
        let Ok(first) = check(Batch {
            signal,
            bytes: bytes.clone(),
        }) else {
            continue;
        };
        let kept = first.batch.bytes;
        let mut stamped = PiecesMut::default();
        Stamp::default()
            .write(&kept.clone().into(), &mut stamped)
            .expect("what was checked can be stamped");
        assert_eq!(count(signal, &stamped.freeze().to_bytes()), first.items);
        let again = check(Batch {
            signal,
            bytes: kept.clone(),
        })
        .expect("what was kept is well-formed");
        assert_eq!((again.items, again.rejected), (first.items, 0));
        assert_eq!(again.batch.bytes, kept);
        assert_eq!(count(signal, &kept), first.items);
        match halve(signal, &kept) {
            Some((left, right)) => {
                let (left, right) = (count(signal, &left), count(signal, &right));
                assert!(left > 0 && right > 0);
                assert_eq!(left + right, first.items);
            }
            None => assert!(signal == Signal::Metrics || first.items <= 1),
        }
    }
});
