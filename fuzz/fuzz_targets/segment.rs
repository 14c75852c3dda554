//! Opens a spool whose only segment is arbitrary bytes, sealed or torn.
//! Beyond not panicking: it can be read to its end, and nothing of it stays unanswered for.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::{fs, path::PathBuf, sync::LazyLock, time::Duration};
use tagalong::spool::{Config, Outcome, Owner, Spool};

static DIR: LazyLock<PathBuf> =
    LazyLock::new(|| std::env::temp_dir().join(format!("tagalong-fuzz-{}", std::process::id())));

fuzz_target!(|bytes: &[u8]| {
    let _ = fs::remove_dir_all(&*DIR);
    let lane = DIR.join("ada/traces");
    fs::create_dir_all(&lane).expect("a directory");
    fs::write(lane.join("00000001.log"), bytes).expect("a segment");
    fs::write(DIR.join("lock"), "").expect("a lock");
    let config = Config {
        dir: DIR.clone(),
        max_bytes: 1 << 30,
        keep_bytes: 0,
        max_age: Duration::from_secs(1),
        session: "fuzz".to_owned(),
        place: "here".to_owned(),
    };
    // What a newer version wrote is refused.
    let Ok(spool) = Spool::open(config) else { return };
    let owner = Owner("ada".to_owned());
    let mut reader = spool.reader(&owner, "traces").expect("a reader");
    while let Some(record) = reader.try_next().expect("readable") {
        let outcome = Outcome {
            delivered: record.items,
            ..Outcome::default()
        };
        reader.resolver().resolve(record.position, outcome).expect("booked");
    }
    let stats = spool.stats();
    assert_eq!(stats.bytes, 0);
});
