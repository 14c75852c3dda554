//! Detection, over environments and files given as values. What each platform says is in `platforms`.

mod platforms;

use super::*;
use std::os::unix::fs::PermissionsExt;

fn gitpod_env() -> Env {
    Env::from([
        ("GITPOD_WORKSPACE_ID", "acme-app-abc123"),
        ("GITPOD_INSTANCE_ID", "0b5c"),
        ("GITPOD_OWNER_ID", "owner-uuid"),
        ("GITPOD_WORKSPACE_URL", "https://acme-app-abc123.ws.gitpod.example"),
        ("GITPOD_REPO_ROOT", "/workspace/app"),
        ("GITPOD_GIT_USER_EMAIL", "whoever@example.com"),
    ])
}

/// A machine with these files, called "box" unless they say otherwise.
struct Machine(tempfile::TempDir);

impl Machine {
    fn new(files: &[(&str, &str)]) -> Machine {
        let machine = Machine(tempfile::tempdir().unwrap());
        for (path, text) in [("/proc/sys/kernel/hostname", "box\n")].iter().chain(files) {
            let path = machine.0.path().join(path.trim_start_matches('/'));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        machine
    }

    fn files(&self) -> Files {
        Files::below(self.0.path())
    }
}

/// A machine of which nothing is to be read.
fn bare() -> Files {
    Files::below("/nonexistent")
}

fn with(mut env: Env, name: &str, value: &str) -> Env {
    env.0.insert(name.to_owned(), value.to_owned());
    env
}

fn is_empty(dir: &Path) -> bool {
    std::fs::read_dir(dir).expect("the directory is there").next().is_none()
}

#[test]
fn a_gitpod_workspace_is_what_its_variables_say_and_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let workspace = detect(&gitpod_env(), &bare(), &Config::default(), dir.path()).unwrap();
    assert_eq!(workspace.platform, Platform::Gitpod);
    assert_eq!(workspace.owner.as_deref(), Some("owner-uuid"));
    assert_eq!(workspace.checkout.as_deref(), Some(Path::new("/workspace/app")));
    assert!(!workspace.prebuild);
    let pairs = workspace.attributes();
    let pairs: Vec<(&str, &str)> = pairs.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(
        pairs,
        [
            ("workspace.id", "acme-app-abc123"),
            ("workspace.platform", "gitpod"),
            ("workspace.url", "https://acme-app-abc123.ws.gitpod.example"),
            ("workspace.instance.id", "0b5c"),
        ]
    );
    assert_eq!(workspace.trust.get("id"), Some(&Trust::Platform));
    assert_eq!(
        workspace.trust.get("name"),
        None,
        "a workspace without a name has no trust for one"
    );
    assert!(is_empty(dir.path()));
}

#[test]
fn a_headless_gitpod_is_a_prebuild_whatever_the_settings_call_it_and_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let env = with(gitpod_env(), "GITPOD_HEADLESS", "true");
    assert!(detect(&env, &bare(), &Config::default(), dir.path()).unwrap().prebuild);
    let as_local = Config {
        platform: Some(Platform::Local),
        ..Config::default()
    };
    let workspace = detect(&env, &bare(), &as_local, dir.path()).unwrap();
    assert!(workspace.prebuild && !workspace.id.is_empty());
    assert!(is_empty(dir.path()));
    assert!(
        !detect(
            &with(gitpod_env(), "GITPOD_HEADLESS", "false"),
            &bare(),
            &Config::default(),
            dir.path()
        )
        .unwrap()
        .prebuild
    );
}

#[test]
fn the_successor_of_gitpod_classic_is_not_taken_for_it() {
    let env = with(gitpod_env(), "GITPOD_ENVIRONMENT_ID", "0190");
    assert_eq!(platform(&env, &bare(), &Config::default()), Platform::Ona);
}

#[test]
fn a_token_in_the_environment_is_not_printed_with_it() {
    let env = with(gitpod_env(), "GITPOD_TOKEN", "canary");
    let shown = format!("{env:?} {env:#?}");
    assert!(shown.contains("GITPOD_TOKEN") && !shown.contains("canary"), "{shown}");
}

#[test]
fn what_commands_a_terminal_or_has_several_lines_is_no_name_of_anything() {
    let dir = tempfile::tempdir().unwrap();
    let env = with(gitpod_env(), "GITPOD_WORKSPACE_ID", "acme-app-abc123\nplatform");
    let env = with(env, "GITPOD_WORKSPACE_NAME", "\u{1b}]0;acme\u{7}");
    let workspace = detect(&env, &bare(), &Config::default(), dir.path()).unwrap();
    assert_eq!((workspace.id.len(), workspace.name.as_deref()), (32, None));
    assert!(workspace.place.owns(&workspace.place.to_text()));
}

