//! A disk in memory that keeps two images: what is live, and what a power cut would leave. It can be full, fail its
//! syncs or hang in them, and counts what is read and synced.

use super::super::disk::{Blob, Disk, File};
use rustix::io::Errno;
use std::{
    collections::BTreeMap,
    io::{self, IoSlice},
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, Weak},
    time::SystemTime,
};

#[derive(Debug, Default)]
pub(crate) struct Faulty {
    image: Mutex<Image>,
    /// Something about hanging changed.
    moved: Condvar,
    this: Weak<Faulty>,
}

#[derive(Debug, Default)]
struct Image {
    live: BTreeMap<PathBuf, Node>,
    durable: BTreeMap<PathBuf, Node>,
    /// Changes of directories that no sync has made durable, oldest first.
    pending: Vec<Change>,
    inodes: Vec<Inode>,
    /// Grows with each crash: files that were open before are gone.
    epoch: u64,
    faults: Faults,
    read: u64,
    sized: u64,
    synced: u64,
    /// What hangs right now.
    hanging: u64,
}

/// What fails from now on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// Whatever needs another byte gets `ENOSPC`; overwriting goes on.
    pub full: bool,
    /// The same once all files together have so many bytes.
    pub room: Option<usize>,
    /// It is a quota that leaves no more room: `EDQUOT`.
    pub quota: bool,
    /// Syncs of files fail.
    pub sync: bool,
    /// Syncs of files are a fault of the program's.
    pub panic: bool,
    /// Syncs of files do not return.
    pub hang: bool,
    /// Reads of files do not return, where they do not fail.
    pub hang_reads: bool,
    /// Renames do not return.
    pub hang_renames: bool,
    /// Removals of files whose paths hold this do not return.
    pub hang_unlinks: Option<&'static str>,
    /// Writes stop half-way.
    pub write: bool,
    /// Files cannot be opened, for want of descriptors.
    pub open: bool,
    /// Reads of this byte of any file fail.
    pub bad_sector: Option<u64>,
    /// Only of files whose names end so.
    pub bad_in: &'static str,
}

impl Faults {
    fn no_room(&self) -> io::Error {
        if self.quota { Errno::DQUOT } else { Errno::NOSPC }.into()
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Node {
    Dir,
    File(usize),
}

#[derive(Clone, Debug)]
enum Change {
    Link(PathBuf, Node),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf),
}

#[derive(Clone, Debug, Default)]
struct Inode {
    live: Vec<u8>,
    durable: Vec<u8>,
    /// Where it was written since the last sync. One that fails forgets it, as Linux does: the next returns well and syncs
    /// nothing of it.
    dirty: Vec<Range<usize>>,
    modified: Option<SystemTime>,
    /// It can be neither read nor written.
    worn: bool,
}

#[derive(Debug)]
struct Opened {
    disk: Arc<Faulty>,
    inode: usize,
    epoch: u64,
}

impl Faulty {
    pub(crate) fn new(dir: &Path) -> Arc<Faulty> {
        let disk = Arc::new_cyclic(|this| Faulty {
            this: this.clone(),
            ..Faulty::default()
        });
        {
            let mut image = disk.image();
            image.live.insert(dir.to_path_buf(), Node::Dir);
            image.durable.insert(dir.to_path_buf(), Node::Dir);
        }
        disk
    }

    fn image(&self) -> MutexGuard<'_, Image> {
        self.image.lock().expect("no test panics here")
    }

    pub(crate) fn set(&self, faults: Faults) {
        self.image().faults = faults;
        self.moved.notify_all();
    }

    /// Blocks until something hangs.
    pub(crate) fn wait_until_one_hangs(&self) {
        let hangs = self.moved.wait_while(self.image(), |image| image.hanging == 0);
        drop(hangs.expect("no test panics here"));
    }

    /// How many syncs of files returned.
    pub(crate) fn syncs(&self) -> u64 {
        self.image().synced
    }

    /// The process is gone, the machine is not: nothing is lost, but nobody has a file open.
    pub(crate) fn kill(&self) {
        self.image().epoch += 1;
    }

