//! What every handle, the readers and the committer share: the disk, the logs by owner and lane, and the caps.

use super::{
    AppendError, Books, Config, Owner, Stats,
    aside::millis,
    disk::{self, Disk},
    log::{Log, lock},
};
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// How the directory of one start's pending spool begins.
pub(super) const PENDING: &str = "pending-";
/// The file in a pending spool's directory that says who may adopt it.
pub(super) const PLACE: &str = "place";
/// The file in an owner's directory that says when they were here last, in milliseconds since 1970.
pub(super) const PRESENT: &str = "present";

#[derive(Debug)]
pub(super) struct Core {
    pub config: Config,
    /// When a segment is sealed; smaller in tests.
    pub segment_bytes: u64,
    /// This start's pending spool.
    pub pending: Owner,
    pub disk: Arc<dyn Disk>,
    pub logs: Mutex<Logs>,
    pub caps: Mutex<Caps>,
    /// Why the disk refuses right now.
    pub trouble: Mutex<Option<String>>,
    /// Why the last adoption left something pending.
    pub unadopted: Mutex<Option<String>>,
    pub closed: AtomicBool,
    /// Held while anything may still be written.
    pub lock: Mutex<Option<fs::File>>,
}

#[derive(Debug, Default)]
pub(super) struct Logs {
    pub by_owner: BTreeMap<Owner, BTreeMap<String, Arc<Log>>>,
    /// Who got this start's pending spool.
    pub adopted: Option<Owner>,
}

/// What takes room of the cap.
#[derive(Debug, Default)]
pub(super) struct Caps {
    pub lanes: BTreeMap<String, Used>,
    /// By lane.
    pub rings: BTreeMap<String, Ring>,
}

/// Whose log of a lane is a ring.
#[derive(Clone, Debug)]
pub(super) struct Ring {
    pub owner: Owner,
    /// Unsent bytes of the other owners' logs: of the lane's they alone take room.
    pub others: u64,
}

/// What all logs of one lane take.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Used {
    /// Unsent bytes, those on their way to the disk included. A ring's do not count.
    pub unsent: u64,
    /// Set-aside entries on disk, and what they take there.
    pub entries: u64,
    pub set_aside: u64,
}

impl Caps {
    /// The lanes that have hardly any room left of what one lane may take of `max` bytes.
    pub(super) fn full(&self, max: u64) -> Vec<String> {
        let lanes = self.lanes.keys().filter(|lane| !self.rings.contains_key(*lane));
        lanes
            .filter(|lane| is_nearly_full(self.used(lane), of_lane(max)))
            .cloned()
            .collect()
    }

    /// Set-aside entries on disk, and what they take there.
    pub(super) fn set_aside(&self) -> (u64, u64) {
        let lanes = self.lanes.values();
        lanes.fold((0, 0), |(entries, bytes), used| {
            (entries + used.entries, bytes + used.set_aside)
        })
    }

    /// With what the caps know of a spool of `max` bytes.
    pub(super) fn add_to(&self, stats: Stats, max: u64) -> Stats {
        let (set_aside, set_aside_bytes) = self.set_aside();
        Stats {
            set_aside,
            set_aside_bytes,
            full: self.full(max),
            ..stats
        }
    }

    fn used(&self, lane: &str) -> u64 {
        let used = self.lanes.get(lane).copied().unwrap_or_default();
        used.set_aside + self.rings.get(lane).map_or(used.unsent, |ring| ring.others)
    }

    fn has_room(&self, lane: &str, bytes: u64, max: u64) -> bool {
        let all: u64 = self.lanes.keys().map(|lane| self.used(lane)).sum();
        all + bytes <= max && self.used(lane) + bytes <= of_lane(max)
    }

    /// A log has so many unsent bytes instead of others. What nobody owns counts nowhere.
    pub(super) fn change(&mut self, log: &Log, before: u64, after: u64) {
        if log.is_nobodys {
            return;
        }
        let used = self.lane(&log.lane);
        used.unsent = (used.unsent + after).saturating_sub(before);
        let ring = self.rings.get_mut(&log.lane);
        if let Some(ring) = ring.filter(|ring| ring.owner != log.owner) {
            ring.others = (ring.others + after).saturating_sub(before);
        }
    }

    pub(super) fn lane(&mut self, lane: &str) -> &mut Used {
        if !self.lanes.contains_key(lane) {
            self.lanes.insert(lane.to_owned(), Used::default());
        }
        self.lanes.get_mut(lane).expect("it was made just now")
    }
}

/// Whether hardly any room is left of `max` bytes: a tenth.
pub fn is_nearly_full(used: u64, max: u64) -> bool {
    used.saturating_mul(10) >= max.saturating_mul(9)
}

/// What one lane may take of `max` bytes.
fn of_lane(max: u64) -> u64 {
    max / 2
}

/// Whether what is set aside is more than a few bad records: an eighth of `max` bytes. Less than that holds up nothing,
/// however full the spool is.
pub fn is_much_set_aside(set_aside: u64, max: u64) -> bool {
    set_aside >= max / 8
}

