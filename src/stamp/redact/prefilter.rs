//! Whether bytes may hold something to redact: a few dozen literals, of which every built-in rule needs one.
//!
//! It may say yes to what turns out to be harmless, and never no to what a rule would replace, in whatever case that is
//! written; a test makes up what every rule matches, in any mix of cases.
//! The literals are chosen so that ordinary telemetry (semantic conventions, SQL, paths, token counts of language
//! models) does not hit. The packed searcher compares bytes as they are and is an order of magnitude faster than an
//! automaton that folds case; so it is given what it searches, and the literals, with one bit set that makes a capital
//! letter a small one. That is a fifth more than to search the bytes as they are, which has room for a few spellings
//! only. None of the literals is shorter than four bytes, because the shortest one bounds how much of each the packed
//! searcher can compare at once.

use std::cell::RefCell;

use aho_corasick::{AhoCorasick, MatchKind, packed};
use regex_syntax::hir::literal::Extractor;

/// When a literal counts, judged by the bytes around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Where {
    /// Anywhere, but only as it is spelled here.
    Spelled,
    Anywhere,
    /// Not where it goes on as another word: `tokens`, `token_type`, `token.count`.
    /// No byte in this list can be the tag of a field that we know, so a key at the very end of its message counts.
    WordEnd,
    /// Only as the name of a parameter, behind `?`, `&`, `;` or `,`.
    Parameter,
    /// Only in an HTTP header's name or attribute: `header.cookie`, `header.set-cookie`, `Cookie:`.
    Header,
}

use Where::{Anywhere, Header, Parameter, Spelled, WordEnd};

/// Sixty-four is the most that the packed searcher takes.
#[rustfmt::skip]
const LITERALS: [(&str, Where); 54] = [
    // Credentials that are known by their shape.
    ("AKIA", Spelled), ("ASIA", Spelled),
    ("ghp_", Spelled), ("gho_", Spelled), ("ghu_", Spelled), ("ghs_", Spelled), ("ghr_", Spelled), ("github_pat_", Spelled),
    ("glpat-", Spelled), ("gldt-", Spelled), ("glrt-", Spelled), ("glrtr-", Spelled), ("glcbt-", Spelled), ("glptt-", Spelled),
    ("glft-", Spelled), ("glsoat-", Spelled),
    ("xoxb-", Spelled), ("xoxp-", Spelled), ("xoxa-", Spelled), ("xoxs-", Spelled), ("xoxe", Spelled), ("xapp-", Spelled),
    ("hooks.slack.com/", Spelled),
    ("AIza", Spelled), ("ya29.", Spelled), ("GOCSPX-", Spelled),
    ("k_live_", Spelled), ("npm_", Spelled), ("pypi-AgE", Spelled),
    ("sk-proj-", Spelled), ("sk-ant-", Spelled), ("sk-svcacct-", Spelled), ("T3BlbkFJ", Spelled),
    ("PRIVATE KEY", Spelled), (".eyJ", Spelled),
    // Names that a secret stands behind, in text or as an attribute key; without the first letter, which is more common.
    ("earer ", Anywhere), ("asic ", Anywhere), ("uthorization", Anywhere),
    ("assw", Anywhere), ("assphrase", Anywhere), ("ecret", Anywhere), ("oken", WordEnd),
    ("pi_key", Anywhere), ("pi-key", Anywhere), ("pikey", Anywhere),
    ("rivate_key", Anywhere), ("rivate-key", Anywhere), ("rivatekey", Anywhere),
    ("ccountkey", Anywhere), ("ccesskey", Anywhere),
    ("ignature=", Anywhere), ("sig=", Parameter), ("pwd=", Parameter),
    ("ookie", Header),
];

/// The longest of the literals.
const LONGEST: usize = 16;

/// What makes a capital letter a small one. It makes some other bytes alike too, which is a yes too many at worst.
const SMALL: u8 = 0x20;

/// So much is folded and searched at a time: little enough that it is still in the nearest cache.
const PIECE: usize = 16 * 1024;

thread_local! {
    /// Each thread's own: to clear one for every search costs half as much again as folding.
    static FOLDED: RefCell<[u8; PIECE]> = const { RefCell::new([0; PIECE]) };
}

/// A user's rule must have this many literal bytes in a row to be looked for.
const SHORTEST: usize = 4;

