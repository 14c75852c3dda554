//! Marked blocks: lines of ours in somebody else's text, between two comments, to be found and taken out again.
//!
//! ```text
//! # >>> tagalong            and in brackets what taking it out has to undo: "new" (there was no file before),
//! …                         "no newline" (the text did not end with one)
//! # <<< tagalong
//! ```
//!
//! It knows lines and nothing of what they mean; whoever inserts checks that the text still means what it meant.

const BEGIN: &str = "# >>> tagalong";
const END: &str = "# <<< tagalong";
const NO_NEWLINE: &str = " (no newline)";
const NEW: &str = " (new)";

/// A text without our blocks.
pub(super) struct Removed {
    text: String,
    was_new: bool,
}

/// How a text ends its lines: as its first line does.
pub(super) fn newline(text: &str) -> &'static str {
    match text.find('\n') {
        Some(at) if text[..at].ends_with('\r') => "\r\n",
        _ => "\n",
    }
}

/// `text` with `body` as a block of its own after the first `line` lines, all of it indented by `indent` blanks.
pub(super) fn insert(text: &str, line: usize, indent: usize, body: &str) -> String {
    let newline = newline(text);
    let at = offset(text, line);
    let (above, below) = text.split_at(at);
    let cut_short = !above.is_empty() && !above.ends_with('\n');
    let blanks = " ".repeat(indent);
    let mut out = String::with_capacity(text.len() + body.len() + 128);
    out.push_str(above);
    if cut_short {
        out.push_str(newline);
    }
    out.extend([blanks.as_str(), BEGIN, if cut_short { NO_NEWLINE } else { "" }, newline]);
    for line in body.lines() {
        if !line.is_empty() {
            out.push_str(&blanks);
        }
        out.extend([line, newline]);
    }
    out.extend([blanks.as_str(), END, newline]);
    out.push_str(below);
    out
}

/// Notes in the first block that there was no file before.
pub(super) fn mark_new(text: &str) -> String {
    text.replacen(BEGIN, &[BEGIN, NEW].concat(), 1)
}

/// The same lines with marks that are not ours.
pub(super) fn with_other_marks(text: &str) -> String {
    text.replace(BEGIN, "# >>> another").replace(END, "# <<< another")
}

/// Takes every block out. One that does not end is not ours, and stays.
pub(super) fn remove(text: &str) -> Removed {
    let mut out = String::with_capacity(text.len());
    let mut was_new = false;
    let mut rest = text;
    while let Some((begin, flags)) = find_begin(rest) {
        let Some(length) = block_length(&rest[begin..]) else {
            break;
        };
        out.push_str(&rest[..begin]);
        was_new |= flags.contains(NEW);
        if flags.contains(NO_NEWLINE) {
            out.truncate(out.trim_end_matches(['\r', '\n']).len());
        }
        rest = &rest[begin + length..];
    }
    out.push_str(rest);
    Removed { text: out, was_new }
}

/// Where the first block's line begins, and what stands after the mark.
fn find_begin(text: &str) -> Option<(usize, &str)> {
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let flags = line.trim().strip_prefix(BEGIN);
        if let Some(flags) = flags.filter(|flags| flags.is_empty() || flags.starts_with(" (")) {
            return Some((at, flags));
        }
        at += line.len();
    }
    None
}

/// How long the block is with which `text` begins.
fn block_length(text: &str) -> Option<usize> {
    let mut length = 0;
    for line in text.split_inclusive('\n') {
        length += line.len();
        if line.trim() == END {
            return Some(length);
        }
    }
    None
}

fn offset(text: &str, line: usize) -> usize {
    text.split_inclusive('\n').take(line).map(str::len).sum()
}

// === impl Removed ===

impl Removed {
    /// What is left, as a file: none if there was none, or if there was none before ours.
    pub(super) fn text(self, is_there: bool) -> Option<String> {
        let vanishes = self.was_new && self.text.is_empty();
        (is_there && !vanishes).then_some(self.text)
    }

    /// What is left.
    pub(super) fn remaining(&self) -> &str {
        &self.text
    }

    /// Whether the file was ours from the start.
    pub(super) fn was_new(&self) -> bool {
        self.was_new
    }
}
