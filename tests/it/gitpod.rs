//! The scripts that a Gitpod workspace runs, over the four orders in which Gitpod runs tasks.
//!
//! The binary is a stand-in that writes down how it was called; so are `cargo`, `rustup` and `curl`. What is joined to
//! what is as Gitpod's supervisor does it: `{ before } && { init }`, so a part that fails keeps the next from running.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

const FAKE: &str = r#"#!/bin/sh
printf '%s\n' "$*" >>"$CALLS"
case $1 in
    --version) echo "tagalong 9.9.9" ;;
    env) echo "export OTEL_EXPORTER_OTLP_ENDPOINT='http://127.0.0.1:4318'" ;;
    up) [ ! -e "$MACHINE/broken" ] && : >"$MACHINE/running" ;;
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
        assert_eq!(place.calls(), ["up", "env --shell sh"]);
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
        assert_eq!(place.calls().iter().filter(|call| *call == "up").count(), 2);
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

const ARCHIVE: &str = "tagalong-0.1.0-x86_64-unknown-linux-gnu.tar.gz";

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
        fs::write(place.path("releases").join(format!("{ARCHIVE}.sha256")), line).unwrap();
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
    publish(&place, Some(&format!("right  {ARCHIVE}\n")));
    let output = place.fresh_start();
    assert!(place.is_running(), "{}", stderr(&output));
    assert_eq!(place.left_behind(), ["bin", "bin/tagalong"]);
}

#[test]
fn a_release_with_a_wrong_or_missing_checksum_is_not_installed() {
    for (checksum, said) in [
        (Some("0000  x\n"), "is wrong"),
        (Some(""), "is empty"),
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
fn a_pinned_checksum_goes_before_the_published_one() {
    let mut place = with_releases();
    let right = publish(&place, Some("right\n"));
    place.vars.push(("TAGALONG_SHA256", "0".repeat(64)));
    assert!(stderr(&place.fresh_start()).contains("is wrong"));
    place.vars[0].1 = right;
    place.fresh_start();
    assert!(place.is_running());
}