/// The searcher for all literals.
#[derive(Debug)]
pub(super) struct Prefilter {
    /// One of the user's rules has nothing to look for, so everything may hit.
    always: bool,
    /// The built-in literals, in the searcher's order, and when each counts.
    literals: Vec<(&'static str, Where)>,
    built_in: Searcher,
    /// Of the user's rules, apart so that they never push the built-in ones out of the packed searcher.
    users: Option<Searcher>,
}

#[derive(Debug)]
enum Searcher {
    Packed(packed::Searcher),
    /// Where the processor has no instructions for the packed one.
    Automaton(AhoCorasick),
}

impl Prefilter {
    /// `patterns` and `keys` are the user's.
    pub(super) fn new(patterns: &[String], keys: &[String]) -> Prefilter {
        let wanted = patterns.iter().map(|pattern| starts(pattern));
        let wanted = wanted.chain(keys.iter().map(|key| part(key)));
        // `None` as soon as one rule has nothing to look for.
        let users: Option<Vec<Vec<u8>>> = wanted.collect::<Option<Vec<_>>>().map(|rules| rules.concat());
        let literals: Vec<_> = dealt().collect();
        let small: Vec<_> = literals.iter().map(|(literal, _)| folded(literal)).collect();
        Prefilter {
            always: users.is_none(),
            literals,
            built_in: Searcher::new(&small),
            users: users
                .filter(|users| !users.is_empty())
                .map(|users| Searcher::new(&users)),
        }
    }

    /// Whether a rule may have something to replace in `bytes`, a whole request or a single string.
    pub(super) fn hits(&self, bytes: &[u8]) -> bool {
        self.hits_users(bytes) || self.hits_built_in(bytes)
    }

    /// Whether one of the user's rules may.
    pub(super) fn hits_users(&self, bytes: &[u8]) -> bool {
        self.always || self.users.as_ref().is_some_and(|users| users.find(bytes, 0).is_some())
    }

    /// Whether one of the built-in rules may.
    pub(super) fn hits_built_in(&self, bytes: &[u8]) -> bool {
        self.hits_literal(bytes) || hits_userinfo(bytes)
    }

    fn hits_literal(&self, bytes: &[u8]) -> bool {
        let mut from = 0;
        FOLDED.with_borrow_mut(|folded| {
            loop {
                let piece = &bytes[from..bytes.len().min(from + PIECE)];
                let folded = &mut folded[..piece.len()];
                fold(piece, folded);
                if self.hits_in(bytes, from, folded) {
                    return true;
                }
                if from + PIECE >= bytes.len() {
                    return false;
                }
                // No literal is cut in two.
                from += PIECE - LONGEST;
            }
        })
    }

