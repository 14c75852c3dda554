//! Tables as git wrote them, and as it would write larger ones.

use std::fs;

use proptest::prelude::*;

use super::*;
use crate::workspace::vcs::Vcs;

/// `git init --ref-format=reftable -b main`, a commit, `git branch feature/x`; git 2.47.3.
const FIRST: &str = "52454654010010000000000000000001000000000000000372000082002348454144000f726566732f68656164732f6d\
61696e008021726566732f68656164732f666561747572652f78024c1c5b41d86d2f9d0327329f0a4e937ead15fa010b216d61696e014c1c5b41d8\
6d2f9d0327329f0a4e937ead15fa0100001c00003300026700017878da63c8f470757461f80f017f19b0001f9968c71bb9fa7399d58de673f94dae\
5b2bfa8b91319139d121a9f57adb1c170606b1e4fcdcdccc12058dccbccc92ccc41c4d2b85fcbc542e8686cca2d4b462fd8cd4c49462fdb4d4c492\
d2a254fd0a985d7f88b54b323835354521d1c0ccd2c8d0dc4021373133af0488538b8a0d91d80ea5c540522f2fbf28b520a7522f49b718a84b17a6\
4b2fb52231b7202715ea62a9a4a2c4bce40c2b05e722a0b380a6a715e5e7824de6e2ce0451b409100616068678062600b0d377c25245465401001000\
0000000000000001000000000000000300000000000000000000000000000000000000000000000000000000000000820000000000000000f542f840";
/// Then `git tag v1`.
const SECOND: &str = "524546540100100000000000000000040000000000000004720000440061726566732f746167732f7631004c1c5b41d8\
6d2f9d0327329f0a4e937ead15fa0100001c00015245465401001000000000000000000400000000000000040000000000000000000000000000000\
000000000000000000000000000000000000000000000000097bfb0b1";
const COMMIT: &str = "4c1c5b41d86d2f9d0327329f0a4e937ead15fa01";
const BLOCK: usize = 512;

fn bytes(hex: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(digit).collect()
}

/// A git directory with these tables, the oldest first.
fn git(tables: &[Vec<u8>]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("reftable")).unwrap();
    let mut names = String::new();
    for (i, table) in tables.iter().enumerate() {
        let name = format!("0x{i:012x}.ref");
        fs::write(dir.path().join("reftable").join(&name), table).unwrap();
        names += &format!("{name}\n");
    }
    fs::write(list(dir.path()), names).unwrap();
    dir
}

fn object(git: &tempfile::TempDir, name: &str) -> Option<String> {
    match find(git.path(), name)? {
        Ref::Object(id) => Some(id),
        Ref::Symbolic(_) => None,
    }
}

/// A record that shares nothing with the one before it. Names are shorter than 16 bytes.
fn record(name: &str, kind: u8, value: &[u8]) -> Vec<u8> {
    let mut record = vec![0, u8::try_from(name.len()).unwrap() << 3 | kind];
    record.extend_from_slice(name.as_bytes());
    record.push(0);
    record.extend_from_slice(value);
    record
}

/// A table of these records in blocks of at most [`BLOCK`] bytes.
fn table(records: &[Vec<u8>], padded: bool) -> Vec<u8> {
    let mut table = b"REFT\x01".to_vec();
    table.extend_from_slice(&[0, 2, 0]);
    table.extend_from_slice(&[0; 16]);
    let header = table.clone();
    let mut start = 0;
    let mut records = records.iter().peekable();
    while records.peek().is_some() {
        let head = table.len();
        table.extend_from_slice(b"r\0\0\0");
        while let Some(record) = records.next_if(|record| table.len() + record.len() + 5 <= start + BLOCK) {
            table.extend_from_slice(record);
        }
        table.extend_from_slice(&[0, 0, 4, 0, 1]);
        let length = u32::try_from(table.len() - start).unwrap().to_be_bytes();
        table[head + 1..head + 4].copy_from_slice(&length[1..]);
        if padded && records.peek().is_some() {
            table.resize(start + BLOCK, 0);
        }
        start = table.len();
    }
    table.extend_from_slice(&header);
    table.extend_from_slice(&[0; 44]);
    table
}

fn branches(ids: std::ops::Range<u8>) -> Vec<Vec<u8>> {
    ids.map(|id| record(&format!("refs/heads/{id:03}"), 1, &[id; 20]))
        .collect()
}

#[test]
fn what_git_wrote_is_read() {
    let git = git(&[bytes(FIRST), bytes(SECOND)]);
    assert_eq!(
        find(git.path(), "HEAD"),
        Some(Ref::Symbolic("refs/heads/main".to_owned()))
    );
    for name in ["refs/heads/main", "refs/heads/feature/x", "refs/tags/v1"] {
        assert_eq!(object(&git, name).as_deref(), Some(COMMIT), "{name}");
    }
    for name in ["refs/heads/mai", "refs/heads/main2", "refs/zzz", "A", ""] {
        assert_eq!(find(git.path(), name), None, "{name}");
    }
}

