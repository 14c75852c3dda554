//! Checkouts as git writes them, made by hand: the tests need no git.

use super::*;
use std::{collections::BTreeMap, fs, path::Path};

const ONE: &str = "1111111111111111111111111111111111111111";
const TWO: &str = "2222222222222222222222222222222222222222";
const CONFIG: &str = "[core]\n\tbare = false\n[remote \"origin\"]\n\turl = git@github.com:acme/app.git\n";

/// Writes as git does: aside, then by rename.
fn put(root: &Path, name: &str, text: &str) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let lock = path.with_extension("lock");
    fs::write(&lock, text).unwrap();
    fs::rename(lock, path).unwrap();
}

fn checkout() -> (tempfile::TempDir, Vcs) {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), ".git/HEAD", "ref: refs/heads/main\n");
    put(dir.path(), ".git/refs/heads/main", &format!("{ONE}\n"));
    put(dir.path(), ".git/config", CONFIG);
    let vcs = Vcs::new(Some(dir.path().to_owned()));
    (dir, vcs)
}

/// Looks at a time that is later than that of any look before.
fn look(vcs: &Vcs) -> (u64, Vec<(String, String)>) {
    let looked = vcs.state.lock().unwrap().looked;
    vcs.attributes_at(looked.unwrap_or_else(Instant::now) + GLANCE)
}

fn now(vcs: &Vcs) -> BTreeMap<String, String> {
    look(vcs).1.into_iter().collect()
}

#[track_caller]
fn is_at(vcs: &Vcs, branch: Option<&str>, revision: Option<&str>) {
    let now = now(vcs);
    assert_eq!(now.get("vcs.ref.head.name").map(String::as_str), branch);
    assert_eq!(now.get("vcs.ref.head.revision").map(String::as_str), revision);
}

fn url_of(remote: &str) -> Option<String> {
    Remote::parse(remote)?.url
}

#[test]
fn a_checkout_says_repository_branch_and_commit() {
    let (_dir, vcs) = checkout();
    let now = now(&vcs);
    let now: Vec<(&str, &str)> = now.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(
        now,
        [
            ("vcs.owner.name", "acme"),
            ("vcs.provider.name", "github"),
            ("vcs.ref.head.name", "main"),
            ("vcs.ref.head.revision", ONE),
            ("vcs.ref.type", "branch"),
            ("vcs.repository.name", "app"),
            ("vcs.repository.url.full", "https://github.com/acme/app"),
        ]
    );
}

#[test]
fn a_commit_a_switch_and_a_new_remote_show_at_the_very_next_look() {
    let (dir, vcs) = checkout();
    is_at(&vcs, Some("main"), Some(ONE));
    put(dir.path(), ".git/refs/heads/main", &format!("{TWO}\n"));
    is_at(&vcs, Some("main"), Some(TWO));
    put(dir.path(), ".git/refs/heads/feature/x", &format!("{ONE}\n"));
    put(dir.path(), ".git/HEAD", "ref: refs/heads/feature/x\n");
    is_at(&vcs, Some("feature/x"), Some(ONE));
    put(dir.path(), ".git/refs/heads/feature/x", &format!("{TWO}\n"));
    is_at(&vcs, Some("feature/x"), Some(TWO));
    put(
        dir.path(),
        ".git/config",
        "[remote \"origin\"]\nurl = https://gitlab.com/a/b/c\n",
    );
    assert_eq!(now(&vcs)["vcs.owner.name"], "a/b");
}

#[test]
fn within_a_glance_nothing_is_looked_at_again() {
    let (dir, vcs) = checkout();
    let first = Instant::now();
    let seen = vcs.attributes_at(first);
    put(dir.path(), ".git/HEAD", &format!("{TWO}\n"));
    assert_eq!(vcs.attributes_at(first + GLANCE - Duration::from_nanos(1)), seen);
    assert_eq!(
        vcs.attributes_at(first - GLANCE),
        seen,
        "a clock that goes back is no reason to look"
    );
    assert_ne!(vcs.attributes_at(first + GLANCE), seen);
}

#[test]
fn the_number_changes_with_the_attributes_and_only_then() {
    let (dir, vcs) = checkout();
    let (first, _) = look(&vcs);
    assert_eq!(look(&vcs).0, first);
    put(dir.path(), ".git/HEAD", "ref: refs/heads/main\n");
    assert_eq!(look(&vcs).0, first, "the same said again is no change");
    put(dir.path(), ".git/refs/heads/main", &format!("{TWO}\n"));
    assert_ne!(look(&vcs).0, first);
}

