//! Logins of people, through the real executable: what is shown, what is kept, what a second process does.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::net::UnixListener,
    process::{Child, Command, Stdio},
};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{
    refresh::wait_for_followers,
    support::{
        agent::{Home, signal},
        provider::{CANARY, CLIENT, CLIENT_SECRET, Provider, Settings},
    },
};

/// A plain machine on which logins rest in a file, with consent.
fn machine() -> Home {
    Home::new().set("TAGALONG_IDENTITY_KEEP", "file")
}

/// A command whose output is read while it runs.
struct Running {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
    read: String,
}

impl Running {
    fn start(mut command: Command) -> Running {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        Running {
            child,
            output,
            read: String::new(),
        }
    }

    /// The first line that holds `text`.
    fn line(&mut self, text: &str) -> String {
        loop {
            let mut line = String::new();
            let read = self.output.read_line(&mut line).expect("text");
            self.read.push_str(&line);
            if read == 0 {
                let errors = self.errors();
                panic!("no {text:?} in {}{errors}", self.read);
            }
            if line.contains(text) {
                return line;
            }
        }
    }

    fn errors(&mut self) -> String {
        let mut text = String::new();
        if let Some(mut errors) = self.child.stderr.take() {
            errors.read_to_string(&mut text).expect("text");
        }
        text
    }

    /// All that it said, and its exit code.
    fn end(mut self) -> (String, Option<i32>) {
        self.output.read_to_string(&mut self.read).expect("text");
        let errors = self.errors();
        let code = self.child.wait().expect("it ends").code();
        (format!("{}{errors}", self.read), code)
    }
}

/// Logs in with a code, as a person who confirms it at once.
pub fn log_in(home: &Home, provider: &Provider) -> String {
    let mut login = Running::start(home.command(&["login", &provider.url(), "--yes"]));
    login.line("enter the code WDJB-");
    provider.confirm(true);
    let (text, code) = login.end();
    assert_eq!(code, Some(0), "{text}");
    text
}

