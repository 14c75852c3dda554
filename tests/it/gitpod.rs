//! The scripts that a Gitpod workspace runs, over the four orders in which Gitpod runs tasks; and that all of `gitpod/`
//! speaks of one version. `tests/e2e/places.sh` runs the same files with the real binary, as the platforms would.
//!
//! The binary is a stand-in that writes down how it was called; so are `cargo`, `rustup` and `curl`. What is joined to
//! what is as Gitpod's supervisor does it: `{ before } && { init }`, so a part that fails keeps the next from running.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::{Value, json};

const FAKE: &str = r#"#!/bin/sh
printf '%s\n' "$*" >>"$CALLS"
case $1 in
    --version) echo "tagalong 9.9.9" ;;
    completions) echo "complete -W up tagalong" ;;
    up) [ ! -e "$MACHINE/broken" ] && : >"$MACHINE/running" &&
        echo "export OTEL_EXPORTER_OTLP_ENDPOINT='http://127.0.0.1:4318'" ;;
esac
"#;

/// What Gitpod keeps over a stop (`workspace`), and what it does not (`machine`).
struct Place {
    dir: tempfile::TempDir,
    tasks: Tasks,
    vars: Vec<(&'static str, String)>,
}

/// One entry of `tasks`.
struct Tasks {
    init: String,
    command: String,
}

impl Place {
    /// A clone of a repository that has copied `gitpod/`, with the lines of its README pasted.
    fn new() -> Place {
        let place = Place::bare(Tasks {
            init: "TAGALONG_VERSION=0.1.0 sh gitpod/install.sh || true".into(),
            command: ". gitpod/start.sh || true".into(),
        });
        place.script("built/tagalong", FAKE);
        place
    }

    /// Where the binary has been built already.
    fn with_a_build() -> Place {
        let mut place = Place::new();
        place.tasks.init = format!(
            "TAGALONG_BINARY={} sh gitpod/install.sh || true",
            place.path("built/tagalong").display()
        );
        place
    }

    fn bare(tasks: Tasks) -> Place {
        let place = Place {
            dir: tempfile::tempdir().unwrap(),
            tasks,
            vars: Vec::new(),
        };
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("gitpod");
        fs::create_dir_all(place.path("workspace/app")).unwrap();
        fs::create_dir_all(place.path("machine/bin")).unwrap();
        std::os::unix::fs::symlink(scripts, place.path("workspace/app/gitpod")).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn home(&self) -> PathBuf {
        self.path("workspace/.tagalong")
    }

    fn script(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn run(&self, parts: &[&str], headless: bool) -> Output {
        let joined: Vec<String> = parts.iter().map(|part| format!("{{\n{part}\n}}")).collect();
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!(
            "{} && {{\necho \"then $OTEL_EXPORTER_OTLP_ENDPOINT\"\n}}",
            joined.join(" && ")
        ));
        command.current_dir(self.path("workspace/app")).env_clear();
        command.env(
            "PATH",
            format!("{}:/usr/local/bin:/usr/bin:/bin", self.path("machine/bin").display()),
        );
        command
            .env("HOME", self.path("machine"))
            .env("TAGALONG_HOME", self.home());
        command
            .env("CALLS", self.path("calls"))
            .env("MACHINE", self.path("machine"));
        command.env("RELEASES", self.path("releases"));
        command.envs(self.vars.iter().map(|(name, value)| (*name, value)));
        command.env("GITPOD_HEADLESS", if headless { "true" } else { "false" });
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "a task failed: {said}");
        assert!(
            stdout(&output).contains("then "),
            "what comes after did not run: {said}"
        );
        output
    }

    fn prebuild(&self) -> Output {
        self.run(&["true", &self.tasks.init], true)
    }

    /// After a prebuild, or after a stop.
    fn start(&self) -> Output {
        self.run(&["true", &self.tasks.command], false)
    }

    fn fresh_start(&self) -> Output {
        self.run(&["true", &self.tasks.init, &self.tasks.command], false)
    }

    /// All but `/workspace` is lost.
    fn stop(&self) {
        let _ = fs::remove_file(self.path("machine/running"));
    }

    fn is_running(&self) -> bool {
        self.path("machine/running").exists()
    }