#[test]
fn a_packed_ref_counts_until_a_loose_one_is_written() {
    let (dir, vcs) = checkout();
    is_at(&vcs, Some("main"), Some(ONE));
    let packed =
        format!("# pack-refs with: peeled fully-peeled sorted\n{ONE} refs/heads/amain\n{TWO} refs/heads/main\n");
    put(dir.path(), ".git/packed-refs", &packed);
    fs::remove_file(dir.path().join(".git/refs/heads/main")).unwrap();
    is_at(&vcs, Some("main"), Some(TWO));
    put(dir.path(), ".git/packed-refs", &packed.replace(TWO, ONE));
    is_at(&vcs, Some("main"), Some(ONE));
    put(dir.path(), ".git/refs/heads/main", &format!("{TWO}\n"));
    is_at(&vcs, Some("main"), Some(TWO));
}

#[test]
fn a_detached_head_has_a_commit_and_no_name() {
    let (dir, vcs) = checkout();
    put(dir.path(), ".git/HEAD", &format!("{TWO}\n"));
    is_at(&vcs, None, Some(TWO));
    assert!(!now(&vcs).contains_key("vcs.ref.type"));
}

#[test]
fn a_branch_without_a_commit_has_a_name_alone() {
    let (dir, vcs) = checkout();
    put(dir.path(), ".git/HEAD", "ref: refs/heads/new\n");
    is_at(&vcs, Some("new"), None);
}

#[test]
fn a_worktree_has_its_own_head_and_the_shared_rest() {
    let (dir, _) = checkout();
    put(dir.path(), ".git/worktrees/other/HEAD", "ref: refs/heads/other\n");
    put(dir.path(), ".git/worktrees/other/commondir", "../..\n");
    put(dir.path(), ".git/refs/heads/other", &format!("{TWO}\n"));
    put(
        dir.path(),
        "beside/.git",
        &format!("gitdir: {}\n", dir.path().join(".git/worktrees/other").display()),
    );
    let vcs = Vcs::new(Some(dir.path().join("beside")));
    is_at(&vcs, Some("other"), Some(TWO));
    assert_eq!(now(&vcs)["vcs.repository.name"], "app");
}

#[test]
fn a_submodule_is_found_by_a_relative_path() {
    let (dir, _) = checkout();
    put(dir.path(), ".git/modules/sub/HEAD", &format!("{TWO}\n"));
    put(dir.path(), "sub/.git", "gitdir: ../.git/modules/sub\n");
    is_at(&Vcs::new(Some(dir.path().join("sub"))), None, Some(TWO));
}

#[test]
fn without_a_readable_head_there_is_nothing_until_there_is_one() {
    let dir = tempfile::tempdir().unwrap();
    let vcs = Vcs::new(Some(dir.path().to_owned()));
    assert_eq!(look(&vcs), (0, vec![]));
    put(dir.path(), ".git/HEAD", "ref: refs/heads/main\n");
    put(dir.path(), ".git/refs/heads/main", &format!("{ONE}\n"));
    is_at(&vcs, Some("main"), Some(ONE));
    put(dir.path(), ".git/HEAD", "nonsense\n");
    assert_eq!(look(&vcs).1, []);
    fs::remove_dir_all(dir.path().join(".git")).unwrap();
    assert_eq!(look(&vcs).1, []);
    assert_eq!(look(&Vcs::new(None)), (0, vec![]));
}

#[test]
fn a_head_that_leads_out_of_the_git_directory_is_not_followed() {
    let (dir, vcs) = checkout();
    put(dir.path(), "elsewhere", &format!("{TWO}\n"));
    for name in [
        "refs/../../elsewhere",
        "../elsewhere",
        "/etc/passwd",
        "refs/heads/a\u{1b}[0m",
        "refs/heads/.hidden",
    ] {
        put(dir.path(), ".git/HEAD", &format!("ref: {name}\n"));
        assert_eq!(look(&vcs).1, [], "{name}");
    }
}

#[test]
fn a_repository_whose_tables_are_not_to_be_read_says_only_which_it_is() {
    let (dir, vcs) = checkout();
    put(dir.path(), ".git/HEAD", "ref: refs/heads/.invalid\n");
    is_at(&vcs, None, None);
    assert_eq!(now(&vcs)["vcs.repository.name"], "app");
}

#[test]
fn a_pipe_in_place_of_a_file_holds_nobody_up() {
    let (dir, vcs) = checkout();
    let config = dir.path().join(".git/config");
    fs::remove_file(&config).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &config,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    is_at(&vcs, Some("main"), Some(ONE));
}

#[test]
fn every_form_of_a_remote_becomes_one_web_address() {
    for remote in [
        "git@github.com:acme/app.git",
        "github.com:acme/app",
        "ssh://git@github.com/acme/app.git",
        "ssh://git@ssh.github.com:443/acme/app.git",
        "git+ssh://git@GitHub.com:22/acme/app.git/",
        "git://github.com/acme/app",
        "https://github.com/acme/app.git",
    ] {
        assert_eq!(
            url_of(remote).as_deref(),
            Some("https://github.com/acme/app"),
            "{remote}"
        );
    }
    assert_eq!(
        url_of("http://git.example:8080/a/b").as_deref(),
        Some("http://git.example:8080/a/b")
    );
    assert_eq!(url_of("git@[::1]:a/b.git").as_deref(), Some("https://[::1]/a/b"));
}