    /// The power goes: of what was not synced, each file keeps as many bytes as `luck` grants it.
    pub(crate) fn cut_power(&self, mut luck: impl FnMut(usize) -> usize) {
        let mut image = self.image();
        image.epoch += 1;
        image.live = image.durable.clone();
        image.pending.clear();
        for inode in &mut image.inodes {
            let kept = luck(inode.live.len());
            let tail = inode.durable.get(kept..).unwrap_or(&[]).to_vec();
            inode.live.truncate(kept);
            inode.live.extend(tail);
            inode.durable = inode.live.clone();
        }
    }

    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let image = self.image();
        image
            .live
            .iter()
            .filter(|(_, node)| **node != Node::Dir)
            .map(|(path, _)| path.clone())
            .collect()
    }

    /// Changes bytes behind the spool's back.
    pub(crate) fn tamper(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut image = self.image();
        let Some(Node::File(inode)) = image.live.get(path).copied() else {
            panic!("{path:?} is no file")
        };
        change(&mut image.inodes[inode].live);
        image.inodes[inode].durable = image.inodes[inode].live.clone();
    }

    /// Wears out the place where a file is; another file of that name is elsewhere.
    pub(crate) fn wear(&self, path: &Path) {
        let mut image = self.image();
        let Some(Node::File(inode)) = image.live.get(path).copied() else {
            panic!("{path:?} is no file")
        };
        image.inodes[inode].worn = true;
    }

    /// How many bytes were read since the last call.
    pub(crate) fn bytes_read(&self) -> u64 {
        std::mem::take(&mut self.image().read)
    }

    /// Of how many files the size was asked.
    pub(crate) fn sized(&self) -> u64 {
        self.image().sized
    }

    /// Waits as long as such a fault lasts.
    fn hung<'a>(&self, mut image: MutexGuard<'a, Image>, hangs: impl Fn(&Faults) -> bool) -> MutexGuard<'a, Image> {
        if hangs(&image.faults) {
            image.hanging += 1;
            self.moved.notify_all();
            let waited = self.moved.wait_while(image, |image| hangs(&image.faults));
            image = waited.expect("no test panics here");
            image.hanging -= 1;
        }
        image
    }

    fn opened(&self, inode: usize, epoch: u64) -> File {
        Arc::new(Opened {
            disk: self.this.upgrade().expect("it is in an Arc"),
            inode,
            epoch,
        })
    }
}

fn parent(path: &Path) -> PathBuf {
    path.parent().map(Path::to_path_buf).unwrap_or_default()
}

fn missing() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl Image {
    fn apply(tree: &mut BTreeMap<PathBuf, Node>, change: &Change) {
        match change {
            Change::Link(path, node) => drop(tree.insert(path.clone(), *node)),
            Change::Remove(path) => drop(tree.remove(path)),
            Change::Rename(from, to) => {
                let moved: Vec<PathBuf> = tree.keys().filter(|path| path.starts_with(from)).cloned().collect();
                for path in moved {
                    let node = tree.remove(&path).expect("listed just now");
                    tree.insert(moved_path(&path, from, to), node);
                }
            }
        }
    }

    fn change(&mut self, change: Change) {
        Image::apply(&mut self.live, &change);
        if let Change::Rename(from, to) = &change {
            for earlier in &mut self.pending {
                match earlier {
                    Change::Link(path, _) | Change::Remove(path) if path != from => *path = moved_path(path, from, to),
                    _ => {}
                }
            }
        }
        self.pending.push(change);
    }
}

fn moved_path(path: &Path, from: &Path, to: &Path) -> PathBuf {
    match path.strip_prefix(from) {
        Ok(rest) if rest.as_os_str().is_empty() => to.to_path_buf(),
        Ok(rest) => to.join(rest),
        Err(_) => path.to_path_buf(),
    }
}

impl Disk for Faulty {
    fn create(&self, path: &Path) -> io::Result<File> {
        let mut image = self.image();
        if image.live.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if image.live.get(&parent(path)) != Some(&Node::Dir) {
            return Err(missing());
        }
        if image.faults.full {
            return Err(image.faults.no_room());
        }
        image.inodes.push(Inode::default());
        let inode = image.inodes.len() - 1;
        image.change(Change::Link(path.to_path_buf(), Node::File(inode)));
        Ok(self.opened(inode, image.epoch))
    }