    /// How the binary was called, without the questions for its version.
    fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.path("calls")).unwrap_or_default();
        calls
            .lines()
            .filter(|call| *call != "--version")
            .map(str::to_owned)
            .collect()
    }

    /// Every file below the agent's directory, sorted.
    fn left_behind(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut open = vec![self.home()];
        while let Some(dir) = open.pop() {
            for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
                found.push(entry.path().strip_prefix(self.home()).unwrap().display().to_string());
                open.push(entry.path());
            }
        }
        found.sort();
        found
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A block of this repository's `.gitpod.yml`, by its key.
fn own_block(key: &str) -> String {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(".gitpod.yml")).unwrap();
    let body = text
        .split_once(&format!("    {key}: |\n"))
        .expect("the task has this block")
        .1;
    body.lines()
        .take_while(|line| line.starts_with("      "))
        .map(|line| format!("{}\n", line.trim()))
        .collect()
}

fn own() -> Place {
    let place = Place::bare(Tasks {
        init: own_block("init"),
        command: own_block("command"),
    });
    place.script("fake", FAKE);
    let cargo = format!(
        "#!/bin/sh\nmkdir -p target/release && cp {} target/release/tagalong\n",
        place.path("fake").display()
    );
    place.script("machine/bin/cargo", &cargo);
    place.script("machine/bin/rustup", "#!/bin/sh\nexit 1\n");
    place
}

#[test]
fn a_prebuild_leaves_the_binary_and_nothing_else_and_starts_nothing() {
    for place in [Place::with_a_build(), own()] {
        place.prebuild();
        assert_eq!(place.left_behind(), ["bin", "bin/tagalong"]);
        assert_eq!(place.calls(), [""; 0]);
        assert!(!place.is_running());
    }
}

#[test]
fn a_start_from_a_prebuild_starts_the_agent_that_the_prebuild_has_left() {
    for place in [Place::with_a_build(), own()] {
        place.prebuild();
        let output = place.start();
        assert!(place.is_running());
        assert_eq!(place.calls(), ["up --env sh", "completions bash"]);
        assert!(
            stdout(&output).contains("then http://127.0.0.1:4318"),
            "the task's shell reports to the agent"
        );
    }
}

#[test]
fn a_fresh_start_installs_and_starts() {
    for place in [Place::with_a_build(), own()] {
        place.fresh_start();
        assert!(place.is_running());
        assert_eq!(place.left_behind(), ["bin", "bin/tagalong"]);
    }
}

#[test]
fn a_restart_starts_what_the_first_start_has_installed() {
    for place in [Place::with_a_build(), own()] {
        place.fresh_start();
        place.stop();
        place.start();
        assert!(place.is_running());
        assert_eq!(place.calls().iter().filter(|call| *call == "up --env sh").count(), 2);
    }
}

#[test]
fn a_command_that_is_run_in_a_prebuild_all_the_same_does_nothing() {
    let place = Place::with_a_build();
    place.prebuild();
    place.run(&[&place.tasks.command], true);
    assert_eq!(place.calls(), [""; 0]);
}

#[test]
fn a_build_that_fails_fails_no_task_and_says_what_to_do() {
    let place = own();
    place.script("machine/bin/cargo", "#!/bin/sh\nexit 101\n");
    let output = place.fresh_start();
    assert!(
        stderr(&output).contains("There is no file target/release/tagalong."),
        "{}",
        stderr(&output)
    );
    assert!(stderr(&output).contains("not installed, so nothing was started"));
    assert_eq!(place.left_behind(), ["bin"]);
}

#[test]
fn an_agent_that_does_not_start_fails_no_task_and_leaves_the_shell_as_it_was() {
    let place = Place::with_a_build();
    place.prebuild();
    fs::write(place.path("machine/broken"), "").unwrap();
    let output = place.start();
    assert!(stderr(&output).contains("doctor\" says why"));
    assert!(stdout(&output).ends_with("then \n"));
}

#[test]
fn start_is_safe_in_a_shell_that_ends_at_the_first_failure() {
    let place = Place::new();
    place.run(&["set -eu\nOTEL_EXPORTER_OTLP_ENDPOINT=\n. gitpod/start.sh"], false);
}

#[test]
fn a_directory_that_cannot_be_written_fails_no_task() {
    let place = Place::with_a_build();
    fs::write(place.home(), "a file where the directory belongs").unwrap();
    assert!(stderr(&place.prebuild()).contains("cannot be written"));
}

