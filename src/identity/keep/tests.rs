//! Resting places that a test can have: memory and files. A real keyring's stories are in `tests/e2e`, a mute one's in
//! `tests/it`.

use std::os::unix::fs::PermissionsExt;

use super::*;

fn login(token: &str) -> Login {
    Login {
        refresh: Secret::new(token.to_owned()),
        shown: Shown::Access,
        host: Birthplace::parse("machine:here"),
        not_granted: Vec::new(),
    }
}

#[test]
fn who_shares_no_lock_shares_no_entry_of_the_keyring() {
    let named = |directory: &str, name| Keep::new(Wanted::Keyring, Path::new(directory), name).entry;
    let one = named("/run/user/1000/tagalong", "a");
    assert_eq!(one, named("/run/user/1000/tagalong", "a"));
    assert_ne!(one, named("/run/user/1000/tagalong", "b"));
    assert_ne!(one, named("/home/ada/.local/state/tagalong/run", "a"));
}

#[tokio::test]
async fn a_file_is_whole_private_and_gone_after_it_is_forgotten() {
    let directory = tempfile::tempdir().expect("a directory");
    let runtime = directory.path().join("run");
    let keep = Keep::new(Wanted::File, &runtime, "a");
    assert!(keep.load().await.expect("readable").is_none());
    for token in ["first", "second"] {
        assert_eq!(keep.store(&login(token)).await, Ok(Place::File));
        let another = Keep::new(Wanted::File, &runtime, "a");
        let kept = another.load().await.expect("readable").expect("a login");
        assert_eq!((kept.refresh.expose(), kept.shown), (token, Shown::Access));
    }
    let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!((mode(keep.file()), mode(&runtime)), (0o600, 0o700));
    assert_eq!(
        fs::read_dir(&runtime).expect("a directory").count(),
        1,
        "no half of a file is left"
    );
    keep.forget().await;
    assert!(!keep.file().exists());
    assert!(keep.load().await.expect("readable").is_none());
}

#[test]
fn what_cannot_be_put_in_its_place_is_not_left_beside_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let taken = directory.path().join("config.toml");
    fs::create_dir(&taken).expect("a directory");
    assert!(replace(&taken, "text", 0o600).is_err());
    assert_eq!(fs::read_dir(directory.path()).expect("a directory").count(), 1);
}

#[tokio::test]
async fn what_a_process_wrote_that_was_killed_before_it_was_in_its_place_is_removed() {
    let directory = tempfile::tempdir().expect("a directory");
    let keep = Keep::new(Wanted::File, directory.path(), "a");
    let [draft, of_another] = ["login-a.0123.tmp", "login-ab.0123.tmp"].map(|name| directory.path().join(name));
    fs::write(&of_another, "theirs").expect("a file");
    fs::write(&draft, "canary-rt").expect("a file");
    keep.store(&login("next")).await.expect("kept");
    assert!(!draft.exists(), "by the next login");
    fs::write(&draft, "canary-rt").expect("a file");
    keep.forget().await;
    assert!(!draft.exists(), "by a logout");
    assert!(of_another.exists());
}

#[tokio::test]
async fn bug_truncated_in_place_no_reader_ever_sees_an_empty_or_half_a_login() {
    let directory = tempfile::tempdir().expect("a directory");
    let keep = || Keep::new(Wanted::File, directory.path(), "a");
    // Of different lengths, so that a half would show.
    let tokens = ["short".to_owned(), "long".repeat(2000)];
    keep().store(&login(&tokens[0])).await.expect("kept");
    let (writer, kept) = (keep(), tokens.clone());
    let writing = tokio::task::spawn_blocking(move || {
        for turn in 0..100 {
            writer.write_file(&login(&kept[turn % 2])).expect("kept");
        }
    });
    let mut looks = 0;
    while !writing.is_finished() || looks == 0 {
        let found = keep().load().await.expect("readable").expect("a login");
        assert!(tokens.iter().any(|token| token == found.refresh.expose()));
        looks += 1;
        tokio::task::yield_now().await;
    }
    writing.await.expect("it writes");
}

#[tokio::test]
async fn a_file_that_others_can_read_or_that_is_a_link_is_not_used() {
    let directory = tempfile::tempdir().expect("a directory");
    let keep = Keep::new(Wanted::File, directory.path(), "a");
    keep.store(&login("canary-rt")).await.expect("kept");
    fs::set_permissions(keep.file(), fs::Permissions::from_mode(0o640)).expect("mine");
    let error = keep.load().await.expect_err("others can read it");
    assert!(!error.to_string().contains("canary"), "{error}");
    fs::set_permissions(keep.file(), fs::Permissions::from_mode(0o600)).expect("mine");
    let elsewhere = directory.path().join("elsewhere");
    fs::rename(keep.file(), &elsewhere).expect("moved");
    std::os::unix::fs::symlink(&elsewhere, keep.file()).expect("a link");
    assert!(keep.load().await.is_err());
}

#[test]
fn a_directory_of_ones_own_is_closed_to_others_and_what_is_no_such_is_refused() {
    let above = tempfile::tempdir().expect("a directory");
    let own = above.path().join("own");
    private_directory(&own).expect("there is none");
    for mode in [0o700, 0o777, 0o750] {
        fs::set_permissions(&own, fs::Permissions::from_mode(mode)).expect("mine");
        private_directory(&own).expect("it is mine");
        let mode = fs::metadata(&own).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }
    let link = above.path().join("link");
    std::os::unix::fs::symlink(&own, &link).expect("a link");
    let file = above.path().join("file");
    fs::write(&file, "").expect("a file");
    for other in [link, file] {
        assert!(private_directory(&other).is_err(), "{}", other.display());
    }
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&own, Some(65_534), None).expect("root may");
        let error = private_directory(&own).expect_err("it is another user's");
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert!(error.to_string().contains("belongs to user 65534"), "{error}");
    }
}

