//! What a spool holds, for somebody who does not open it: read from its files while no agent runs.
//!
//! It takes no lock, makes nothing and writes nothing. Beside an agent at work it may miss what is on its way, so
//! whoever can ask that agent asks it instead.

use super::{Spool, Stats, core, disk::ReadOnly, recover::recover};
use std::{collections::BTreeSet, io, path::Path};

impl Spool {
    /// The statistics of the spool in `dir`, which may grow to `max_bytes`; all zero where there is none. Like a start, it reads names,
    /// footers and cursors, and records only of what was open when an agent was killed.
    ///
    /// # Errors
    /// The directory cannot be read, or a newer version wrote there (`InvalidData`).
    pub fn glance(dir: &Path, max_bytes: u64) -> io::Result<Stats> {
        let found = match recover(&ReadOnly, dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Stats::default()),
            found => found?,
        };
        let logs: Vec<_> = found
            .logs
            .by_owner
            .into_values()
            .flat_map(std::collections::BTreeMap::into_values)
            .collect();
        Ok(found.caps.add_to(core::stats(&logs, &BTreeSet::new()), max_bytes))
    }
}