#[test]
fn a_binary_for_another_machine_is_not_put_in_place_of_one_that_works() {
    let place = Place::with_a_build();
    place.prebuild();
    place.script("built/tagalong", "#!/bin/sh\nexit 126\n");
    assert!(stderr(&place.prebuild()).contains("does not run here"));
    assert_eq!(fs::read_to_string(place.home().join("bin/tagalong")).unwrap(), FAKE);
    assert_eq!(place.left_behind(), ["bin", "bin/tagalong"], "no scratch is left");
}

/// A `curl` that has only what the test has published, and a `uname` that is always the same machine.
fn with_releases() -> Place {
    let place = Place::new();
    let curl = "#!/bin/sh\nwhile [ $# -gt 1 ]; do [ \"$1\" != --output ] || out=$2; shift; done\n\
                cp \"$RELEASES/${1##*/}\" \"$out\"\n";
    place.script("machine/bin/curl", curl);
    place.script(
        "machine/bin/uname",
        "#!/bin/sh\n[ \"$1\" = -s ] && echo Linux || echo x86_64\n",
    );
    fs::create_dir_all(place.path("releases")).unwrap();
    place
}

const ARCHIVE: &str = "tagalong-0.1.0-x86_64-linux.tar.gz";

/// Publishes the archive and, beside it, a checksum; says the right one.
fn publish(place: &Place, checksum: Option<&str>) -> String {
    let archive = place.path("releases").join(ARCHIVE);
    let tar = Command::new("tar")
        .arg("-czf")
        .arg(&archive)
        .arg("-C")
        .arg(place.path("built"))
        .arg("tagalong")
        .status();
    assert!(tar.unwrap().success());
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &fs::read(archive).unwrap());
    let right: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    if let Some(checksum) = checksum {
        let line = checksum.replace("right", &right);
        fs::write(place.path("releases").join("SHA256SUMS"), line).unwrap();
    }
    right
}

#[test]
fn without_a_release_the_install_says_so_and_the_task_goes_on() {
    let place = with_releases();
    let output = place.fresh_start();
    assert!(
        stderr(&output).contains("The release 0.1.0 could not be had"),
        "{}",
        stderr(&output)
    );
    assert_eq!(place.left_behind(), ["bin"]);
}

#[test]
fn a_release_with_the_right_checksum_is_installed_and_started() {
    let place = with_releases();
    publish(&place, Some(&format!("0000  another.tar.gz\nright  {ARCHIVE}\n")));
    let output = place.fresh_start();
    assert!(place.is_running(), "{}", stderr(&output));
    assert_eq!(place.left_behind(), ["bin", "bin/tagalong"]);
}

#[test]
fn a_release_with_a_wrong_or_missing_checksum_is_not_installed() {
    for (checksum, said) in [
        (Some("0000  tagalong-0.1.0-x86_64-linux.tar.gz\n"), "is wrong"),
        (Some("right  another.tar.gz\n"), "does not name"),
        (Some(""), "has no checksum"),
        (None, "has no checksum"),
    ] {
        let place = with_releases();
        publish(&place, checksum);
        let output = place.fresh_start();
        assert!(stderr(&output).contains(said), "{}", stderr(&output));
        assert_eq!(place.left_behind(), ["bin"]);
    }
}

#[test]
fn a_checksum_counts_whichever_way_it_is_written_and_a_version_as_its_tag() {
    let place = with_releases();
    publish(&place, Some(&format!("right  {ARCHIVE}")));
    let output = place.fresh_start();
    assert!(place.is_running(), "a last line without an end: {}", stderr(&output));

    let mut place = with_releases();
    let right = publish(&place, None);
    place.vars.push(("TAGALONG_SHA256", right.to_uppercase()));
    place.tasks.init = "TAGALONG_VERSION=v0.1.0 sh gitpod/install.sh || true".into();
    let output = place.fresh_start();
    assert!(place.is_running(), "{}", stderr(&output));
}