    /// Whether a literal counts that is in `piece`, which is what stands in `bytes` at `from`, folded.
    fn hits_in(&self, bytes: &[u8], from: usize, piece: &[u8]) -> bool {
        let mut at = 0;
        while let Some((index, start, end)) = self.built_in.find(piece, at) {
            let (literal, counts) = self.literals[index];
            if counts.counts(literal, bytes, from + start, from + end) {
                return true;
            }
            at = start + 1;
        }
        false
    }
}

/// Writes the same with every letter small. Sixteen at a time: built for size, this is not made faster than it is written.
fn fold(bytes: &[u8], out: &mut [u8]) {
    let (blocks, rest) = bytes.as_chunks::<16>();
    let (out_blocks, out_rest) = out.as_chunks_mut::<16>();
    for (block, out) in blocks.iter().zip(out_blocks) {
        *out = (u128::from_ne_bytes(*block) | u128::from_ne_bytes([SMALL; 16])).to_ne_bytes();
    }
    for (byte, out) in rest.iter().zip(out_rest) {
        *out = byte | SMALL;
    }
}

fn folded(literal: &str) -> Vec<u8> {
    literal.bytes().map(|byte| byte | SMALL).collect()
}

/// The built-in literals in the order in which the packed searcher likes them best.
///
/// It deals them out to sixteen buckets in turn (but for those that are alike in the low halves), and first looks only
/// whether each half of a byte occurs somewhere in a bucket. So that ordinary text seldom passes, a bucket gets those that
/// begin alike. Unsorted, a third of the search went to what turned out to be nothing.
fn dealt() -> impl Iterator<Item = (&'static str, Where)> {
    const BUCKETS: usize = 16;
    const EACH: usize = LITERALS.len() / BUCKETS;
    /// So many buckets get one more.
    const MORE: usize = LITERALS.len() % BUCKETS;
    let mut alike = LITERALS;
    alike.sort_by_key(|(literal, _)| folded(literal));
    (0..LITERALS.len()).map(move |index| {
        let bucket = index % BUCKETS;
        alike[bucket * EACH + bucket.min(MORE) + index / BUCKETS]
    })
}

/// What every match of a user's pattern starts with, one of these; `None` if that is not known or too short.
fn starts(pattern: &str) -> Option<Vec<Vec<u8>>> {
    let expression = regex_syntax::parse(pattern).ok()?;
    let starts = Extractor::new().extract(&expression);
    let starts: Vec<Vec<u8>> = starts
        .literals()?
        .iter()
        .map(|literal| literal.as_bytes().to_vec())
        .collect();
    (!starts.is_empty() && starts.iter().all(|start| start.len() >= SHORTEST)).then_some(starts)
}

/// The longest part of a user's key between its `*`; `None` if it is too short.
fn part(key: &str) -> Option<Vec<Vec<u8>>> {
    let longest = key.split('*').max_by_key(|part| part.len()).unwrap_or("");
    (longest.len() >= SHORTEST).then(|| vec![longest.as_bytes().to_vec()])
}

/// Whether some `://user:password@` stands in `bytes`. Its only literals are in every URL, so it is found from its end.
fn hits_userinfo(bytes: &[u8]) -> bool {
    memchr::memchr_iter(b'@', bytes).any(|at| {
        let before = bytes[..at].iter().rev();
        let userinfo =
            before.take_while(|byte| !byte.is_ascii_control() && !matches!(byte, b' ' | b'/' | b'@' | b'"' | b'\''));
        let start = at - userinfo.count();
        bytes[..start].ends_with(b"://") && bytes[start..at].contains(&b':')
    })
}

// === impl Where ===

impl Where {
    /// Whether `literal` counts that was found from `start` to `end` of `bytes`, in some case.
    fn counts(self, literal: &str, bytes: &[u8], start: usize, end: usize) -> bool {
        match self {
            Spelled => &bytes[start..end] == literal.as_bytes(),
            Anywhere => true,
            WordEnd => !matches!(bytes.get(end), Some(b's' | b'S' | b'_' | b'.' | b'-')),
            Parameter => start > 0 && matches!(bytes[start - 1], b'?' | b'&' | b';' | b','),
            Header => {
                let before = ["header.c", "header.setc", "header.set-c", "header.set_c"];
                let before = before.iter().any(|before| {
                    let from = start.checked_sub(before.len());
                    from.is_some_and(|from| bytes[from..start].eq_ignore_ascii_case(before.as_bytes()))
                });
                before || bytes.get(end) == Some(&b':')
            }
        }
    }
}

// === impl Searcher ===

impl Searcher {
    fn new<L: AsRef<[u8]>>(literals: &[L]) -> Searcher {
        match packed::Searcher::new(literals) {
            Some(searcher) => Searcher::Packed(searcher),
            None => Searcher::Automaton(
                AhoCorasick::builder()
                    .match_kind(MatchKind::LeftmostFirst)
                    .build(literals)
                    .expect("a few short literals fit an automaton"),
            ),
        }
    }