#[test]
fn a_relative_repository_root_is_not_a_repository() {
    let env = with(gitpod_env(), "GITPOD_REPO_ROOT", "app");
    assert_eq!(
        detect(&env, &bare(), &Config::default(), Path::new("/nowhere"))
            .unwrap()
            .checkout,
        None
    );
}

#[test]
fn a_plain_machine_keeps_one_random_id_readable_to_its_user_alone() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("a/b");
    let first = detect(&Env::default(), &bare(), &Config::default(), &state).unwrap();
    assert_eq!((first.platform, first.id.len()), (Platform::Local, 32));
    assert_eq!(first.trust.get("id"), Some(&Trust::Asserted));
    assert_eq!((first.checkout, first.owner), (None, None));
    assert_eq!(
        detect(&Env::default(), &bare(), &Config::default(), &state).unwrap().id,
        first.id
    );
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&state), mode(&state.join("workspace-id"))), (0o700, 0o600));
    assert_eq!(std::fs::read_dir(&state).unwrap().count(), 1, "no draft is left behind");
}

#[test]
fn processes_that_make_the_id_at_once_end_with_the_same_one() {
    for _ in 0..20 {
        let dir = tempfile::tempdir().unwrap();
        let ids = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| local::kept_id(&bare(), dir.path()).unwrap()))
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect::<std::collections::BTreeSet<_>>()
        });
        assert_eq!(ids.len(), 1);
    }
}

#[test]
fn a_damaged_id_is_replaced_and_an_id_that_somebody_wrote_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("workspace-id");
    std::fs::write(&file, "\0\0\0").unwrap();
    let id = local::kept_id(&bare(), dir.path()).unwrap();
    assert_eq!(id, local::kept_id(&bare(), dir.path()).unwrap());
    std::fs::write(&file, "my-own-machine\n").unwrap();
    assert_eq!(local::kept_id(&bare(), dir.path()).unwrap(), "my-own-machine");
}

#[test]
fn what_the_settings_say_goes_before_what_is_found_and_is_marked_as_asserted() {
    let config = Config {
        id: Some("mine".into()),
        name: Some("The Lab".into()),
        platform: Some(Platform::Local),
    };
    let dir = tempfile::tempdir().unwrap();
    let workspace = detect(&gitpod_env(), &bare(), &config, dir.path()).unwrap();
    assert_eq!(
        (workspace.id.as_str(), workspace.name.as_deref()),
        ("mine", Some("The Lab"))
    );
    assert_eq!(workspace.platform, Platform::Local);
    assert!(
        ["id", "name", "platform"]
            .iter()
            .all(|field| workspace.trust[field] == Trust::Asserted)
    );
    assert!(is_empty(dir.path()), "an id that is set needs no file");
}

/// The root of a container, as the kernel lists it.
fn overlay(container: &str) -> String {
    format!(
        "22 1 0:20 / / rw,relatime - overlay overlay rw,lowerdir=/l,upperdir=/docker/{container}/diff,workdir=/w\n\
         23 22 0:21 / /proc rw - proc proc rw\n30 22 8:1 / /data rw - ext4 /dev/sda rw\n"
    )
}

#[test]
fn a_container_made_from_a_snapshot_of_another_gets_an_id_of_its_own_and_a_restarted_one_keeps_its_id() {
    let state = tempfile::tempdir().unwrap();
    let container = |name: &str| {
        Machine::new(&[
            ("/proc/self/mountinfo", &overlay(name)),
            ("/etc/machine-id", "baked into the image"),
        ])
    };
    let (first, second) = (container("first"), container("second"));
    let id = |machine: &Machine| local::kept_id(&machine.files(), state.path()).unwrap();
    let original = id(&first);
    assert_eq!(id(&first), original);
    let copied = id(&second);
    assert_ne!(copied, original);
    assert_eq!(id(&second), copied, "and keeps that one");
}