#[test]
fn what_is_no_version_and_what_only_looks_like_loopback_is_not_asked_for() {
    for (variable, value, said) in [
        ("TAGALONG_VERSION", "../../elsewhere", "is no version"),
        (
            "TAGALONG_RELEASES",
            "http://127.0.0.1:80@evil.example",
            "could not be had",
        ),
        ("TAGALONG_RELEASES", "http://localhost.evil.example", "could not be had"),
        ("TAGALONG_RELEASES", "http://evil.example", "could not be had"),
    ] {
        let mut place = with_releases();
        publish(&place, Some(&format!("right  {ARCHIVE}\n")));
        place.tasks.init = "TAGALONG_VERSION=${TAGALONG_VERSION:-0.1.0} sh gitpod/install.sh || true".into();
        place.vars.push((variable, value.to_owned()));
        let output = place.prebuild();
        assert!(stderr(&output).contains(said), "{value}: {}", stderr(&output));
        assert_eq!(place.left_behind(), ["bin"]);
    }
}

/// As in a small image, where nobody has installed the authorities' certificates.
#[test]
fn an_address_whose_certificate_is_not_trusted_is_said_with_what_to_install() {
    // curl(1), "EXIT CODES": nobody who is trusted has signed it; and there is no file of those who are.
    for code in [60, 77] {
        let place = with_releases();
        place.script("machine/bin/curl", &format!("#!/bin/sh\nexit {code}\n"));
        let output = place.prebuild();
        assert!(
            stderr(&output).contains("The certificate of https://github.com/ is not trusted here")
                && stderr(&output).contains("Install ca-certificates"),
            "{code}: {}",
            stderr(&output)
        );
        assert_eq!(place.left_behind(), ["bin"]);
    }
}

