//! Whether files that are found here were made here: a snapshot that is resumed twice brings the same files into two
//! places, and neither may go on with the other's cursor.
//!
//! A place is the workspace's id, and where its files were made as far as that can be told. It is written beside what it
//! protects and compared when that is found again. Of the machine it keeps hashes alone.

use super::{Files, hex};
use crate::system::{self, Layer};
use std::{collections::BTreeMap, fmt, path::Path};

/// Set before what is hashed, so that the hash is of no use for finding the same machine in somebody else's data.
const SALT: &str = "tagalong birthplace\n";

/// One workspace, wherever its files are carried.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// What the platform, or the kept file, calls it; not what the settings do. Empty: not known.
    pub id: String,
    /// Whether the platform itself gives the id: then it has one for each workspace, and two ids are two workspaces.
    /// An id that somebody passes may be passed from one day to the next.
    pub certain: bool,
    /// Where the state directory was made; none if that cannot be told, or if the files are meant to be carried along.
    pub born: Option<Birthplace>,
}

/// What tells one machine or container from a copy of it: for each thing that it says of itself, a hash of that.
///
/// They are compared one by one, and what only one of two says decides nothing: root reads more than others do, and a
/// package that is installed later says something new.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Birthplace(BTreeMap<String, String>);

impl Place {
    /// As it is written beside what it protects.
    pub fn to_text(&self) -> String {
        let certain = if self.certain { "platform" } else { "asserted" };
        let born = self.born.clone().unwrap_or_default();
        format!("{}\n{certain}\n{born}\n", self.id)
    }

    /// Whether what was written at `text`'s place is this one's own: the same id, or on the same machine another id that
    /// no platform stands for, where only the name has changed. What does not say whose it is belongs to whoever finds it.
    pub fn owns(&self, text: &str) -> bool {
        let mut lines = text.lines();
        let mut line = || lines.next().unwrap_or_default();
        let (id, certain, born) = (line(), line() == "platform", Birthplace::parse(line()));
        let is_same_machine = self.born.as_ref().and_then(|here| here.is(&born)) == Some(true);
        let is_renamed = is_same_machine && !(certain && self.certain);
        id.is_empty() || self.id.is_empty() || id == self.id || is_renamed
    }
}

// === impl Birthplace ===

impl Birthplace {
    /// What [`fmt::Display`] writes. What is not understood is left out, so that it decides nothing.
    pub fn parse(line: &str) -> Birthplace {
        let facts = line.split_whitespace().filter_map(|fact| fact.split_once(':'));
        Birthplace(facts.map(|(name, hash)| (name.to_owned(), hash.to_owned())).collect())
    }

    /// The same with one more fact; an empty one says nothing.
    pub fn and(mut self, name: &'static str, value: &str) -> Birthplace {
        if !value.is_empty() {
            self.0.insert(name.to_owned(), hashed(value));
        }
        self
    }

    /// Whether nothing is known of it.
    pub fn is_unknown(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether both are the same machine; none if they say nothing that could be compared.
    pub fn is(&self, other: &Birthplace) -> Option<bool> {
        let mut both = self
            .0
            .iter()
            .filter_map(|(name, hash)| Some(hash == other.0.get(name)?))
            .peekable();
        both.peek()?;
        Some(both.all(|is_same| is_same))
    }

    /// Where what rests in `dir` was made; none if it is meant to be carried along, or if nothing says where this is.
    ///
    /// In a container whose root is an overlay it is the overlay's upper directory with the host's name: both stay over a
    /// stop and are new in every other container of the same image. What is on a volume is carried from container to
    /// container on purpose, so there is none for it. Elsewhere it is what the machine says of itself.
    ///
    /// What cannot be told: a clone that says all the same, and a machine whose memory was kept with its disk and resumed
    /// twice, where even the boot is the same one. Another boot alone means nothing, because a machine that was switched
    /// off and on looks like that too; neither does another network address, which some virtual machines get at every
    /// start. There each goes on with the same spool and, in the second case, with the same session and credential: what
    /// was unsent then is sent by both. Nothing is lost, and nothing gets another name.
    pub fn of_files_in(dir: &Path, files: &Files) -> Option<Birthplace> {
        let read = |path: &str| files.read(path);
        let facts = match system::layer_of(dir, &read) {
            Layer::Volume => return None,
            Layer::Container(name) => vec![(
                "container",
                format!("{name}\n{}", files.host_name().unwrap_or_default()),
            )],
            Layer::Machine => system::machine_marks(&read),
        };
        (!facts.is_empty()).then(|| Birthplace::of(facts))
    }

    fn of(facts: impl IntoIterator<Item = (&'static str, String)>) -> Birthplace {
        let facts = facts.into_iter();
        facts.fold(Birthplace::default(), |born, (name, value)| born.and(name, &value))
    }
}

impl fmt::Display for Birthplace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let facts: Vec<String> = self.0.iter().map(|(name, hash)| format!("{name}:{hash}")).collect();
        f.write_str(&facts.join(" "))
    }
}

fn hashed(value: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, format!("{SALT}{value}").as_bytes());
    hex(&digest.as_ref()[..16])
}
