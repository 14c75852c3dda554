//! What a spool holds, for somebody who does not open it: read from its files while no agent runs.
//!
//! It takes no lock, makes nothing and writes nothing. Beside an agent at work it may miss what is on its way, so
//! whoever can ask that agent asks it instead.

use super::{
    SetAside, Spool, Stats, aside,
    core::{self, Caps},
    disk::ReadOnly,
    log::Log,
    recover::{Found, is_spool, recover},
};
use std::{collections::BTreeMap, io, path::Path, sync::Arc};

impl Spool {
    /// The statistics of the spool in `dir`, which may grow to `max_bytes`; all zero where there is none. Like a start, it reads names,
    /// footers and cursors, and records only of what was open when an agent was killed.
    ///
    /// # Errors
    /// The directory cannot be read, or a newer version (`InvalidData`) or somebody else (`DirectoryNotEmpty`) wrote there.
    pub fn glance(dir: &Path, max_bytes: u64) -> io::Result<Stats> {
        let (logs, caps) = found(dir)?;
        Ok(caps.add_to(core::stats(&logs, &BTreeMap::new()), max_bytes))
    }

    /// What was set aside in the spool in `dir`, by owner and lane; nothing where there is none.
    ///
    /// # Errors
    /// The directory cannot be read, or a newer version (`InvalidData`) or somebody else (`DirectoryNotEmpty`) wrote there.
    pub fn glance_aside(dir: &Path) -> io::Result<Vec<SetAside>> {
        let (logs, _) = found(dir)?;
        let mut entries = Vec::new();
        for log in logs {
            entries.extend(aside::list(&ReadOnly, &log)?);
        }
        Ok(entries)
    }
}

/// The logs of the spool in `dir`, none where there is none, and the room that they take.
fn found(dir: &Path) -> io::Result<(Vec<Arc<Log>>, Caps)> {
    let Found { logs, caps, .. } = match is_spool(dir)? {
        false => Found::default(),
        true => recover(&ReadOnly, dir)?,
    };
    let logs = logs.by_owner.into_values().flat_map(BTreeMap::into_values);
    Ok((logs.collect(), caps))
}