/// The archive is believed by then; all the same nothing but one file comes out of it.
#[test]
fn an_archive_with_a_link_in_the_binarys_place_changes_nothing() {
    let place = with_releases();
    let theirs = place.path("theirs");
    fs::write(&theirs, FAKE).unwrap();
    fs::set_permissions(&theirs, fs::Permissions::from_mode(0o600)).unwrap();
    fs::remove_file(place.path("built/tagalong")).unwrap();
    std::os::unix::fs::symlink(&theirs, place.path("built/tagalong")).unwrap();
    publish(&place, Some(&format!("right  {ARCHIVE}\n")));
    let output = place.prebuild();
    assert!(stderr(&output).contains("holds no file"), "{}", stderr(&output));
    assert_eq!(fs::metadata(theirs).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(place.left_behind(), ["bin"]);
}

#[test]
fn a_directory_in_the_binarys_place_is_said_and_stays() {
    let place = Place::with_a_build();
    fs::create_dir_all(place.home().join("bin/tagalong")).unwrap();
    let output = place.prebuild();
    assert!(stderr(&output).contains("is a directory"), "{}", stderr(&output));
    assert_eq!(place.left_behind(), ["bin", "bin/tagalong"]);
}

#[test]
fn switched_off_the_scripts_do_nothing_and_say_nothing() {
    for yes in ["1", "True", "yes", "on"] {
        let mut place = Place::with_a_build();
        place.vars.push(("TAGALONG_DISABLED", yes.to_owned()));
        assert_eq!(stderr(&place.fresh_start()), "");
        assert_eq!((place.left_behind(), place.calls()), (Vec::new(), Vec::new()), "{yes}");
    }
}

#[test]
fn a_pinned_checksum_goes_before_the_published_one() {
    let mut place = with_releases();
    let right = publish(&place, Some("right\n"));
    place.vars.push(("TAGALONG_SHA256", "0".repeat(64)));
    assert!(stderr(&place.fresh_start()).contains("is wrong"));
    place.vars[0].1 = right;
    place.fresh_start();
    assert!(place.is_running());
}

#[test]
fn a_version_that_is_installed_is_not_downloaded_again() {
    let mut place = with_releases();
    place.tasks.init = "TAGALONG_VERSION=9.9.9 sh gitpod/install.sh || true".into();
    place.script("home/bin/tagalong", FAKE);
    place
        .vars
        .push(("TAGALONG_HOME", place.path("home").display().to_string()));
    let output = place.prebuild();
    assert!(
        stderr(&output).contains("installed tagalong 9.9.9"),
        "{}",
        stderr(&output)
    );
    assert!(!stderr(&output).contains("could not be had"));
}

/// A key of its own, and a signature of `SHA256SUMS` by it; none where there is no `ssh-keygen`.
fn sign(place: &Place, namespace: &str) -> Option<String> {
    let (key, sums) = (place.path("key"), place.path("releases/SHA256SUMS"));
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"])
        .arg(&key)
        .status();
    if !made.is_ok_and(|made| made.success()) {
        return None;
    }
    let signed = Command::new("ssh-keygen")
        .args(["-q", "-Y", "sign", "-n", namespace, "-f"])
        .args([&key, &sums])
        .status();
    assert!(signed.unwrap().success());
    Some(fs::read_to_string(place.path("key.pub")).unwrap())
}

#[test]
fn a_release_is_installed_if_a_key_that_is_trusted_has_signed_its_checksums() {
    let mut place = with_releases();
    publish(&place, Some(&format!("right  {ARCHIVE}\n")));
    let Some(key) = sign(&place, "tagalong-release") else {
        return;
    };
    place.vars.push((
        "TAGALONG_SIGNERS",
        format!("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAA\n{key}"),
    ));
    let output = place.fresh_start();
    assert!(place.is_running(), "{}", stderr(&output));
    assert!(!stderr(&output).contains("without"), "{}", stderr(&output));
}

#[test]
fn a_release_with_a_signature_that_is_wrong_foreign_or_left_out_is_not_installed() {
    let other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPsBwGgHyJSDXJxwN1X4hGvMbKmOW4bFqgF1MVAlJRnZ";
    for (namespace, signer, change, said) in [
        ("tagalong-release", None, "one more line", "The signature"),
        ("tagalong-release", Some(other), "", "The signature"),
        ("file", None, "", "The signature"),
        ("tagalong-release", None, "no signature", "are not signed"),
    ] {
        let mut place = with_releases();
        publish(&place, Some(&format!("right  {ARCHIVE}\n")));
        let Some(key) = sign(&place, namespace) else { return };
        match change {
            "one more line" => {
                let sums = place.path("releases/SHA256SUMS");
                fs::write(&sums, fs::read_to_string(&sums).unwrap() + "0000  another.tar.gz\n").unwrap();
            }
            "no signature" => fs::remove_file(place.path("releases/SHA256SUMS.sig")).unwrap(),
            _ => {}
        }
        place.vars.push(("TAGALONG_SIGNERS", signer.map_or(key, str::to_owned)));
        let output = place.fresh_start();
        assert!(stderr(&output).contains(said), "{}", stderr(&output));
        assert_eq!(place.left_behind(), ["bin"]);
    }
}

#[test]
fn without_a_key_or_a_tool_the_checksum_is_believed_and_that_is_said() {
    let place = with_releases();
    publish(&place, Some(&format!("right  {ARCHIVE}\n")));
    let output = place.fresh_start();
    assert!(stderr(&output).contains("without a signature"), "{}", stderr(&output));
    assert!(place.is_running());

    let mut place = with_releases();
    publish(&place, Some(&format!("right  {ARCHIVE}\n")));
    place.script(
        "machine/bin/ssh-keygen",
        "#!/bin/sh\necho 'unknown option -- Y' >&2\nexit 1\n",
    );
    fs::write(place.path("releases/SHA256SUMS.sig"), "a signature").unwrap();
    place.vars.push(("TAGALONG_SIGNERS", "ssh-ed25519 AAAA".into()));
    let output = place.fresh_start();
    assert!(
        stderr(&output).contains("cannot check signatures"),
        "{}",
        stderr(&output)
    );
    assert!(place.is_running());
}

#[test]
fn an_archive_that_is_a_file_here_needs_no_network_and_its_checksum_all_the_same() {
    let mut place = with_releases();
    publish(&place, Some(&format!("right  {ARCHIVE}\n")));
    place.script("machine/bin/curl", "#!/bin/sh\nexit 7\n");
    let archive = place.path("releases").join(ARCHIVE);
    place.tasks.init = format!("TAGALONG_BINARY={} sh gitpod/install.sh || true", archive.display());
    place.fresh_start();
    assert!(place.is_running());

    place.stop();
    fs::write(place.path("releases/SHA256SUMS"), format!("0000  {ARCHIVE}\n")).unwrap();
    assert!(stderr(&place.fresh_start()).contains("is wrong"));
    fs::remove_file(place.path("releases/SHA256SUMS")).unwrap();
    assert!(stderr(&place.fresh_start()).contains("Set TAGALONG_SHA256"));
    assert_eq!(fs::read_to_string(place.home().join("bin/tagalong")).unwrap(), FAKE);
}

#[test]
fn an_install_that_is_to_be_strict_fails() {
    let place = Place::new();
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("gitpod/install.sh");
    for (strict, code) in [("0", 0), ("1", 1)] {
        let mut command = Command::new("sh");
        command
            .arg(&scripts)
            .env("TAGALONG_STRICT", strict)
            .env("TAGALONG_HOME", place.home());
        assert_eq!(command.output().unwrap().status.code(), Some(code));
    }
}

fn shipped(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("gitpod").join(name)).unwrap()
}