#[test]
fn a_draft_that_somebody_else_laid_is_not_written_through() {
    let directory = tempfile::tempdir().expect("a directory");
    let (target, elsewhere) = (directory.path().join("kept.json"), directory.path().join("elsewhere"));
    fs::write(&elsewhere, "theirs").expect("a file");
    let draft = target.with_extension(format!("{}.tmp", std::process::id()));
    std::os::unix::fs::symlink(&elsewhere, draft).expect("a link");
    replace(&target, "ours", 0o600).expect("it is written");
    assert_eq!(fs::read_to_string(&target).expect("a file"), "ours");
    assert!(!target.symlink_metadata().expect("a file").is_symlink());
    assert_eq!(fs::read_to_string(&elsewhere).expect("a file"), "theirs");
}

#[tokio::test]
async fn memory_is_shared_by_clones_and_by_nobody_else() {
    let directory = tempfile::tempdir().expect("a directory");
    let keep = Keep::new(Wanted::Memory, directory.path(), "a");
    assert_eq!(keep.clone().store(&login("t")).await, Ok(Place::Memory));
    assert!(keep.load().await.expect("readable").is_some());
    let another = Keep::new(Wanted::Memory, directory.path(), "a");
    assert!(another.load().await.expect("readable").is_none());
    assert_eq!(
        fs::read_dir(directory.path()).expect("a directory").count(),
        0,
        "nothing rests"
    );
}

#[test]
fn what_is_no_login_of_ours_is_none() {
    for text in [
        "",
        "{}",
        "[1]",
        r#"{"refresh_token":"t"}"#,
        r#"{"refresh_token":"t","shown":"both","host":"h"}"#,
    ] {
        assert!(parse(text).is_none(), "{text}");
    }
    assert!(!format!("{:?}", login("canary-rt")).contains("canary"));
}

/// A plain machine, as far as its files say it.
fn machine(facts: &[(&str, &str)]) -> (tempfile::TempDir, Files) {
    let root = tempfile::tempdir().expect("a directory");
    for (path, text) in facts {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
        fs::write(path, text).expect("a file");
    }
    let files = Files::below(root.path());
    (root, files)
}

const MACHINE: &str = "etc/machine-id";
const BOOT: &str = "proc/sys/kernel/random/boot_id";
const CLOUD: &str = "var/lib/cloud/data/instance-id";

#[test]
fn a_clone_is_another_machine_and_a_restarted_plain_machine_is_the_same() {
    let here = |id: &str, boot: &str, instance: &str, wanted| {
        let (_root, files) = machine(&[(MACHINE, id), (BOOT, boot)]);
        host(&files, instance, Path::new("/run/user/1000/tagalong"), wanted)
    };
    let plain = here("m", "b1", "", Wanted::Auto);
    assert_eq!(plain.is(&here("m", "b2", "", Wanted::Auto)), Some(true));
    assert_eq!(plain.is(&here("other", "b1", "", Wanted::Auto)), Some(false));
    let in_a_file = here("m", "b1", "", Wanted::File);
    assert_eq!(in_a_file.is(&here("m", "b2", "", Wanted::File)), Some(false));
    let workspace = here("m", "b1", "i1", Wanted::Auto);
    assert_eq!(workspace.is(&here("m", "b1", "i2", Wanted::Auto)), Some(false));
    assert_eq!(workspace.is(&here("m", "b2", "i1", Wanted::Auto)), Some(false));
}

#[test]
fn a_machine_that_says_more_of_itself_after_a_package_is_installed_is_the_same() {
    let here = |facts: &[(&str, &str)]| {
        let (_root, files) = machine(facts);
        host(&files, "", Path::new("/run/user/1000/tagalong"), Wanted::Keyring)
    };
    let before = here(&[(MACHINE, "m")]);
    let after = here(&[(MACHINE, "m"), (CLOUD, "i-1")]);
    assert_eq!((after.is(&before), before.is(&after)), (Some(true), Some(true)));
    let clone = here(&[(MACHINE, "m"), (CLOUD, "i-2")]);
    assert_eq!(clone.is(&after), Some(false));
}

/// A container with a root of its own, on one machine that was booted once.
fn container(root: &Path, upper: &str) -> Files {
    let mounts =
        format!("22 1 0:20 / / rw - overlay overlay rw,lowerdir=/l,upperdir=/docker/{upper}/diff,workdir=/w\n");
    for (path, text) in [
        ("proc/self/mountinfo", mounts.as_str()),
        ("proc/sys/kernel/hostname", "dev"),
        ("proc/sys/kernel/random/boot_id", "b1"),
        ("etc/machine-id", "in the image that both were made of"),
    ] {
        let path = root.join(upper).join(path);
        fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
        fs::write(path, text).expect("a file");
    }
    Files::below(root.join(upper))
}

#[test]
fn each_container_that_is_made_of_one_snapshot_is_another_one_at_the_same_boot_too() {
    let root = tempfile::tempdir().expect("a directory");
    let here = |upper: &str| {
        let files = container(root.path(), upper);
        host(&files, "", Path::new("/run/user/1000/tagalong"), Wanted::File)
    };
    let original = here("original");
    assert_eq!(here("original").is(&original), Some(true), "a restart of the same one");
    assert_eq!(here("one").is(&original), Some(false));
    assert_eq!(here("one").is(&here("other")), Some(false));
}