#[test]
fn a_checkout_with_tables_says_branch_and_commit_and_follows_them() {
    let root = tempfile::tempdir().unwrap();
    let tables = git(&[bytes(FIRST)]);
    let own = root.path().join(".git");
    fs::create_dir(&own).unwrap();
    fs::rename(tables.path().join("reftable"), own.join("reftable")).unwrap();
    fs::write(own.join("HEAD"), "ref: refs/heads/.invalid\n").unwrap();
    let vcs = Vcs::new(Some(root.path().to_owned()));
    let began = std::time::Instant::now();
    let mut looks = 0;
    let mut value = |key: &str| {
        looks += 1;
        let later = began + looks * super::super::GLANCE;
        let (_, attributes) = vcs.attributes_at(later);
        attributes
            .into_iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value)
    };
    assert_eq!(value("vcs.ref.head.name").as_deref(), Some("main"));
    assert_eq!(value("vcs.ref.head.revision").as_deref(), Some(COMMIT));
    // `git checkout --detach` to another commit: a new table, and a new list by rename.
    fs::write(
        own.join("reftable/new.ref"),
        table(&[record("HEAD", 1, &[7; 20])], true),
    )
    .unwrap();
    let names = fs::read_to_string(list(&own)).unwrap() + "new.ref\n";
    fs::write(own.join("reftable/tables.list.lock"), names).unwrap();
    fs::rename(own.join("reftable/tables.list.lock"), list(&own)).unwrap();
    assert_eq!(value("vcs.ref.head.revision"), Some("07".repeat(20)));
    assert_eq!(value("vcs.ref.head.name"), None);
}

#[test]
fn a_worktree_has_a_head_of_its_own_and_shares_the_branches() {
    let shared = git(&[table(&branches(0..3), true)]);
    let head = record("HEAD", 3, b"\x0erefs/heads/001");
    let own = git(&[table(&[head], true)]);
    fs::write(own.path().join("HEAD"), "ref: refs/heads/.invalid\n").unwrap();
    fs::write(own.path().join("commondir"), shared.path().display().to_string()).unwrap();
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join(".git"), format!("gitdir: {}\n", own.path().display())).unwrap();
    let (_, attributes) = Vcs::new(Some(root.path().to_owned())).attributes();
    let revision = ("vcs.ref.head.revision".to_owned(), "01".repeat(20));
    assert!(attributes.contains(&revision), "{attributes:?}");
}

#[test]
fn a_later_table_goes_before_an_earlier_one() {
    let deleted = record("refs/heads/002", 0, b"");
    let git = git(&[
        table(&branches(1..4), true),
        table(&[record("refs/heads/001", 1, &[9; 20]), deleted], true),
    ]);
    assert_eq!(object(&git, "refs/heads/001"), Some("09".repeat(20)));
    assert_eq!(find(git.path(), "refs/heads/002"), None);
    assert_eq!(object(&git, "refs/heads/003"), Some("03".repeat(20)));
}

#[test]
fn every_ref_of_a_table_of_many_blocks_is_found() {
    for padded in [true, false] {
        let git = git(&[table(&branches(0..200), padded)]);
        for id in 0..200u8 {
            let found = object(&git, &format!("refs/heads/{id:03}"));
            assert_eq!(found, Some(format!("{id:02x}").repeat(20)), "{padded}");
        }
        assert_eq!(find(git.path(), "refs/heads/200"), None);
    }
}

#[test]
fn an_annotated_tag_is_its_own_object() {
    let value = [[1; 20], [2; 20]].concat();
    let git = git(&[table(&[record("refs/tags/v1", 2, &value)], true)]);
    assert_eq!(object(&git, "refs/tags/v1"), Some("01".repeat(20)));
}

#[test]
fn a_list_that_leads_elsewhere_is_not_followed() {
    let git = git(&[bytes(FIRST)]);
    for name in ["../reftable/0x000000000000.ref", "/etc/passwd", "..", "absent.ref"] {
        fs::write(list(git.path()), format!("{name}\n")).unwrap();
        assert_eq!(find(git.path(), "HEAD"), None, "{name}");
    }
}

#[test]
fn a_number_that_is_too_large_is_none() {
    // The largest of eight bytes, with one more to come.
    let bytes = [&[0x80][..], &[0xfe; 8], &[0xff, 0]].concat();
    assert_eq!(varint(&mut &bytes[..]), None);
}

proptest! {
    #[test]
    fn damage_is_a_ref_that_is_not_there_and_never_a_panic(at in 0usize..404, with: u8, cut in 0usize..404) {
        let mut table = bytes(FIRST);
        table[at] = with;
        let damaged = git(&[table.clone()]);
        let _ = find(damaged.path(), "refs/heads/main");
        table.truncate(cut);
        let cut_off = git(&[table]);
        let _ = find(cut_off.path(), "refs/heads/main");
    }

    #[test]
    fn any_bytes_are_a_block_or_none(block: Vec<u8>) {
        let _ = find_in(&block, b"refs/heads/main", 20);
    }
}
