//! Bytes that lie in more than one place: what nobody changed stays where it arrived, what was written lies between.
//!
//! A stamp changes some hundred bytes of a batch. To copy the rest would cost more than the stamp does, because the memory
//! was last in another core's hands; so what is long goes to the disk and on to plain HTTP as it lies. What the bytes mean
//! is none of its business.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

/// A run that is shorter is copied: many small pieces cost more than one copy. As a piece it keeps the whole buffer that
/// it lies in, which is a few times as long at most (`source`'s read buffer, the spool's chunk).
pub const SHARED_FROM: usize = 32 * 1024;

/// Bytes in order, in any number of pieces. A clone shares them.
#[derive(Clone, Debug, Default)]
pub struct Pieces {
    /// None is empty.
    list: Vec<Bytes>,
    len: usize,
}

/// Pieces that are being put together.
#[derive(Debug, Default)]
pub struct PiecesMut {
    done: Pieces,
    /// What was written behind them.
    written: BytesMut,
}

// === impl Pieces ===

impl Pieces {
    /// In bytes.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no bytes.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The pieces, none of them empty.
    pub fn iter(&self) -> std::slice::Iter<'_, Bytes> {
        self.list.iter()
    }

    /// Each piece that has something of `range`, and what of the piece that is.
    ///
    /// What of `range` is beyond the end is left out.
    pub fn runs(&self, range: Range<usize>) -> impl Iterator<Item = (&Bytes, Range<usize>)> + Clone {
        let mut start = 0;
        self.list.iter().filter_map(move |piece| {
            let from = range.start.saturating_sub(start).min(piece.len());
            let to = range.end.saturating_sub(start).min(piece.len());
            start += piece.len();
            (from < to).then_some((piece, from..to))
        })
    }

    /// A part of it, shared.
    pub fn slice(&self, range: Range<usize>) -> Pieces {
        self.runs(range).map(|(piece, run)| piece.slice(run)).collect()
    }

    /// All of it in one piece: a copy, unless it is in one already.
    pub fn to_bytes(&self) -> Bytes {
        match self.list.as_slice() {
            [] => Bytes::new(),
            [one] => one.clone(),
            _ => self.copy(),
        }
    }

    /// A copy in one piece, which keeps nothing else in memory.
    pub fn copy(&self) -> Bytes {
        self.list.concat().into()
    }

    fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.len += piece.len();
            self.list.push(piece);
        }
    }
}

impl From<Bytes> for Pieces {
    fn from(bytes: Bytes) -> Pieces {
        Pieces::from_iter([bytes])
    }
}

impl From<Vec<u8>> for Pieces {
    fn from(bytes: Vec<u8>) -> Pieces {
        Bytes::from(bytes).into()
    }
}

impl FromIterator<Bytes> for Pieces {
    fn from_iter<I: IntoIterator<Item = Bytes>>(iter: I) -> Pieces {
        let mut pieces = Pieces::default();
        iter.into_iter().for_each(|piece| pieces.push(piece));
        pieces
    }
}

impl IntoIterator for Pieces {
    type Item = Bytes;
    type IntoIter = std::vec::IntoIter<Bytes>;

    fn into_iter(self) -> Self::IntoIter {
        self.list.into_iter()
    }
}

// === impl PiecesMut ===

impl PiecesMut {
    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.done.len + self.written.len()
    }

    /// Whether there are none yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes room for so many bytes that will be copied.
    pub fn reserve(&mut self, additional: usize) {
        self.written.reserve(additional);
    }

    /// Appends a copy.
    pub fn copy(&mut self, bytes: &[u8]) {
        self.written.extend_from_slice(bytes);
    }

    /// Appends a part of `piece`: shared if it is worth it, else as a copy.
    pub fn share(&mut self, piece: &Bytes, range: Range<usize>) {
        if range.len() < SHARED_FROM {
            return self.copy(&piece[range]);
        }
        if !self.written.is_empty() {
            self.done.push(self.written.split().freeze());
        }
        self.done.push(piece.slice(range));
    }

    /// Takes back all behind the first `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        if let Some(written) = len.checked_sub(self.done.len) {
            return self.written.truncate(written);
        }
        self.written.clear();
        self.done = self.done.slice(0..len);
    }

    /// What was put together.
    pub fn freeze(mut self) -> Pieces {
        self.done.push(self.written.freeze());
        self.done
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Pieces that add up to `bytes`, cut wherever `cuts` says.
    pub(crate) fn cut(bytes: &[u8], cuts: &[usize]) -> Pieces {
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
        at.extend([0, bytes.len()]);
        at.sort_unstable();
        let pieces = at
            .windows(2)
            .map(|ends| Bytes::copy_from_slice(&bytes[ends[0]..ends[1]]));
        pieces.collect()
    }

    #[test]
    fn a_long_run_is_shared_and_a_short_one_is_not() {
        let sent = Bytes::from(vec![7; SHARED_FROM + 1]);
        let mut out = PiecesMut::default();
        out.copy(b"before");
        out.share(&sent, 1..SHARED_FROM + 1);
        out.share(&sent, 1..SHARED_FROM);
        let out = out.freeze();
        let [before, shared, copied] = out.list.as_slice() else {
            panic!("three pieces, not {}", out.list.len());
        };
        assert_eq!(before, "before");
        assert_eq!(shared.as_ptr(), sent[1..].as_ptr());
        assert_eq!((copied.len(), copied == &sent[1..SHARED_FROM]), (SHARED_FROM - 1, true));
        assert_eq!(out.len(), 6 + 2 * SHARED_FROM - 1);
    }

    #[test]
    fn what_is_taken_back_may_have_been_shared() {
        let sent = Bytes::from(vec![7; SHARED_FROM]);
        for (keep, wanted) in [(0, ""), (3, "bef"), (6, "before")] {
            let mut out = PiecesMut::default();
            out.copy(b"before");
            out.share(&sent, 0..SHARED_FROM);
            out.copy(b"behind");
            out.truncate(keep);
            assert_eq!(out.len(), keep);
            out.copy(b"!");
            assert_eq!(out.freeze().to_bytes(), format!("{wanted}!"));
        }
    }

    proptest! {
        #[test]
        fn however_it_is_cut_it_reads_the_same(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            cuts in prop::collection::vec(any::<usize>(), 0..6),
            ends in any::<(usize, usize)>(),
        ) {
            let pieces = cut(&bytes, &cuts);
            prop_assert_eq!(pieces.len(), bytes.len());
            prop_assert_eq!(&pieces.to_bytes()[..], &bytes[..]);
            prop_assert!(pieces.iter().all(|piece| !piece.is_empty()));
            let (from, to) = (ends.0 % (bytes.len() + 1), ends.1 % (bytes.len() + 1));
            let range = from.min(to)..from.max(to);
            let slice = pieces.slice(range.clone());
            prop_assert_eq!(slice.len(), range.len());
            prop_assert_eq!(&slice.to_bytes()[..], &bytes[range]);
            prop_assert_eq!(pieces.slice(from..usize::MAX).len(), bytes.len() - from);
        }
    }
}
