//! What sources make of what they are given: files, variables, programs.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
};

use super::*;
use crate::workspace::Env;

const CANARY: &str = "canary-93ab";

fn asking() -> Asking<'static> {
    Asking {
        audience: "https://upstream.example",
        ca_file: None,
        timeout: Duration::from_secs(20),
    }
}

fn exposed(minted: &Minted) -> &str {
    minted.token.as_ref().expect("a token").expose()
}

/// A shell script that is ready to be run.
fn script(directory: &Path, name: &str, body: &str) -> PathBuf {
    let path = directory.join(name);
    // Renamed into place: another test's fork may hold a file that was just written, and then it cannot be executed.
    let draft = directory.join(format!("{name}.draft"));
    fs::write(&draft, format!("#!/bin/sh\n{body}\n")).expect("a script");
    fs::set_permissions(&draft, fs::Permissions::from_mode(0o755)).expect("an executable");
    fs::rename(&draft, &path).expect("the script in place");
    path
}

/// Runs the script through `sh`, so that nothing just written has to be executed itself.
fn exec(directory: &Path, body: &str) -> Source {
    let path = script(directory, "credential", body);
    let argv = vec!["/bin/sh".to_owned(), path.display().to_string(), CANARY.to_owned()];
    Source::Exec(Program::new(argv).expect("an absolute program"))
}

#[tokio::test]
async fn bug_token_file_read_once_and_ours_is_read_anew_through_the_two_links_that_a_kubelet_swaps() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("token");
    // The file's own link stays; the one to the directory is replaced at each rotation.
    symlink("..data/token", &path).expect("a link");
    let source = Source::File(path);
    for generation in ["one", "two"] {
        let data = directory.path().join(format!("..{generation}"));
        fs::create_dir(&data).expect("a directory");
        fs::write(data.join("token"), format!("{CANARY}-{generation}\n")).expect("a token");
        let link = directory.path().join("..data_tmp");
        symlink(&data, &link).expect("a link");
        fs::rename(&link, directory.path().join("..data")).expect("the swap");
        let minted = source.mint(&asking()).await.expect("a token");
        assert_eq!(exposed(&minted), format!("{CANARY}-{generation}"));
    }
}

#[tokio::test]
async fn a_file_that_is_empty_missing_or_too_large_is_looked_for_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("token");
    let source = Source::File(path.clone());
    for content in [
        None,
        Some(String::new()),
        Some("\n".into()),
        Some("x".repeat(MAX_TOKEN_BYTES + 1)),
    ] {
        if let Some(content) = &content {
            fs::write(&path, content).expect("a file");
        }
        let error = source.mint(&asking()).await.expect_err("no token");
        assert!(matches!(error, MintError::Transient(_)), "{error}");
    }
}

#[tokio::test]
async fn what_cannot_go_into_a_header_is_no_token_and_is_not_repeated() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("token");
    fs::write(&path, format!("{CANARY}\r\nX-Evil: 1")).expect("a file");
    let error = Source::File(path).mint(&asking()).await.expect_err("no token");
    assert!(!error.to_string().contains(CANARY));
}

#[tokio::test]
async fn a_fifo_or_a_directory_in_the_files_place_holds_nobody_up() {
    let directory = tempfile::tempdir().expect("a directory");
    let fifo = directory.path().join("fifo");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .expect("a fifo");
    for path in [fifo, directory.path().to_owned()] {
        let error = Source::File(path).mint(&asking()).await.expect_err("no token");
        assert!(matches!(error, MintError::Config(_)), "{error}");
    }
}

#[tokio::test]
async fn a_variable_is_taken_as_it_was_at_the_start() {
    let env = Env([("TOKEN".to_owned(), CANARY.to_owned())].into());
    let source = Source::Env(EnvToken::new("TOKEN", &env));
    assert_eq!(exposed(&source.mint(&asking()).await.expect("a token")), CANARY);
    assert!(!format!("{source:?}").contains(CANARY));
    let missing = Source::Env(EnvToken::new("OTHER", &env));
    let error = missing.mint(&asking()).await.expect_err("no token");
    assert!(matches!(&error, MintError::NeedsUser(text) if text.contains("OTHER")));
}

#[test]
fn a_program_is_named_by_an_absolute_path() {
    assert_eq!(Program::new(Vec::new()), Err(exec::ProgramError::Empty));
    for name in ["token", "./token", "bin/token", ""] {
        assert_eq!(
            Program::new(vec![name.to_owned()]),
            Err(exec::ProgramError::NotAbsolute)
        );
    }
}

