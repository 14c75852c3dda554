//! Transcodes arbitrary text as requests of all three signals.
//! Beyond not panicking: what comes out passes the check, so JSON is no way around it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tagalong::otlp::check::check;
use tagalong::otlp::json::to_protobuf;
use tagalong::otlp::{Batch, Signal};

fuzz_target!(|text: &[u8]| {
    for signal in Signal::ALL {
        if let Ok(bytes) = to_protobuf(signal, text) {
            check(Batch { signal, bytes }).expect("the transcoder writes well-formed requests");
        }
    }
});