/// What the specification's schema lets a property of a Feature be.
#[derive(Clone, Copy)]
enum Form {
    Text,
    Flag,
    Texts,
    Variables,
    Options,
    Mounts,
    Tools,
    /// For a shell, in words, or several of both that have names.
    Command,
}

/// All of its properties; it allows no other.
const FEATURE: [(&str, Form); 23] = [
    ("id", Form::Text),
    ("version", Form::Text),
    ("name", Form::Text),
    ("description", Form::Text),
    ("documentationURL", Form::Text),
    ("licenseURL", Form::Text),
    ("options", Form::Options),
    ("containerEnv", Form::Variables),
    ("privileged", Form::Flag),
    ("init", Form::Flag),
    ("capAdd", Form::Texts),
    ("securityOpt", Form::Texts),
    ("entrypoint", Form::Text),
    ("mounts", Form::Mounts),
    ("customizations", Form::Tools),
    ("installsAfter", Form::Texts),
    ("legacyIds", Form::Texts),
    ("deprecated", Form::Flag),
    ("onCreateCommand", Form::Command),
    ("updateContentCommand", Form::Command),
    ("postCreateCommand", Form::Command),
    ("postStartCommand", Form::Command),
    ("postAttachCommand", Form::Command),
];

fn are_texts(value: &Value) -> bool {
    value.as_array().is_some_and(|items| items.iter().all(Value::is_string))
}

/// Whether an object has all of `needed`, and nothing but these and `allowed`.
fn has_keys(value: &Value, needed: &[&str], allowed: &[&str]) -> bool {
    value.as_object().is_some_and(|object| {
        let is_known = |key: &String| needed.contains(&key.as_str()) || allowed.contains(&key.as_str());
        needed.iter().all(|key| object.contains_key(*key)) && object.keys().all(is_known)
    })
}

fn is_option(option: &Value) -> bool {
    let is_described = option.get("description").is_none_or(Value::is_string);
    let lists = ["proposals", "enum"].map(|list| option.get(list).is_none_or(are_texts));
    is_described
        && lists == [true; 2]
        && match option["type"].as_str() {
            Some("boolean") => {
                option["default"].is_boolean() && has_keys(option, &["type", "default"], &["description"])
            }
            // What is proposed and what alone is allowed rule each other out.
            Some("string") => {
                let list = if option.get("enum").is_some() {
                    "enum"
                } else {
                    "proposals"
                };
                option["default"].is_string() && has_keys(option, &["type", "default"], &["description", list])
            }
            _ => false,
        }
}

fn is_mount(mount: &Value) -> bool {
    has_keys(mount, &["source", "target", "type"], &[])
        && mount["source"].is_string()
        && mount["target"].is_string()
        && ["bind", "volume"].iter().any(|kind| mount["type"] == *kind)
}

impl Form {
    fn fits(self, value: &Value) -> bool {
        let each = |fits: fn(&Value) -> bool| value.as_object().is_some_and(|object| object.values().all(fits));
        let is_command = |value: &Value| value.is_string() || are_texts(value);
        match self {
            Form::Text => value.is_string(),
            Form::Flag => value.is_boolean(),
            Form::Texts => are_texts(value),
            Form::Variables => each(Value::is_string),
            Form::Options => each(is_option),
            Form::Mounts => value.as_array().is_some_and(|mounts| mounts.iter().all(is_mount)),
            Form::Tools => value.is_object(),
            Form::Command => is_command(value) || each(is_command),
        }
    }
}