#[tokio::test]
async fn a_program_prints_a_raw_token_or_an_object() {
    let directory = tempfile::tempdir().expect("a directory");
    let minted = exec(directory.path(), "echo raw-token")
        .mint(&asking())
        .await
        .expect("raw");
    assert_eq!((exposed(&minted), minted.lifetime), ("raw-token", None));
    for (body, seconds) in [
        (r#"{"access_token": "t", "expires_in": 300}"#, Some(300)),
        (r#"{"id_token": "t", "expires_in": "60"}"#, Some(60)),
        (r#"{"token": "t", "expires_in": null}"#, None),
        (r#"{"token": "t", "expires_in": 0}"#, None),
        (r#"{"token": "t", "expires_in": -5}"#, None),
        (r#"{"token": "t", "expires_in": 1e300}"#, None),
    ] {
        let source = exec(directory.path(), &format!("cat <<'END'\n{body}\nEND"));
        let minted = source.mint(&asking()).await.expect("an object");
        assert_eq!(exposed(&minted), "t");
        assert_eq!(minted.lifetime.map(|lifetime| lifetime.as_secs()), seconds, "{body}");
    }
    let ends = exec(directory.path(), r#"echo '{"token": "t", "expires_at": 1800000000}'"#);
    let minted = ends.mint(&asking()).await.expect("an object");
    assert_eq!(
        minted.expires_at,
        Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000))
    );
}

#[tokio::test]
async fn a_kubernetes_credential_plugin_serves_as_it_is() {
    let directory = tempfile::tempdir().expect("a directory");
    let plugin = r#"case $KUBERNETES_EXEC_INFO in *'"interactive":false'*) ;; *) exit 1 ;; esac
cat <<'END'
{"kind": "ExecCredential", "apiVersion": "client.authentication.k8s.io/v1",
 "status": {"token": "t", "expirationTimestamp": "2027-01-15T08:00:00Z"}}
END"#;
    let minted = exec(directory.path(), plugin).mint(&asking()).await.expect("a token");
    assert_eq!(exposed(&minted), "t");
    assert_eq!(
        minted.expires_at,
        Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000))
    );
}

#[tokio::test]
async fn a_program_gets_a_clean_environment_and_the_root_as_its_directory() {
    let directory = tempfile::tempdir().expect("a directory");
    let source = exec(
        directory.path(),
        r#"echo "$(pwd)|$(env | cut -d= -f1 | sort | tr '\n' ,)|$1""#,
    );
    let minted = source.mint(&asking()).await.expect("a token");
    let shown = exposed(&minted).to_owned();
    let parts: Vec<&str> = shown.split('|').collect();
    assert_eq!((parts[0], parts[2]), ("/", CANARY));
    // The shell itself adds these.
    let allowed = ["PATH", "KUBERNETES_EXEC_INFO", "PWD", "SHLVL", "OLDPWD", "_", ""];
    assert!(parts[1].split(',').all(|name| allowed.contains(&name)), "{}", parts[1]);
}

#[tokio::test]
async fn what_a_failing_program_says_is_never_repeated() {
    let directory = tempfile::tempdir().expect("a directory");
    for body in [
        format!("echo '{{\"kind\": \"ExecCredential\", \"status\": {{\"clientKeyData\": \"{CANARY}\"}}}}'"),
        format!("echo '{{\"kind\": \"ExecCredential\", \"{CANARY}\": 1}}'"),
        format!("echo '<{CANARY}>'"),
        format!("echo {CANARY} >&2; echo {CANARY}; exit 3"),
        format!("echo '{{\"oops\": \"{CANARY}\"}}'"),
        format!("echo '{{\"{CANARY}'"),
        format!("echo {CANARY} {CANARY}"),
    ] {
        let error = exec(directory.path(), &body)
            .mint(&asking())
            .await
            .expect_err("no token");
        assert!(!format!("{error} {error:?}").contains(CANARY), "{error}");
    }
}

#[tokio::test]
async fn a_program_that_prints_without_end_is_stopped() {
    let directory = tempfile::tempdir().expect("a directory");
    let error = exec(directory.path(), "yes")
        .mint(&asking())
        .await
        .expect_err("no token");
    assert!(error.to_string().contains("64 KiB"), "{error}");
}

#[tokio::test]
async fn a_program_that_hangs_is_ended_with_everything_that_it_started() {
    let directory = tempfile::tempdir().expect("a directory");
    let lock = directory.path().join("lock");
    // Whoever lives holds the writing end of the FIFO open: its end of file is the death of all of them.
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &lock,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .expect("a fifo");
    let body = format!("exec 9> {}; echo up >&9; (sleep 600) & sleep 600", lock.display());
    let source = exec(directory.path(), &body);
    let opened = lock.clone();
    let watch = tokio::task::spawn_blocking(move || fs::read_to_string(opened).expect("the end of the fifo"));
    let impatient = Asking {
        timeout: Duration::from_millis(800),
        ..asking()
    };
    let error = source.mint(&impatient).await.expect_err("no token");
    assert!(error.to_string().contains("did not answer within"), "{error}");
    let said = tokio::time::timeout(Duration::from_secs(10), watch)
        .await
        .expect("all of them ended");
    assert_eq!(said.expect("the watcher"), "up\n");
}

#[tokio::test]
async fn a_program_that_is_not_there_is_a_wrong_setting() {
    let source = Source::Exec(Program::new(vec!["/nonexistent/credential".to_owned()]).expect("absolute"));
    let error = source.mint(&asking()).await.expect_err("no token");
    assert!(matches!(error, MintError::Config(_)), "{error}");
}

#[tokio::test]
async fn a_prebuild_mints_nothing_and_runs_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let ran = directory.path().join("ran");
    script(directory.path(), "gp", &format!("touch {}", ran.display()));
    let env = Env([
        ("PATH".to_owned(), directory.path().display().to_string()),
        ("GITPOD_HEADLESS".to_owned(), "true".to_owned()),
    ]
    .into());
    let error = Source::Gitpod(Gitpod::new(&env))
        .mint(&asking())
        .await
        .expect_err("no token");
    assert!(
        matches!(&error, MintError::Config(text) if text.contains("prebuild")),
        "{error}"
    );
    assert!(!ran.exists());
}