#[test]
fn no_remote_keeps_a_credential_in_any_form() {
    for remote in [
        "https://s3cret@github.com/acme/app.git",
        "https://user:s3cret@github.com/acme/app.git",
        "https://oauth2:s3cret@gitlab.com/acme/app.git?private_token=s3cret#s3cret",
        "ssh://user:s3cret@github.com/acme/app.git",
        "user:s3cret@github.com:acme/app.git",
        "x@s3cret@github.com:acme/app.git",
        "https://user:s3/cret@github.com/acme/app.git",
        "https:/user:s3cret@github.com/acme/app.git",
        "file:///home/s3cret/app",
        "/home/s3cret/app",
        "ext::helper s3cret@x",
        "https://user:s3cret@",
        "https://mirror.example/https://user:s3cret@github.com/acme/app.git",
        "https:/user:s3cret@github.com/acme/app.git",
        "mirror.example:/https/user:s3cret@github.com/acme/app.git",
    ] {
        let said = format!("{:?}", Remote::parse(remote).map(|remote| remote.attributes()));
        assert!(!said.contains("s3"), "{remote} became {said}");
    }
}

#[test]
fn a_directory_as_remote_says_its_name_alone() {
    let remote = Remote::parse("/srv/git/app.git").unwrap();
    assert_eq!(
        (remote.url.as_deref(), remote.owner.as_deref(), remote.name.as_str()),
        (None, None, "app")
    );
    assert_eq!(Remote::parse("../app/.git").unwrap().name, "app");
    assert_eq!(Remote::parse(".."), None);
}

#[test]
fn the_provider_is_named_for_well_known_hosts_only() {
    let provider = |remote: &str| Remote::parse(remote).unwrap().provider;
    assert_eq!(provider("https://gitlab.com/a/b"), Some("gitlab"));
    assert_eq!(provider("git@altssh.bitbucket.org:a/b"), Some("bitbucket"));
    assert_eq!(provider("https://gitea.com/a/b"), Some("gitea"));
    assert_eq!(provider("https://github.com.evil.example/a/b"), None);
}

#[test]
fn azure_devops_is_one_repository_over_ssh_and_https() {
    for remote in [
        "git@ssh.dev.azure.com:v3/acme/shop/app",
        "https://acme@dev.azure.com/acme/shop/_git/app",
    ] {
        let remote = Remote::parse(remote).unwrap();
        assert_eq!(remote.url.as_deref(), Some("https://dev.azure.com/acme/shop/_git/app"));
        assert_eq!(
            (remote.owner.as_deref(), remote.name.as_str()),
            (Some("acme/shop"), "app")
        );
    }
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in ".{0,80}", config in "(\\[?(remote)?[ .\"\\\\\n\\]=#a-z@:/]{0,20}){0,6}") {
        let _ = (Remote::parse(&text), Remote::origin(&config));
    }

    #[test]
    fn what_stands_before_the_host_never_comes_out(
        scheme in "(https|http|ssh|git)://|", user in "[a-z]{0,5}", secret in "[A-Z0-9%]{8,20}", path in "[a-z]{1,8}/[a-z]{1,8}",
    ) {
        let separator = if scheme.is_empty() { ":" } else { "/" };
        let remote = Remote::parse(&format!("{scheme}{user}:{secret}@host.example{separator}{path}.git"));
        let said = format!("{remote:?}");
        proptest::prop_assert!(!said.contains(&secret), "{said}");
    }
}

#[test]
fn gits_configuration_is_read_as_git_reads_it() {
    let origin = |config: &str| Remote::origin(config).and_then(|remote| remote.url);
    let app = Some("https://h.example/a/app".to_owned());
    for config in [
        "[remote \"origin\"] url = https://h.example/a/app # said here\n",
        "[Remote \"origin\"]\n  ; a comment = x\n  URL=\"https://h.example/a/app\"\n",
        "[remote \"origin\"]\n\turl = https://h.example/a/\\\napp\n",
        "[remote \"origin\"]\n\turl = https://h.example/a/app\n\turl = https://h.example/other/one\n",
        "[remote \"other]\"]\n\turl = https://h.example/x/y\n[remote.origin]\r\n\turl = https://h.example/a/app\r\n",
    ] {
        assert_eq!(origin(config), app, "{config}");
    }
    for config in [
        "",
        "[remote \"Origin\"]\n\turl = https://h.example/a/app\n",
        "[remote \"upstream\"]\n\turl = https://h.example/a/app\n",
        "[remote \"origin\"]\n\turl = \"https://h.example/a/app\n",
        "[remote \"origin\"]\n\tpushurl = https://h.example/a/app\n",
        "[remote \"origin\n\turl = https://h.example/a/app\n",
    ] {
        assert_eq!(origin(config), None, "{config}");
    }
}