impl Core {
    /// The log for appends and readers; makes it in memory if there is none.
    pub(super) fn log(&self, owner: &Owner, lane: &str) -> io::Result<Arc<Log>> {
        let mut logs = lock(&self.logs);
        let adopted = if *owner == self.pending {
            logs.adopted.clone()
        } else {
            None
        };
        let owner = adopted.as_ref().unwrap_or(owner);
        if let Some(log) = logs.by_owner.get(owner).and_then(|lanes| lanes.get(lane)) {
            return Ok(log.clone());
        }
        if !is_owner(&owner.0) || !is_owner(lane) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "an owner or lane that is no directory's name",
            ));
        }
        let dir = self.config.dir.join(&owner.0).join(lane);
        let log = Arc::new(Log::new(owner.clone(), lane, dir));
        logs.by_owner
            .entry(owner.clone())
            .or_default()
            .insert(lane.to_owned(), log.clone());
        Ok(log)
    }

    pub(super) fn all(&self) -> Vec<Arc<Log>> {
        lock(&self.logs)
            .by_owner
            .values()
            .flat_map(|lanes| lanes.values().cloned())
            .collect()
    }

    /// In milliseconds since 1970: what owners left who have been absent since then is too old at `now`, if it is that old.
    pub(super) fn too_old(&self, now: SystemTime) -> u64 {
        millis(now).saturating_sub(self.config.max_age.as_millis() as u64)
    }

    /// The logs of owners who have been absent since `before`. This start's pending spool never is.
    pub(super) fn absent(&self, present: &Owner, before: u64) -> Vec<Arc<Log>> {
        let logs = lock(&self.logs).by_owner.clone();
        let others = logs
            .into_iter()
            .filter(|(owner, _)| owner != present && *owner != self.pending);
        let absent = others.filter(|(owner, _)| self.was_last_present(owner).is_none_or(|at| at < before));
        absent.flat_map(|(_, lanes)| lanes.into_values()).collect()
    }

    /// `None` if nothing says so; then the age of what they left decides alone.
    fn was_last_present(&self, owner: &Owner) -> Option<u64> {
        match self.read_note(owner, PRESENT) {
            Ok(note) => note?.parse().ok(),
            Err(error) => {
                tracing::warn!(%error, owner = owner.0, "when somebody was here last cannot be read");
                Some(u64::MAX)
            }
        }
    }

    /// Remembers for later starts that somebody is here; of whom nothing is kept there is nothing to remember.
    pub(super) fn note_presence(&self, owner: &Owner, now: SystemTime) -> io::Result<()> {
        match self.write_note(owner, PRESENT, &millis(now).to_string()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            written => written.and_then(|()| self.disk.sync_dir(&self.config.dir.join(&owner.0))),
        }
    }

    pub(super) fn note_trouble(&self, trouble: Option<&io::Error>) {
        let mut noted = lock(&self.trouble);
        match (trouble, noted.is_some()) {
            (Some(error), was) => {
                if !was {
                    tracing::warn!(%error, "the spool's disk refuses");
                }
                *noted = Some(error.to_string());
            }
            (None, true) => {
                tracing::info!("the spool's disk takes data again");
                *noted = None;
            }
            (None, false) => {}
        }
    }

    pub(super) fn stats(&self) -> Stats {
        let stats = self.stats_of(&self.all());
        Stats {
            trouble: lock(&self.trouble).clone(),
            unadopted: lock(&self.unadopted).clone(),
            ..lock(&self.caps).add_to(stats, self.config.max_bytes)
        }
    }

    pub(super) fn unsent_of(&self, owner: &Owner) -> u64 {
        let lanes = lock(&self.logs).by_owner.get(owner).cloned().unwrap_or_default();
        let logs: Vec<Arc<Log>> = lanes.into_values().collect();
        self.stats_of(&logs).bytes
    }

    fn stats_of(&self, logs: &[Arc<Log>]) -> Stats {
        let rings = lock(&self.caps).rings.clone();
        stats(logs, &rings)
    }

    /// Whether the log's oldest goes beyond `keep_bytes`.
    pub(super) fn is_ring(&self, log: &Log) -> bool {
        is_ring(log, &lock(&self.caps).rings)
    }

    /// The ring that `owner`'s log of a lane makes.
    pub(super) fn ring(&self, owner: &Owner, lane: &str) -> Ring {
        let others = self.all().into_iter();
        let others = others.filter(|log| log.lane == lane && log.owner != *owner && !log.is_nobodys);
        let others = others.map(|log| {
            let state = log.state();
            if state.moved.is_none() { state.unsent_bytes() } else { 0 }
        });
        Ring {
            owner: owner.clone(),
            others: others.sum(),
        }
    }

    /// Takes room for a record, if its lane and the spool have it.
    pub(super) fn reserve(&self, log: &Log, bytes: u64) -> Result<(), AppendError> {
        let (max, most) = (self.config.max_bytes, of_lane(self.config.max_bytes));
        let mut caps = lock(&self.caps);
        let is_ring = is_ring(log, &caps.rings);
        if !is_ring && bytes > most {
            return Err(AppendError::TooLarge { most });
        }
        if !is_ring && !caps.has_room(&log.lane, bytes, max) {
            return Err(AppendError::Full);
        }
        caps.change(log, 0, bytes);
        Ok(())
    }

    /// Takes room for what has it already in another form.
    pub(super) fn take(&self, log: &Log, bytes: u64) {
        lock(&self.caps).change(log, 0, bytes);
    }

    pub(super) fn release(&self, log: &Log, bytes: u64) {
        lock(&self.caps).change(log, bytes, 0);
    }

    /// Whether something may be set aside that takes so many bytes more there than it did as a record.
    pub(super) fn may_set_aside(&self, lane: &str, more: u64) -> bool {
        let caps = lock(&self.caps);
        let max = self.config.max_bytes;
        caps.has_room(lane, more, max) || !is_much_set_aside(caps.set_aside().1, max)
    }

    /// A set-aside entry takes so many bytes of the disk that took so many before; of one that is not there, none.
    pub(super) fn count_set_aside(&self, lane: &str, before: Option<u64>, after: Option<u64>) {
        let mut caps = lock(&self.caps);
        let used = caps.lane(lane);
        used.entries = (used.entries + u64::from(after.is_some())).saturating_sub(u64::from(before.is_some()));
        used.set_aside = (used.set_aside + after.unwrap_or(0)).saturating_sub(before.unwrap_or(0));
        if used.entries == 0 {
            // What a start took for the size of many was not exact.
            used.set_aside = 0;
        }
    }

    /// A log turned out to have other unsent bytes than it seemed.
    pub(super) fn regard(&self, log: &Log, seemed: u64, unsent: u64) {
        lock(&self.caps).change(log, seemed, unsent);
    }

    /// Makes a log's directory, and all above it up to the spool's own, durably.
    pub(super) fn make_dirs(&self, owner: &Owner, log_dir: &Path) -> io::Result<()> {
        let owner_dir = self.config.dir.join(&owner.0);
        self.disk.create_dir(&owner_dir)?;
        if *owner == self.pending {
            self.write_note(owner, PLACE, &self.config.place)?;
        }
        self.disk.sync_dir(&self.config.dir)?;
        self.disk.create_dir(log_dir)?;
        self.disk.sync_dir(&owner_dir)
    }

    /// Who may adopt a pending spool; `None` if it does not say.
    pub(super) fn read_place(&self, owner: &Owner) -> io::Result<Option<String>> {
        self.read_note(owner, PLACE)
    }

    fn write_note(&self, owner: &Owner, name: &str, text: &str) -> io::Result<()> {
        let path = self.note(owner, name);
        let file = match self.disk.open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.disk.create(&path)?,
            Err(error) => return Err(error),
        };
        file.write_at(0, &mut [io::IoSlice::new(text.as_bytes())])?;
        file.sync()
    }

    /// `None` if there is none that can be read.
    fn read_note(&self, owner: &Owner, name: &str) -> io::Result<Option<String>> {
        let opened = self.disk.open(&self.note(owner, name));
        match opened.and_then(|file| file.read_at(0, file.len()? as usize)) {
            Err(error) if disk::is_of_the_machine(&error) => Err(error),
            note => Ok(note.ok().and_then(|note| String::from_utf8(note).ok())),
        }
    }

    /// A small file in an owner's directory.
    fn note(&self, owner: &Owner, name: &str) -> PathBuf {
        self.config.dir.join(&owner.0).join(name)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(super) fn now(&self) -> u64 {
        millis(SystemTime::now())
    }
}