#[test]
fn a_clone_of_a_machine_that_got_a_machine_id_of_its_own_gets_a_workspace_id_of_its_own() {
    let state = tempfile::tempdir().unwrap();
    let id = |machine: &Machine| local::kept_id(&machine.files(), state.path()).unwrap();
    let (original, clone) = (
        Machine::new(&[("/etc/machine-id", "0a")]),
        Machine::new(&[("/etc/machine-id", "0b")]),
    );
    let first = id(&original);
    assert_ne!(id(&clone), first);
    let text = std::fs::read_to_string(state.path().join("workspace-id")).unwrap();
    assert!(!text.contains("0b\n"), "the machine's id itself is not written down");
    assert_eq!(
        std::fs::read_dir(state.path()).unwrap().count(),
        1,
        "no draft and no lock is left behind"
    );
}

#[test]
fn a_machine_that_a_cloud_made_of_an_image_is_told_from_its_original_by_its_instance() {
    let state = tempfile::tempdir().unwrap();
    let machine = |instance: &str| {
        Machine::new(&[
            ("/etc/machine-id", "baked into the image"),
            ("/var/lib/cloud/data/instance-id", instance),
        ])
    };
    let id = |machine: &Machine| local::kept_id(&machine.files(), state.path()).unwrap();
    let (original, clone) = (machine("i-1"), machine("i-2"));
    let first = id(&original);
    assert_eq!(id(&original), first);
    assert_ne!(id(&clone), first);
}

#[test]
fn a_clone_that_kept_its_ids_is_told_from_its_original_by_what_is_no_part_of_its_disk() {
    for given in [
        "/sys/class/dmi/id/product_uuid",
        "/sys/hypervisor/uuid",
        "/sys/class/dmi/id/board_asset_tag",
    ] {
        let state = tempfile::tempdir().unwrap();
        let machine = |value: &str| {
            Machine::new(&[
                ("/etc/machine-id", "baked into the image"),
                ("/var/lib/cloud/data/instance-id", "iid-datasource-none"),
                (given, value),
            ])
        };
        let id = |machine: &Machine| local::kept_id(&machine.files(), state.path()).unwrap();
        let (original, clone) = (machine("i-1"), machine("i-2"));
        let first = id(&original);
        assert_eq!(id(&original), first, "{given}");
        assert_ne!(id(&clone), first, "{given}");
    }
}

#[test]
fn what_only_one_of_two_looks_can_read_makes_no_other_machine_of_it() {
    let state = tempfile::tempdir().unwrap();
    let id = |files: &[(&str, &str)]| {
        let machine = Machine::new(&[&[("/etc/machine-id", "0a")], files].concat());
        local::kept_id(&machine.files(), state.path()).unwrap()
    };
    let first = id(&[]);
    let as_root = ("/sys/class/dmi/id/product_uuid", "uuid-1");
    let installed_later = ("/var/lib/cloud/data/instance-id", "i-1");
    assert_eq!(id(&[as_root]), first);
    assert_eq!(id(&[as_root, installed_later]), first);
    assert_eq!(
        id(&[("/sys/class/dmi/id/board_asset_tag", "Default string")]),
        first,
        "nor does what a board's maker writes on all of them"
    );
}

/// The limit of all this: a restart after a cut of the power looks no different.
#[test]
fn another_boot_alone_makes_no_other_machine() {
    let state = tempfile::tempdir().unwrap();
    let id = |boot: &str| {
        let machine = Machine::new(&[("/etc/machine-id", "0a"), ("/proc/sys/kernel/random/boot_id", boot)]);
        local::kept_id(&machine.files(), state.path()).unwrap()
    };
    assert_eq!(id("first"), id("second"));
}

#[test]
fn what_rests_on_a_volume_is_carried_from_container_to_container() {
    let born = |container: &str, dir: &str| {
        let machine = Machine::new(&[("/proc/self/mountinfo", &overlay(container))]);
        Birthplace::of_files_in(Path::new(dir), &machine.files())
    };
    assert_eq!(born("first", "/data/tagalong"), None);
    assert_ne!(born("first", "/home/dev/.local"), born("second", "/home/dev/.local"));
    assert_eq!(
        born("first", "/home/dev/.local"),
        born("first", "/database"),
        "a mount point is not a prefix of letters"
    );
}

#[test]
fn settings_name_a_place_and_do_not_make_another_one() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        id: Some("mine".into()),
        platform: Some(Platform::Local),
        ..Config::default()
    };
    let workspace = detect(&gitpod_env(), &bare(), &config, dir.path()).unwrap();
    assert_eq!(
        (workspace.id.as_str(), workspace.place.id.as_str()),
        ("mine", "acme-app-abc123")
    );
}
