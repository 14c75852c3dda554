//! Redacts arbitrary bytes that pass as requests of all three signals.
//! Beyond not panicking: no item is lost, what comes out is well-formed, and bytes without a secret stay as they are.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;
use tagalong::otlp::check::check;
use tagalong::otlp::{Batch, Signal};
use tagalong::stamp::redact::{Config, Redactor};

static REDACTOR: LazyLock<Redactor> = LazyLock::new(|| {
    let config = Config {
        enabled: true,
        patterns: vec!["ACME-[0-9]+".to_owned()],
        keys: vec!["*.pin".to_owned()],
    };
    Redactor::build(&config).expect("these rules can be used")
});

fuzz_target!(|bytes: &[u8]| {
    let bytes = Bytes::copy_from_slice(bytes);
    for signal in Signal::ALL {
        let bytes = bytes.clone();
        let Ok(checked) = check(Batch { signal, bytes }) else {
            continue;
        };
        let before = checked.batch.bytes.clone();
        let (redacted, secrets) = REDACTOR.redact(checked.batch);
        assert_eq!(secrets == 0, redacted.bytes == before);
        let again = check(redacted).expect("what was redacted is well-formed");
        assert_eq!((again.items, again.rejected), (checked.items, 0));
    }
});