    /// The next literal from `at` on: which, its start and its end.
    fn find(&self, bytes: &[u8], at: usize) -> Option<(usize, usize, usize)> {
        match self {
            Searcher::Packed(searcher) => searcher
                .find_in(bytes, (at..bytes.len()).into())
                .map(|found| (found.pattern().as_usize(), found.start(), found.end())),
            Searcher::Automaton(automaton) => automaton
                .find(aho_corasick::Input::new(bytes).range(at..))
                .map(|found| (found.pattern().as_usize(), found.start(), found.end())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn the_literals_fit_the_packed_searcher() {
        assert!(matches!(Prefilter::new(&[], &[]).built_in, Searcher::Packed(_)));
    }

    #[test]
    fn every_literal_is_dealt_out() {
        let mut dealt: Vec<_> = dealt().map(|(literal, _)| literal).collect();
        let mut listed = LITERALS.map(|(literal, _)| literal);
        dealt.sort_unstable();
        listed.sort_unstable();
        assert_eq!(dealt, listed);
    }

    #[test]
    fn literals_are_of_the_right_length_and_none_begins_another() {
        for (index, (literal, _)) in LITERALS.iter().enumerate() {
            assert!((SHORTEST..=LONGEST).contains(&literal.len()), "{literal}");
            for (_, (other, _)) in LITERALS.iter().enumerate().filter(|(at, _)| *at != index) {
                let (literal, other) = (folded(literal), folded(other));
                assert!(!literal.starts_with(&other), "{literal:?} {other:?}");
            }
        }
    }

    #[test]
    fn a_literal_is_found_wherever_pieces_meet() {
        let prefilter = Prefilter::new(&[], &[]);
        for meeting in [PIECE, 2 * PIECE - LONGEST] {
            for start in meeting - 2 * LONGEST..=meeting {
                let mut bytes = vec![b'x'; start];
                assert!(!prefilter.hits(&bytes));
                bytes.extend_from_slice(b"hooks.slack.com/");
                assert!(prefilter.hits(&bytes), "{start}");
                bytes.resize(3 * PIECE, b'x');
                assert!(prefilter.hits(&bytes), "{start}");
            }
        }
    }

    #[test]
    fn ordinary_telemetry_does_not_hit() {
        let prefilter = Prefilter::new(&[], &[]);
        for text in [
            "gen_ai.usage.input_tokens",
            "gen_ai.usage.output_tokens gen_ai.token.type llm.token_count.total",
            "http.request.method GET url.full https://shop.example/cart?item=7&key=value&page=2#top",
            "db.query.text SELECT key, value FROM settings WHERE id = $1 ORDER BY created_at",
            "session.id enduser.id ada@example.org user.email k8s.pod.uid monkey keyboard",
            "code.file.path node_modules/@opentelemetry/sdk-node/build/src/index.js",
            "middleware - cookieParser express.type",
            "npm run build pwd=/home/ada config=debug",
            "PWD=/home/ada TZ=Asia/Tokyo MAX_TOKENS=512 Gho_ NPM_CONFIG_CACHE BASICS Cookie-Parser",
            "ssh://git@example.org/ada/shop.git git@example.org:ada/shop.git",
            "rpc.service messaging.kafka.message.key process.command_args service.instance.id",
        ] {
            assert!(!prefilter.hits(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn a_literal_behind_one_that_does_not_count_is_still_found() {
        let prefilter = Prefilter::new(&[], &[]);
        assert!(prefilter.hits(b"input_tokens=5 access_token=abc"));
        assert!(prefilter.hits(b"tokens AKIAIOSFODNN7EXAMPLE"));
    }

    #[test]
    fn a_key_at_the_end_of_its_message_counts_whatever_field_stands_behind_it() {
        use crate::otlp::wire::{WireType, put_tag};

        let prefilter = Prefilter::new(&[], &[]);
        for (wire_type, numbers) in [
            (WireType::Varint, 1..=16),
            (WireType::Fixed64, 1..=16),
            (WireType::Bytes, 1..=16),
            (WireType::Fixed32, 6..=8),
        ] {
            for number in numbers {
                let mut key = b"access_token".to_vec();
                put_tag(&mut key, number, wire_type);
                assert!(prefilter.hits(&key), "{wire_type:?} {number}");
            }
        }
    }

    #[test]
    fn the_users_rules_are_looked_for_by_what_they_start_with() {
        let prefilter = Prefilter::new(&[r"\b(?i:ticket)-\d+|ACME\d".to_owned()], &["customer.*".to_owned()]);
        assert!(!prefilter.always);
        for text in ["a Ticket-1", "ACME7", "customer.name"] {
            assert!(prefilter.hits(text.as_bytes()), "{text}");
        }
        assert!(!prefilter.hits(b"an acme customer"));
        for pattern in [r"\d{16}", "(?i).*x", "a|bcdef", ""] {
            assert!(Prefilter::new(&[pattern.to_owned()], &[]).always, "{pattern}");
        }
        assert!(Prefilter::new(&[], &["*.pin".to_owned(), "*".to_owned()]).always);
        assert!(!Prefilter::new(&[], &["*.pin".to_owned()]).always);
    }
}