/// Whether the log is a ring: nobody's, or of its lane the one in `rings`.
fn is_ring(log: &Log, rings: &BTreeMap<String, Ring>) -> bool {
    log.is_nobodys || rings.get(&log.lane).is_some_and(|ring| ring.owner == log.owner)
}

/// What logs hold, `rings` by lane and what nobody owns left out of what is unsent. What only the disk or its keeper knows
/// stays empty.
pub(super) fn stats(logs: &[Arc<Log>], rings: &BTreeMap<String, Ring>) -> Stats {
    let mut stats = Stats::default();
    let mut oldest: Option<u64> = None;
    for log in logs {
        let state = log.state();
        if state.moved.is_some() {
            continue;
        }
        let books = stats.books.entry(log.lane.clone()).or_default();
        let settled = state.settled();
        books.delivered += settled.delivered;
        books.rejected += settled.rejected;
        books.set_aside += settled.set_aside;
        books.expired += settled.expired;
        books.pending += state.pending_items();
        if !is_ring(log, rings) {
            stats.bytes += state.unsent_bytes();
            oldest = [oldest, state.oldest()].into_iter().flatten().min();
        }
    }
    for books in stats.books.values_mut() {
        let Books {
            delivered,
            rejected,
            set_aside,
            expired,
            pending,
            ..
        } = *books;
        books.accepted = delivered + rejected + set_aside + expired + pending;
    }
    stats.oldest = oldest.map(time);
    stats
}

/// Whether a name may be a directory's.
pub(super) fn is_owner(name: &str) -> bool {
    (1..=80).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

pub(super) fn time(millis: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(millis)
}