/// What is wrong with a Feature, by property.
fn faults(feature: &Value) -> Vec<String> {
    let object = feature.as_object().expect("an object");
    let needed = ["id", "version"].iter().filter(|name| !object.contains_key(**name));
    let mut faults: Vec<String> = needed.map(|name| format!("{name} is missing")).collect();
    for (name, value) in object {
        match FEATURE.iter().find(|(known, _)| known == name) {
            None => faults.push(format!("{name} is no property of a Feature")),
            Some((_, form)) if !form.fits(value) => faults.push(format!("{name} cannot be {value}")),
            Some(_) => {}
        }
    }
    faults
}

#[test]
fn the_feature_has_the_form_that_the_specification_asks_for() {
    let feature: Value = serde_json::from_str(&shipped("devcontainer-feature/devcontainer-feature.json")).unwrap();
    assert_eq!(faults(&feature), [""; 0]);
    assert_eq!(feature["id"], "tagalong");
    assert_eq!(feature["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(feature["options"]["version"]["default"], env!("CARGO_PKG_VERSION"));
    assert_eq!(feature["mounts"][0]["type"], "volume");
    for (path, wrong) in [
        ("/id", json!(1)),
        ("/keywords", json!(["tracing"])),
        ("/containerEnv/TAGALONG_DEVCONTAINER", json!(true)),
        ("/options/strict/default", json!("false")),
        ("/options/version/enum", json!(["0.1.0"])),
        ("/options/version/proposals", json!("0.1.0")),
        ("/mounts/0/type", json!("tmpfs")),
        ("/mounts/0/external", json!(true)),
        ("/postStartCommand", json!(7)),
        ("/installsAfter", json!("common-utils")),
    ] {
        let mut broken = feature.clone();
        let (holder, key) = path.rsplit_once('/').expect("a path");
        broken.pointer_mut(holder).expect("it is there")[key] = wrong;
        assert_eq!(faults(&broken).len(), 1, "{path}");
    }
}

/// The tools write a Feature's `containerEnv` into the image, where `${devcontainerId}` would be a variable of the build:
/// an empty one. In mounts they replace it.
#[test]
fn the_feature_names_the_container_where_tools_replace_the_name() {
    let feature: Value = serde_json::from_str(&shipped("devcontainer-feature/devcontainer-feature.json")).unwrap();
    assert!(!feature["containerEnv"].to_string().contains("${"));
    assert_eq!(feature["mounts"][0]["source"], "tagalong-${devcontainerId}");
    let hook = feature["postStartCommand"].as_str().unwrap();
    assert_eq!(
        hook, "/usr/local/bin/tagalong up || true",
        "a terminal knows all that the hook knows"
    );
    let home = feature["containerEnv"]["TAGALONG_HOME"].as_str().unwrap();
    assert!(
        home.starts_with(feature["mounts"][0]["target"].as_str().unwrap()),
        "the spool is in the volume"
    );
}

#[test]
fn everything_that_is_shipped_names_this_version() {
    for (name, line) in [
        ("README.md", "TAGALONG_VERSION="),
        ("automations.yaml", "TAGALONG_VERSION="),
        ("README.md", "ghcr.io/tagalong-dev/tagalong/tagalong:"),
    ] {
        let text = shipped(name);
        for rest in text.split(line).skip(1) {
            assert!(rest.starts_with(env!("CARGO_PKG_VERSION")), "{name}: {line}{rest:.20}");
        }
        assert!(text.contains(line), "{name} has no {line}");
    }
}

/// `tagalong init ona` writes the service of the file that is shipped.
#[test]
fn the_automations_that_are_shipped_hold_the_service_that_init_writes() {
    let dir = tempfile::tempdir().unwrap();
    let init = Command::new(env!("CARGO_BIN_EXE_tagalong"))
        .args(["init", "ona"])
        .current_dir(dir.path())
        .output();
    assert!(init.unwrap().status.success());
    let written = fs::read_to_string(dir.path().join(".ona/automations.yaml")).unwrap();
    let service = written.split_once("  tagalong:\n").expect("a service of that name").1;
    let (service, start) = service.split_once("      start: ").expect("a command to start it");
    let shipped = shipped("automations.yaml");
    assert!(shipped.contains(service), "{written}");
    let ours = shipped.split_once("      start: ").expect("a command to start it").1;
    assert!(
        ours.starts_with("TAGALONG_VERSION=") && ours.trim_end().ends_with(start.lines().next().unwrap()),
        "{ours}"
    );
}