async fn provider() -> Provider {
    let provider = Provider::start().await;
    provider.set_audience(&provider.url());
    provider
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_is_all_that_a_login_needs() {
    let (provider, home) = (provider().await, machine());
    let file = home.path().join("config/tagalong/config.toml");
    fs::create_dir_all(file.parent().expect("a directory")).expect("made");
    fs::write(&file, "# mine\n[spool]\nmax_bytes = \"128MiB\" # enough\n").expect("written");
    let text = log_in(&home, &provider);
    for shown in [
        "which says:",
        "openid offline_access telemetry",
        "tagalong-test",
        "ada@example.com",
        "The login will rest in",
    ] {
        assert!(text.contains(shown), "no {shown:?} in {text}");
    }
    let kept = fs::read_to_string(&file).expect("readable");
    assert!(
        kept.starts_with("# mine\n[spool]\nmax_bytes = \"128MiB\" # enough\n"),
        "{kept}"
    );
    assert!(
        kept.contains("credential = \"device\"") && !kept.contains(CANARY),
        "{kept}"
    );
    // From here on it goes by itself.
    home.up();
    let status = wait_for_state(&home, "fresh");
    assert_eq!(status["credential"]["source"], "device");
    assert_eq!(status["principal"]["subject"], "ada-1");
    let who = home.text(&["whoami"]);
    // Principal, issuer, source and end, and how much of it is verified.
    let issuer = provider.url();
    for shown in [
        "ada-1",
        &issuer,
        "device, generation 1, ends in ",
        "checked by upstream",
    ] {
        assert!(who.contains(shown), "no {shown:?} in {who}");
    }
    assert_eq!(provider.seen().reused, 0);
}

fn wait_for_state(home: &Home, state: &str) -> Value {
    loop {
        let status = home.status();
        if status["credential"]["state"] == state {
            return status;
        }
        std::thread::yield_now();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_keyring_survives_the_agent_keeps_the_login_and_says_so() {
    let (provider, home) = (provider().await, Home::new());
    let text = log_in(&home, &provider);
    assert!(
        text.contains("no keyring here") && text.contains("ends with the agent"),
        "{text}"
    );
    let status = wait_for_state(&home, "fresh");
    assert_eq!(status["principal"]["subject"], "ada-1");
    let out = home.text(&["logout"]);
    assert!(out.contains("revoked"), "{out}");
    assert_eq!((provider.seen().revoked, provider.alive()), (1, 0));
    wait_for_state(&home, "needs-user");
    for command in ["token", "whoami"] {
        let output = home.run(&[command]);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.code() == Some(4) && text.contains("somebody logged out"),
            "{text}"
        );
        assert!(output.stdout.is_empty(), "nobody is shown who is not there any more");
    }
    assert_eq!(home.text(&["status"]).matches("tagalong login").count(), 1);
    // A second login needs no second agent.
    let pid = home.pid();
    log_in(&home, &provider);
    wait_for_state(&home, "fresh");
    assert_eq!(home.pid(), pid);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_that_fails_ends_nothing() {
    use std::os::unix::fs::PermissionsExt;
    let (provider, home) = (provider().await, machine());
    log_in(&home, &provider);
    home.up();
    wait_for_state(&home, "fresh");
    let kept = fs::read_dir(home.path().join("run/tagalong")).expect("a directory");
    let kept = kept.map(|entry| entry.expect("an entry").path());
    let kept = kept.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    for file in kept {
        fs::set_permissions(file, fs::Permissions::from_mode(0o644)).expect("it is ours");
    }
    let output = home.run(&["logout"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && text.contains("others can read it"),
        "{text}"
    );
    assert_eq!(home.status()["credential"]["state"], "fresh");
    assert!(!home.text(&["token"]).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_in_memory_survives_up_with_other_settings_and_never_rests() {
    let (provider, home) = (provider().await, Home::new());
    provider.edit(|settings| settings.expires_in = json!(10));
    log_in(&home, &provider);
    wait_for_state(&home, "fresh");
    let (pid, token) = (home.pid(), home.text(&["token"]));
    let home = home.set("TAGALONG_EXPORT_TIMEOUT", "9s");
    let text = home.text(&["up", "--strict"]);
    assert!(text.contains("replaced") && !text.contains("tagalong login"), "{text}");
    assert_ne!(home.pid(), pid);
    wait_for_state(&home, "fresh");
    let seen = provider.seen();
    if seen.refreshes == 0 {
        assert_eq!(home.text(&["token"]), token, "what was good goes on");
    }
    // And it is renewed from there.
    provider.wait(|now| now.refreshes >= seen.refreshes + 2).await;
    assert_eq!((provider.seen().reused, provider.alive()), (0, 1));
    assert_eq!(home.files_with(CANARY), Vec::<std::path::PathBuf>::new());
    assert!(home.text(&["logout"]).contains("revoked"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_in_memory_is_carried_over_to_nothing_that_it_was_not_made_for() {
    let (provider, home) = (provider().await, Home::new());
    log_in(&home, &provider);
    wait_for_state(&home, "fresh");
    let before = provider.seen().refresh_requests;
    let home = home.set("TAGALONG_IDENTITY_SCOPES", "openid other");
    assert!(home.text(&["up", "--strict"]).contains("replaced"));
    wait_for_state(&home, "needs-user");
    assert!(home.text(&["up"]).contains("tagalong login"));
    home.until(|_| home.text(&["logs"]).contains("for other settings"));
    wait_for_state(&home, "needs-user");
    assert_eq!(provider.seen().refresh_requests, before);
}

/// A machine that is set up for logins, before the first.
fn nobody_at(provider: &Provider) -> Home {
    machine()
        .set("TAGALONG_EXPORT_ENDPOINT", provider.url())
        .set("TAGALONG_IDENTITY_CREDENTIAL", "device")
        .set("TAGALONG_IDENTITY_ISSUER", provider.url())
        .set("TAGALONG_IDENTITY_CLIENT_ID", CLIENT)
}

#[tokio::test(flavor = "multi_thread")]
async fn up_says_once_in_a_session_that_nobody_is_logged_in() {
    let provider = provider().await;
    let home = nobody_at(&provider);
    let said = |home: &Home| home.text(&["up"]).matches("tagalong login").count();
    for _ in 0..2 {
        // A busy machine's agent may need longer than a hook waits: then the next `up` says it.
        let first = said(&home);
        wait_for_state(&home, "needs-user");
        assert_eq!(first + said(&home), 1);
        assert_eq!(said(&home), 0);
        // What it tells of itself waits for a credential.
        home.run(&["down", "--timeout", "0s"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn status_asks_for_a_login_once_in_a_session_and_says_each_time_that_there_is_none() {
    let provider = provider().await;
    let home = nobody_at(&provider);
    let asks = |command: &str| home.text(&[command]).matches("tagalong login").count();
    for _ in 0..2 {
        let mut asked = asks("up");
        wait_for_state(&home, "needs-user");
        for command in ["status", "up", "status"] {
            asked += asks(command);
        }
        assert_eq!(asked, 1);
        assert!(home.text(&["status"]).contains("nobody is logged in here\n"));
        // Whoever asks what to do is told.
        for _ in 0..2 {
            let doctor = home.run(&["doctor"]);
            assert!(String::from_utf8_lossy(&doctor.stdout).contains("run `tagalong login`"));
        }
        // What it tells of itself is left, and why.
        let down = home.run(&["down", "--timeout", "0s"]);
        let said = String::from_utf8_lossy(&down.stderr);
        assert!(
            said.ends_with("what kept them here: nobody is logged in here\n"),
            "{said}"
        );
    }
    // And another program than a person reads the same each time.
    let first = machine()
        .set("TAGALONG_EXPORT_ENDPOINT", provider.url())
        .set("TAGALONG_IDENTITY_CREDENTIAL", "device");
    first.text(&["up"]);
    wait_for_state(&first, "needs-user");
    for _ in 0..2 {
        let trouble = first.status()["credential"]["trouble"].to_string();
        assert!(trouble.contains("tagalong login"), "{trouble}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_could_read_was_not_said() {
    let provider = provider().await;
    let home = nobody_at(&provider);
    let unread: [fn() -> Stdio; 2] = [Stdio::null, || std::io::pipe().expect("a pipe").1.into()];
    for stdout in unread.into_iter().cycle().take(4) {
        for command in ["up", "status"] {
            let ended = home.command(&[command]).stdout(stdout()).status().expect("it runs");
            assert!(ended.success(), "{command}");
            wait_for_state(&home, "needs-user");
        }
    }
    assert!(home.text(&["status"]).contains("tagalong login"));
}

#[tokio::test(flavor = "multi_thread")]
async fn purge_ends_the_login_at_the_issuer_too_and_leaves_nothing_of_it_but_the_settings() {
    let (provider, home) = (provider().await, machine());
    log_in(&home, &provider);
    home.up();
    wait_for_state(&home, "fresh");
    let text = home.text(&["purge"]);
    assert!(text.contains("revoked") && text.contains("stopped the agent"), "{text}");
    assert!(text.contains("kept your settings in"), "{text}");
    assert_eq!((provider.seen().revoked, provider.alive()), (1, 0));
    assert!(!home.path().join("run/tagalong").exists(), "{text}");
    assert!(!home.path().join("state/tagalong").exists(), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mute_keyring_holds_nobody_up() {
    let (provider, home) = (provider().await, Home::new());
    let runtime = home.path().join("run");
    fs::create_dir_all(&runtime).expect("made");
    // A session bus that takes connections and never says a word.
    let _bus = UnixListener::bind(runtime.join("bus")).expect("a socket");
    let text = log_in(&home, &provider);
    assert!(
        text.contains("keyring does not answer") && text.contains("in the agent's memory"),
        "{text}"
    );
    wait_for_state(&home, "fresh");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_comes_back_once_with_the_right_state() {
    let (provider, home) = (provider().await, machine());
    let arguments = ["login", &provider.url(), "--yes", "--browser"];
    let mut login = Running::start(home.command(&arguments));
    let url = login.line("/authorize?").trim().to_owned();
    let client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .expect("a client");
    let answer = client.get(&url).send().await.expect("the provider's page");
    let back = answer.headers()["location"].to_str().expect("a URL").to_owned();
    let wrong = back.replace("state=", "state=x");
    assert_eq!(client.get(&wrong).send().await.expect("a page").status(), 400);
    let elsewhere = back.replace("/callback", "/");
    assert_eq!(client.get(&elsewhere).send().await.expect("a page").status(), 404);
    let rebound = client.get(&back).header("host", "evil.example");
    assert_eq!(rebound.send().await.expect("a page").status(), 404);
    let page = client.get(&back).send().await.expect("a page");
    assert_eq!(page.headers()["content-security-policy"], "default-src 'none'");
    let bytes = page.bytes().await.expect("a page");
    assert!(String::from_utf8_lossy(&bytes).contains("You can close this page"));
    let (text, code) = login.end();
    assert_eq!(code, Some(0), "{text}");
    assert!(client.get(&back).send().await.is_err(), "nobody listens any more");
    assert!(home.text(&["token"]).starts_with("ey"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_token_that_was_asked_for_and_did_not_come_is_said_and_missed_where_nothing_else_binds_the_code() {
    for (has_pkce, ends_with) in [(true, Some(0)), (false, Some(4))] {
        let (provider, home) = (provider().await, machine());
        provider.edit(|settings| (settings.has_pkce, settings.gives_id) = (has_pkce, false));
        let arguments = ["login", &provider.url(), "--yes", "--browser"];
        let mut login = Running::start(home.command(&arguments));
        let url = login.line("/authorize?").trim().to_owned();
        let page = reqwest::get(&url).await.expect("the provider's page, and back");
        assert_eq!(page.status(), 200);
        let (text, code) = login.end();
        assert_eq!(code, ends_with, "{text}");
        assert!(text.contains("ID token") && text.contains("openid"), "{text}");
        assert_eq!(home.run(&["token"]).status.success(), has_pkce);
    }
    // A code for another device is bound by its device code, whatever the issuer says of PKCE.
    let (provider, home) = (provider().await, machine());
    provider.edit(|settings| settings.gives_id = false);
    assert!(log_in(&home, &provider).contains("ID token"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_is_bound_to_its_login_by_pkce_where_the_issuer_has_that_and_nowhere_else() {
    for has_pkce in [true, false] {
        let (provider, home) = (provider().await, machine());
        // It refuses a login by code without PKCE where it has that, and one with PKCE where it has not.
        provider.edit(|settings| settings.has_pkce = has_pkce);
        log_in(&home, &provider);
        assert_eq!(provider.alive(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_is_declined_or_comes_too_late_keeps_nothing() {
    let (provider, home) = (provider().await, machine());
    let mut login = Running::start(home.command(&["login", &provider.url(), "--yes"]));
    login.line("enter the code");
    provider.confirm(false);
    let (text, code) = login.end();
    assert!(code == Some(4) && text.contains("declined"), "{code:?} {text}");
    provider.edit(|settings| settings.device_lifetime = 0);
    let (text, code) = Running::start(home.command(&["login", "--yes"])).end();
    assert!(code == Some(4) && text.contains("in time"), "{code:?} {text}");
    assert_eq!(provider.alive(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn bug_headless_prompt_nobody_at_a_terminal_is_asked_nothing() {
    let (provider, home) = (provider().await, machine());
    let output = home
        .command(&["login", &provider.url()])
        .stdin(Stdio::null())
        .output()
        .expect("it runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--yes"));
    assert!(!home.path().join("config/tagalong/config.toml").exists());
    assert_eq!(provider.seen(), Default::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setting_that_goes_before_the_users_file_is_said_before_anybody_logs_in() {
    let provider = provider().await;
    let home = machine().set("TAGALONG_EXPORT_ENDPOINT", "https://elsewhere.example");
    let (text, code) = Running::start(home.command(&["login", &provider.url(), "--yes"])).end();
    assert_eq!(code, Some(2), "{text}");
    assert!(
        text.contains("export.endpoint") && text.contains("TAGALONG_EXPORT_ENDPOINT"),
        "{text}"
    );
    assert_eq!(provider.seen().device_polls, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_says_nothing_of_its_issuer_needs_settings() {
    let home = machine();
    let (text, code) = Running::start(home.command(&["login", "--yes"])).end();
    assert!(
        code == Some(2) && text.contains("nothing says where to log in"),
        "{text}"
    );
    let (text, code) = Running::start(home.command(&["login", "http://elsewhere.example", "--yes"])).end();
    assert!(code == Some(2) && text.contains("no https URL"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_processes_that_want_a_token_make_one_refresh() {
    let (provider, home) = (provider().await, machine());
    log_in(&home, &provider);
    provider.hold(true);
    let processes: Vec<Running> = (0..100).map(|_| Running::start(home.command(&["token"]))).collect();
    wait_for_followers(&home.path().join("run"), 99).await;
    provider.hold(false);
    let mut tokens = std::collections::BTreeSet::new();
    for process in processes {
        let (text, code) = process.end();
        assert_eq!(code, Some(0), "{text}");
        tokens.insert(text);
    }
    let seen = provider.seen();
    assert_eq!(
        (tokens.len(), seen.refresh_requests, seen.reused, provider.alive()),
        (1, 1, 0, 1)
    );
}

/// Kills a process after the issuer granted and before the answer can be kept.
async fn kill_in_between(home: &Home, provider: &Provider) {
    provider.hold(true);
    let before = provider.seen().refreshes;
    let mut minting = Running::start(home.command(&["token"]));
    provider.wait(|seen| seen.refreshes > before).await;
    signal(i32::try_from(minting.child.id()).expect("a pid"), Signal::KILL);
    minting.child.wait().expect("it is gone");
    provider.hold(false);
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_between_the_answer_and_its_keeping_says_login_once_and_never_loops() {
    let (provider, home) = (provider().await, machine());
    log_in(&home, &provider);
    kill_in_between(&home, &provider).await;
    let requests = provider.seen().refresh_requests;
    let (text, code) = Running::start(home.command(&["token"])).end();
    assert_eq!(code, Some(4), "{text}");
    assert!(
        text.contains("cut short") && text.matches("tagalong login").count() == 1,
        "{text}"
    );
    let tried = provider.seen().refresh_requests - requests;
    assert!((1..=2).contains(&tried), "{tried}");
    for _ in 0..3 {
        assert_eq!(home.run(&["token"]).status.code(), Some(4));
    }
    assert_eq!(
        provider.seen().refresh_requests,
        requests + tried,
        "a dead token is not sent again"
    );
    log_in(&home, &provider);
    assert!(home.text(&["token"]).starts_with("ey"));
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_between_the_answer_and_its_keeping_recovers_where_the_issuer_has_a_grace() {
    let (provider, home) = (provider().await, machine());
    provider.edit(|settings| settings.is_lenient = true);
    log_in(&home, &provider);
    kill_in_between(&home, &provider).await;
    assert!(home.text(&["token"]).starts_with("ey"));
    assert_eq!((provider.seen().reused, provider.alive()), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_7_no_output_holds_a_token_of_a_login() {
    let provider = Provider::with(Settings::default()).await;
    provider.set_audience(&provider.url());
    let home = Home::new().set("TAGALONG_LOG", "trace");
    let mut said = vec![log_in(&home, &provider)];
    wait_for_state(&home, "fresh");
    let token = home.text(&["token"]).trim().to_owned();
    for command in [
        &["status"][..],
        &["status", "--json"],
        &["doctor"],
        &["doctor", "--json"],
        &["whoami"],
        &["config"],
        &["env"],
        &["init", "gitpod", "--dry-run"],
        &["spool", "list"],
        &["up", "--replace", "--strict"],
        &["logs"],
        &["logout"],
        &["status"],
        &["token"],
        &["logs"],
        &["login", "--yes", "nonsense://"],
        &["version"],
        &["down"],
        &["up"],
        &["purge"],
    ] {
        // The log goes with the rest.
        if command[0] == "purge" {
            said.push(fs::read_to_string(home.path().join("state/tagalong/agent.log")).expect("a log"));
        }
        let output = home.run(command);
        said.push(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned());
    }
    let signature = token.rsplit('.').next().expect("a signature");
    for text in said {
        for secret in [CANARY, signature, "device-0", "c2ln"] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_7_a_logout_without_an_agent_leaves_no_core_file_of_the_login_that_it_ends() {
    let (provider, home) = (provider().await, machine());
    log_in(&home, &provider);
    let lock = home
        .files_with("")
        .into_iter()
        .find(|path| path.extension().is_some_and(|end| end == "lock"));
    let held = fs::File::open(lock.expect("the lock of a refresh")).expect("it is there");
    held.lock().expect("nobody refreshes");
    let mut logout = Running::start(home.command(&["logout"]));
    let limits = format!("/proc/{}/limits", logout.child.id());
    loop {
        let limits = fs::read_to_string(&limits).expect("it waits for the lock");
        let core = limits
            .lines()
            .find(|line| line.starts_with("Max core file size"))
            .expect("it has a login");
        let words: Vec<&str> = core.split_whitespace().collect();
        if matches!(words[4..6], ["1", "1"] | ["0", "0"]) {
            break;
        }
        assert!(logout.child.try_wait().expect("ours").is_none(), "it ended without");
        tokio::task::yield_now().await;
    }
    drop(held);
    let (text, code) = logout.end();
    assert_eq!((code, provider.seen().revoked), (Some(0), 1), "{text}");
}

/// A confidential client's login: by code, refreshes, revocation, each with the secret where the issuer wants it.
async fn confidential(method: &'static str) {
    let provider = provider().await;
    provider.edit(|settings| {
        settings.secret_by = Some(method);
        settings.expires_in = json!(10);
    });
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("client-secret");
    fs::write(&file, format!("{CLIENT_SECRET}\n")).expect("a file");
    let home = machine()
        .set("TAGALONG_LOG", "trace")
        .set("TAGALONG_EXPORT_ENDPOINT", provider.url())
        .set("TAGALONG_IDENTITY_CREDENTIAL", "device")
        .set("TAGALONG_IDENTITY_ISSUER", provider.url())
        .set("TAGALONG_IDENTITY_CLIENT_ID", CLIENT)
        .set("TAGALONG_IDENTITY_CLIENT_SECRET_FILE", file.to_string_lossy());
    let mut login = Running::start(home.command(&["login", "--yes"]));
    login.line("enter the code WDJB-");
    provider.confirm(true);
    let (text, code) = login.end();
    assert_eq!(code, Some(0), "{text}");
    let mut said = vec![text];
    home.up();
    // Twice, so that the one that the login brought is not all.
    provider.wait(|seen| seen.refreshes >= 2).await;
    let commands: [&[&str]; 8] = [
        &["status"],
        &["status", "--json"],
        &["config"],
        &["doctor"],
        &["whoami"],
        &["token"],
        &["logout"],
        &["logs"],
    ];
    for command in commands {
        let output = home.run(command);
        said.push(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned());
    }
    assert_eq!((provider.seen().revoked, provider.alive()), (1, 0));
    fs::write(&file, "canary-of-another").expect("a file");
    let output = home.run(&["login", "--yes"]);
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("identity.client_secret_file"), "{text}");
    said.push(text);
    for text in said {
        assert!(!text.contains("canary"), "{text}");
    }
    assert_eq!(
        home.files_with("canary-client-secret"),
        Vec::<std::path::PathBuf>::new()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_7_a_confidential_client_shows_its_secret_in_the_header_and_nowhere_else() {
    confidential("client_secret_basic").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_7_a_confidential_client_shows_its_secret_in_the_form_and_nowhere_else() {
    confidential("client_secret_post").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clients_secret_goes_to_no_issuer_that_an_endpoint_names() {
    let (provider, elsewhere) = (provider().await, provider().await);
    let home = machine()
        .set("TAGALONG_IDENTITY_ISSUER", elsewhere.url())
        .set("TAGALONG_IDENTITY_CLIENT_ID", CLIENT)
        .set("TAGALONG_IDENTITY_CLIENT_SECRET_FILE", "/nonexistent");
    let output = home.run(&["login", &provider.url(), "--yes"]);
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("the secret of another client"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn token_in_each_format_without_an_agent() {
    let (provider, home) = (provider().await, machine());
    log_in(&home, &provider);
    let raw = home.text(&["token"]);
    assert_eq!(raw.trim().split('.').count(), 3);
    let read =
        |format: &str| -> Value { serde_json::from_str(&home.text(&["token", "--format", format])).expect("JSON") };
    assert!(read("json")["expires_at"].as_str().expect("an end").ends_with('Z'));
    let credential = read("exec-credential");
    assert_eq!(credential["kind"], "ExecCredential");
    assert!(
        credential["status"]["token"]
            .as_str()
            .expect("a token")
            .starts_with("ey")
    );
    let header = read("otel-headers");
    assert!(
        header["Authorization"]
            .as_str()
            .expect("a header")
            .starts_with("Bearer ey")
    );
    assert_eq!(home.status()["agent"], Value::Null);
    assert!(home.text(&["whoami"]).contains("ada-1"));
}
