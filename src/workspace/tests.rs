//! Detection, over environments given as values.

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
    let workspace = detect(&gitpod_env(), &Config::default(), dir.path()).unwrap();
    assert_eq!(workspace.platform, Platform::Gitpod);
    assert_eq!(workspace.owner.as_deref(), Some("owner-uuid"));
    assert_eq!(workspace.repository.as_deref(), Some(Path::new("/workspace/app")));
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
    assert!(detect(&env, &Config::default(), dir.path()).unwrap().prebuild);
    let as_local = Config {
        platform: Some(Platform::Local),
        ..Config::default()
    };
    let workspace = detect(&env, &as_local, dir.path()).unwrap();
    assert!(workspace.prebuild && !workspace.id.is_empty());
    assert!(is_empty(dir.path()));
    assert!(
        !detect(
            &with(gitpod_env(), "GITPOD_HEADLESS", "false"),
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
    assert_eq!(platform(&env, &Config::default()), Platform::Local);
}

#[test]
fn a_relative_repository_root_is_not_a_repository() {
    let env = with(gitpod_env(), "GITPOD_REPO_ROOT", "app");
    assert_eq!(
        detect(&env, &Config::default(), Path::new("/nowhere"))
            .unwrap()
            .repository,
        None
    );
}

#[test]
fn a_plain_machine_keeps_one_random_id_readable_to_its_user_alone() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("a/b");
    let first = detect(&Env::default(), &Config::default(), &state).unwrap();
    assert_eq!((first.platform, first.id.len()), (Platform::Local, 32));
    assert_eq!(first.trust.get("id"), Some(&Trust::Asserted));
    assert_eq!((first.repository, first.owner), (None, None));
    assert_eq!(
        detect(&Env::default(), &Config::default(), &state).unwrap().id,
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
                .map(|_| scope.spawn(|| local::kept_id(dir.path()).unwrap()))
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
    let id = local::kept_id(dir.path()).unwrap();
    assert_eq!(id, local::kept_id(dir.path()).unwrap());
    std::fs::write(&file, "my-own-machine\n").unwrap();
    assert_eq!(local::kept_id(dir.path()).unwrap(), "my-own-machine");
}

#[test]
fn what_the_settings_say_goes_before_what_is_found_and_is_marked_as_asserted() {
    let config = Config {
        id: Some("mine".into()),
        name: Some("The Lab".into()),
        platform: Some(Platform::Local),
    };
    let dir = tempfile::tempdir().unwrap();
    let workspace = detect(&gitpod_env(), &config, dir.path()).unwrap();
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
