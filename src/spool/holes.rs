//! A file of which the disk does not give everything back, read all the same: what cannot be read is zeros, which are
//! no record. So what is unreadable is treated as what is corrupt is, and nothing that can be read is lost with it.
//!
//! Only who tried in vain reads like this: what cannot be read now may be readable a moment later.

use super::disk::{Blob, File};
use std::{
    io::{self, IoSlice},
    sync::atomic::{AtomicU64, Ordering},
};

/// What the kernel reads at least, and so loses at least.
const PAGE: u64 = 4096;

#[derive(Debug)]
pub(super) struct Holed {
    file: File,
    /// Where the last hole that was met ends.
    end: AtomicU64,
}

impl Holed {
    pub(super) fn new(file: File) -> Holed {
        Holed {
            file,
            end: AtomicU64::new(0),
        }
    }

    /// Where the last hole that was met ends; 0 if there was none.
    pub(super) fn end(&self) -> u64 {
        self.end.load(Ordering::Relaxed)
    }
}

impl Blob for Holed {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        if let Ok(bytes) = self.file.read_at(offset, len) {
            return Ok(bytes);
        }
        let end = self.len()?.min(offset + len as u64);
        let mut bytes = Vec::with_capacity(len);
        let mut at = offset;
        while at < end {
            let next = end.min((at / PAGE + 1) * PAGE);
            match self.file.read_at(at, (next - at) as usize) {
                Ok(read) => bytes.extend_from_slice(&read),
                Err(_) => drop(self.end.fetch_max(next, Ordering::Relaxed)),
            }
            bytes.resize((next - offset) as usize, 0);
            at = next;
        }
        Ok(bytes)
    }

    fn write_at(&self, offset: u64, slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        self.file.write_at(offset, slices)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
}