    fn open(&self, path: &Path) -> io::Result<File> {
        let image = self.image();
        if image.faults.open {
            return Err(io::Error::from_raw_os_error(24));
        }
        match image.live.get(path) {
            Some(Node::File(inode)) => Ok(self.opened(*inode, image.epoch)),
            _ => Err(missing()),
        }
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut image = self.image();
        if image.live.get(&parent(path)) != Some(&Node::Dir) {
            return Err(missing());
        }
        if !image.live.contains_key(path) {
            if image.faults.full {
                return Err(image.faults.no_room());
            }
            image.change(Change::Link(path.to_path_buf(), Node::Dir));
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut image = self.hung(self.image(), |faults| faults.hang_renames);
        if !image.live.contains_key(from) || image.live.get(&parent(to)) != Some(&Node::Dir) {
            return Err(missing());
        }
        image.change(Change::Rename(from.to_path_buf(), to.to_path_buf()));
        Ok(())
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        let holds = |part: &str| path.to_string_lossy().contains(part);
        let mut image = self.hung(self.image(), |faults| faults.hang_unlinks.is_some_and(holds));
        match image.live.get(path) {
            Some(Node::File(_)) => image.change(Change::Remove(path.to_path_buf())),
            _ => return Err(missing()),
        }
        Ok(())
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let mut image = self.image();
        if image.live.get(path) != Some(&Node::Dir) {
            return Err(missing());
        }
        if image.live.keys().any(|other| other != path && other.starts_with(path)) {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        image.change(Change::Remove(path.to_path_buf()));
        Ok(())
    }

    fn size(&self, path: &Path) -> io::Result<u64> {
        let mut image = self.image();
        image.sized += 1;
        match image.live.get(path) {
            Some(Node::File(inode)) => Ok(image.inodes[*inode].live.len() as u64),
            _ => Err(missing()),
        }
    }

    fn modified(&self, path: &Path) -> io::Result<SystemTime> {
        let image = self.image();
        match image.live.get(path) {
            Some(Node::File(inode)) => image.inodes[*inode].modified.ok_or_else(missing),
            _ => Err(missing()),
        }
    }

    fn list(&self, path: &Path) -> io::Result<Vec<(String, bool)>> {
        let image = self.image();
        if image.live.get(path) != Some(&Node::Dir) {
            return Err(missing());
        }
        let inside = image.live.iter().filter(|(other, _)| other.parent() == Some(path));
        let name = |path: &Path| {
            path.file_name()
                .expect("it has a parent")
                .to_string_lossy()
                .into_owned()
        };
        Ok(inside.map(|(path, node)| (name(path), *node == Node::Dir)).collect())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut image = self.image();
        if image.live.get(path) != Some(&Node::Dir) {
            return Err(missing());
        }
        let (mine, others) = std::mem::take(&mut image.pending)
            .into_iter()
            .partition(|change| match change {
                Change::Link(at, _) | Change::Remove(at) => parent(at) == path,
                Change::Rename(from, to) => parent(from) == path || parent(to) == path,
            });
        image.pending = others;
        let mine: Vec<Change> = mine;
        for change in &mine {
            Image::apply(&mut image.durable, change);
        }
        Ok(())
    }
}

impl Opened {
    fn image(&self) -> io::Result<MutexGuard<'_, Image>> {
        let image = self.disk.image();
        if image.epoch != self.epoch {
            return Err(io::Error::other("this process is dead"));
        }
        Ok(image)
    }
}

impl Blob for Opened {
    fn len(&self) -> io::Result<u64> {
        Ok(self.image()?.inodes[self.inode].live.len() as u64)
    }

    fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut image = self.image()?;
        if image.inodes[self.inode].worn {
            return Err(io::Error::from_raw_os_error(5));
        }
        let is_bad = image
            .faults
            .bad_sector
            .is_some_and(|bad| (offset..offset + len as u64).contains(&bad));
        let mut names = image.live.iter().filter(|(_, node)| **node == Node::File(self.inode));
        if is_bad && names.any(|(path, _)| path.to_string_lossy().ends_with(image.faults.bad_in)) {
            return Err(io::Error::from_raw_os_error(5));
        }
        image = self.disk.hung(image, |faults| faults.hang_reads);
        let bytes = &image.inodes[self.inode].live;
        let from = bytes.len().min(offset as usize);
        let read = bytes[from..bytes.len().min(from + len)].to_vec();
        image.read += read.len() as u64;
        Ok(read)
    }

    fn write_at(&self, offset: u64, slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        let mut image = self.image()?;
        if image.inodes[self.inode].worn {
            return Err(io::Error::from_raw_os_error(5));
        }
        let faults = image.faults;
        let mut bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        let used: usize = image
            .live
            .values()
            .map(|node| match node {
                Node::Dir => 0,
                Node::File(inode) => image.inodes[*inode].live.len(),
            })
            .sum();
        let inode = &mut image.inodes[self.inode];
        let end = offset as usize + bytes.len();
        let more = end.saturating_sub(inode.live.len());
        let full = more > 0 && (faults.full || faults.room.is_some_and(|room| used + more > room));
        if full || faults.write {
            bytes.truncate(bytes.len() / 2);
        }
        let end = offset as usize + bytes.len();
        inode.modified = Some(SystemTime::now());
        inode.live.resize(inode.live.len().max(end), 0);
        inode.live[offset as usize..end].copy_from_slice(&bytes);
        inode.dirty.push(offset as usize..end);
        if full {
            return Err(faults.no_room());
        }
        if faults.write {
            return Err(io::Error::from_raw_os_error(5));
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.image()?.inodes[self.inode].live.resize(len as usize, 0);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut image = self.disk.hung(self.image()?, |faults| faults.hang);
        if image.faults.panic {
            // Others look at this disk yet.
            drop(image);
            panic!("a fault");
        }
        image.synced += 1;
        let fails = image.faults.sync;
        let inode = &mut image.inodes[self.inode];
        let dirty = std::mem::take(&mut inode.dirty);
        if fails {
            return Err(io::Error::from_raw_os_error(5));
        }
        inode.durable.resize(inode.live.len(), 0);
        for Range { start, end } in dirty {
            // What was cut off since is not there any more.
            let end = end.min(inode.live.len());
            if let Some(written) = inode.live.get(start..end) {
                inode.durable[start..end].copy_from_slice(written);
            }
        }
        Ok(())
    }
}
