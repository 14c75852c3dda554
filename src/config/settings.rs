//! Settings as they are written: read from every place that may hold them, checked one by one, each with its origin.
//!
//! No default is worked out here and nothing is derived. What is wrong is collected, never returned at the first.

use super::{
    Locations,
    value::{Kind, Value},
};
use crate::workspace::{Env, Platform};
use std::{
    collections::BTreeMap,
    fmt, io,
    path::{Path, PathBuf},
};

const DEFAULT: &str = include_str!("default.toml");
const PREFIX: &str = "TAGALONG_";
/// Stands for a key where none is to blame.
const THE_FILE: &str = "the file";
/// No settings either, but what is neither yes nor no there must not be taken for no: an agent would start.
const DISABLED: &str = "TAGALONG_DISABLED";
const PREBUILD: &str = "TAGALONG_PREBUILD";
/// What is no absolute path there must not be taken for none: the spool would be where nothing lasts.
const HOME: &str = "TAGALONG_HOME";
/// Variables of ours that are no settings: where we are and whether we do anything, and what `gitpod/install.sh` reads.
const OTHER_VARIABLES: [&str; 13] = [
    "TAGALONG_BIN",
    "TAGALONG_BINARY",
    "TAGALONG_DEVCONTAINER",
    "TAGALONG_DEVCONTAINER_ID",
    DISABLED,
    HOME,
    "TAGALONG_LOG",
    PREBUILD,
    "TAGALONG_RELEASES",
    "TAGALONG_SHA256",
    "TAGALONG_SIGNERS",
    "TAGALONG_STRICT",
    "TAGALONG_VERSION",
];
const MIB: u64 = 1024 * 1024;
const DAY: u64 = 86_400_000;

/// One key of the settings.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// Never shown, in no error and in no list.
    pub(super) secret: bool,
}

const fn key(name: &'static str, kind: Kind) -> Key {
    Key {
        name,
        kind,
        secret: false,
    }
}

const fn secret(name: &'static str, kind: Kind) -> Key {
    Key {
        name,
        kind,
        secret: true,
    }
}

/// What `workspace.platform` may be: nothing, or any platform's name.
const PLATFORMS: [&str; 1 + Platform::ALL.len()] = {
    let mut names = [""; 1 + Platform::ALL.len()];
    let mut at = 0;
    while at < Platform::ALL.len() {
        names[at + 1] = Platform::ALL[at].as_str();
        at += 1;
    }
    names
};

/// All keys, in the order of `default.toml`.
pub(super) const KEYS: [Key; 48] = [
    key("listen.grpc", Kind::Address),
    key("listen.http", Kind::Address),
    key("listen.allowed_origins", Kind::Origins),
    key("listen.max_request_bytes", Kind::Size(64 * 1024, 1024 * MIB)),
    key("listen.other_users", Kind::Flag),
    key("listen.siblings", Kind::Siblings),
    key("export.endpoint", Kind::Endpoint),
    key("export.protocol", Kind::Choice(&["http/protobuf", "grpc"])),
    key("export.compression", Kind::Choice(&["gzip", "none"])),
    secret("export.headers", Kind::Headers),
    key("export.ca_file", Kind::Path),
    key("export.timeout", Kind::Duration(100, 600_000)),
    key("export.concurrency", Kind::Count(1, 64)),
    key("export.batch_bytes", Kind::Size(1024, 4 * MIB)),
    key("export.batch_delay", Kind::Duration(0, 60_000)),
    key(
        "identity.credential",
        Kind::Choice(&[
            "auto",
            "gitpod",
            "ona",
            "github",
            "gitlab",
            "azure-devops",
            "kubernetes",
            "gcp",
            "azure",
            "file",
            "env",
            "exec",
            "http",
            "agent",
            "device",
            "browser",
            "none",
        ]),
    ),
    key("identity.audience", Kind::Text),
    key("identity.issuer", Kind::Text),
    key("identity.client_id", Kind::Text),
    key("identity.scopes", Kind::List),
    key("identity.token_endpoint", Kind::SecretUrl),
    key("identity.attributes", Kind::Choice(&["full", "pseudonym", "none"])),
    key("identity.file", Kind::Path),
    key("identity.env", Kind::Variable),
    key("identity.exec", Kind::Command),
    key("identity.url", Kind::SecretUrl),
    secret("identity.http_headers", Kind::Headers),
    key("identity.json_pointer", Kind::Pointer),
    key("identity.service_connection", Kind::Text),
    key(
        "identity.exchange",
        Kind::Choice(&["none", "rfc8693", "client-assertion", "gcp-sts"]),
    ),
    key("identity.exchange_audience", Kind::Text),
    secret("identity.exchange_parameters", Kind::Parameters),
    key("identity.client_secret_file", Kind::Path),
    key("identity.service_account", Kind::Text),
    key("identity.agent", Kind::Path),
    key("identity.share", Kind::Path),
    key("identity.keep", Kind::Choice(&["auto", "keyring", "memory", "file"])),
    secret("identity.pseudonym_key", Kind::LongText(16)),
    key("workspace.id", Kind::Text),
    key("workspace.name", Kind::Text),
    key("workspace.platform", Kind::Choice(&PLATFORMS)),
    key("spool.dir", Kind::Path),
    key("spool.max_bytes", Kind::Size(MIB, 1024 * 1024 * MIB)),
    key("spool.max_age", Kind::Duration(60_000, 3650 * DAY)),
    key("spool.keep_bytes", Kind::Size(0, 1024 * 1024 * MIB)),
    key("redact.enabled", Kind::Flag),
    key("redact.patterns", Kind::Patterns),
    key("redact.keys", Kind::List),
];

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The embedded `default.toml`.
    Default,
    /// The machine's file, with its path.
    System(PathBuf),
    /// The user's file, with its path.
    User(PathBuf),
    /// A variable, with its name.
    Environment(String),
    /// The command line.
    Flag,
    /// Worked out from something else, which this names.
    Derived(&'static str),
}

/// One thing that is wrong with the settings. `Display` is one line, without any secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key} ({origin}): {problem}")]
pub struct ConfigError {
    /// The key as it was written; `the file` where no key is to blame.
    pub key: String,
    /// Where it was written.
    pub origin: Origin,
    /// What is wrong, and what is expected instead.
    pub problem: String,
}

impl ConfigError {
    /// Whether what was meant may put the spool elsewhere than where it is without it.
    pub fn may_hide_the_spool(&self) -> bool {
        let sections = [THE_FILE, "spool", "workspace"];
        let keys = ["spool.dir", "workspace.id", "workspace.platform", HOME];
        sections.into_iter().chain(keys).any(|key| key == self.key)
    }
}

/// A value as it was written.
#[derive(Clone, Debug)]
pub(super) struct Written {
    pub(super) value: Value,
    pub(super) origin: Origin,
}

/// Everything that is written anywhere, after precedence and locks.
#[derive(Debug, Default)]
pub(super) struct Settings {
    pub(super) values: BTreeMap<&'static str, Written>,
    pub(super) locked: Vec<String>,
    /// What was left out of account on purpose, as sentences.
    pub(super) notices: Vec<String>,
    pub(super) errors: Vec<ConfigError>,
    /// What was found to be wrong, and is not to be read again.
    left_out: Vec<ConfigError>,
}

impl Settings {
    /// Reads all places, the weakest first, so that what comes later replaces what was there; but not `left_out`.
    pub(super) fn read(env: &Env, flags: &[(String, String)], files: &Locations, left_out: &[ConfigError]) -> Settings {
        let mut settings = Settings::default();
        // Every key has this value, whatever is wrong with it.
        settings.read_file(DEFAULT, &Origin::Default);
        settings.left_out = left_out.to_vec();
        for (path, origin) in [
            (Some(&files.system), Origin::System as fn(PathBuf) -> Origin),
            (files.user.as_ref(), Origin::User as fn(PathBuf) -> Origin),
        ] {
            let Some(path) = path else { continue };
            let origin = origin(path.clone());
            match std::fs::read_to_string(path) {
                Ok(text) => settings.read_file(&text, &origin),
                Err(error) if is_absent(&error) => {}
                Err(error) => settings.refuse(THE_FILE, &origin, format!("cannot be read: {error}")),
            }
        }
        settings.read_environment(env);
        for (key, text) in flags {
            settings.read_plain(key, text, Origin::Flag);
        }
        settings
    }

    /// The value of a key; every key has one, if only from `default.toml`.
    pub(super) fn get(&self, key: &str) -> &Written {
        self.values
            .get(key)
            .expect("default.toml has every key, which a test checks")
    }

    pub(super) fn refuse(&mut self, key: &str, origin: &Origin, problem: String) {
        self.errors.push(ConfigError {
            key: key.to_owned(),
            origin: origin.clone(),
            problem,
        });
    }

    pub(super) fn read_file(&mut self, text: &str, origin: &Origin) {
        let table: toml::Table = match text.parse() {
            Ok(table) => table,
            Err(error) => return self.refuse_syntax(text, origin, &error),
        };
        for (section, value) in table.iter().filter(|(section, _)| *section != "locked") {
            let toml::Value::Table(keys) = value else {
                let problem = format!("is outside of any section; expected one of {}", sections().join(", "));
                self.refuse(section, origin, problem);
                continue;
            };
            for (name, value) in keys {
                let name = format!("{section}.{name}");
                self.put(
                    &name,
                    origin.clone(),
                    |key| key.kind.read_toml(value),
                    || value.to_string(),
                );
            }
        }
        if let Some(locked) = table.get("locked") {
            self.read_locks(locked, origin);
        }
    }

    /// Locks are read after the file's values: they hold against what comes later.
    fn read_locks(&mut self, locked: &toml::Value, origin: &Origin) {
        if !matches!(origin, Origin::System(_)) {
            let problem = "only the machine's own file may lock settings; take this section out".to_owned();
            return self.refuse("locked", origin, problem);
        }
        let Some(keys) = locked.get("keys") else { return };
        match Kind::List.read_toml(keys) {
            Ok(Value::List(keys)) => {
                for key in keys {
                    match find(&key) {
                        Some(_) => self.locked.push(key),
                        None => self.refuse("locked.keys", origin, format!("{key:?} is no setting{}", nearest(&key))),
                    }
                }
            }
            Ok(_) | Err(_) => self.refuse("locked.keys", origin, "expected a list of settings' names".to_owned()),
        }
    }

    fn refuse_syntax(&mut self, text: &str, origin: &Origin, error: &toml::de::Error) {
        // Not the error's own rendering: that quotes the line, and a line may hold a secret.
        let line = error
            .span()
            .and_then(|span| Some(1 + text.get(..span.start)?.matches('\n').count()));
        let place = line.map(|line| format!(" in line {line}")).unwrap_or_default();
        self.refuse(
            THE_FILE,
            origin,
            format!("is no valid TOML{place}: {}", error.message().trim_end()),
        );
    }

    fn read_environment(&mut self, env: &Env) {
        for (variable, text) in &env.0 {
            let Some(name) = variable.strip_prefix(PREFIX) else {
                continue;
            };
            let name = name.to_ascii_lowercase();
            let Some((section, key)) = name.split_once('_').filter(|(section, _)| sections().contains(section)) else {
                // Not refused: other parts of ours, and other people's, name variables so too.
                if !OTHER_VARIABLES.contains(&variable.as_str()) {
                    self.notices
                        .push(format!("{variable} is no setting and is not looked at."));
                }
                let expected = match variable.as_str() {
                    _ if text.is_empty() => None,
                    DISABLED | PREBUILD => Kind::Flag.read_text(&text.to_ascii_lowercase()).err(),
                    HOME if !Path::new(text).is_absolute() => Some("an absolute path".to_owned()),
                    _ => None,
                };
                if let Some(expected) = expected {
                    let problem = not_accepted(&format!("{text:?}"), false, &expected);
                    self.refuse(variable, &Origin::Environment(variable.clone()), problem);
                }
                continue;
            };
            // An empty variable is as good as none.
            if !text.is_empty() {
                self.read_plain(&format!("{section}.{key}"), text, Origin::Environment(variable.clone()));
            }
        }
    }

    pub(super) fn read_plain(&mut self, name: &str, text: &str, origin: Origin) {
        self.put(name, origin, |key| key.kind.read_text(text), || format!("{text:?}"));
    }

    fn put(
        &mut self,
        name: &str,
        origin: Origin,
        read: impl FnOnce(&Key) -> Result<Value, String>,
        shown: impl FnOnce() -> String,
    ) {
        let is_left_out = |wrong: &ConfigError| wrong.key == name && wrong.origin == origin;
        if self.left_out.iter().any(is_left_out) {
            return;
        }
        let Some(key) = find(name) else {
            return self.refuse(name, &origin, format!("there is no such setting{}", nearest(name)));
        };
        if self.locked.iter().any(|locked| locked == name) {
            // Left out, not refused: a variable that a repository sets must not keep the agent from starting.
            return self.notices.push(format!(
                "{name} ({origin}) is locked on this machine and was left out of account."
            ));
        }
        match read(key) {
            Ok(value) => {
                self.values.insert(key.name, Written { value, origin });
            }
            Err(expected) => {
                // A command's arguments may be anything.
                let hides = key.secret || matches!(key.kind, Kind::Command);
                self.refuse(name, &origin, not_accepted(&shown(), hides, &expected));
            }
        }
    }
}

// === impl Origin ===

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::System(path) | Origin::User(path) => write!(f, "{}", path.display()),
            Origin::Environment(variable) => f.write_str(variable),
            Origin::Flag => f.write_str("flag"),
            Origin::Derived(from) => write!(f, "from {from}"),
        }
    }
}

/// In a URL, a user and password stand before an @, and a token after a question mark.
fn not_accepted(shown: &str, hides: bool, expected: &str) -> String {
    let found = if hides || shown.contains(['@', '?']) {
        "its value"
    } else {
        shown
    };
    format!("{found} is not accepted; expected {expected}")
}

fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

fn sections() -> Vec<&'static str> {
    let mut sections: Vec<&str> = KEYS
        .iter()
        .filter_map(|key| Some(key.name.split_once('.')?.0))
        .collect();
    sections.dedup();
    sections
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// A question that names the closest key, if one is close.
fn nearest(name: &str) -> String {
    // Often it is the section that was left out.
    let mut in_sections = KEYS
        .iter()
        .filter(|key| key.name.split_once('.').is_some_and(|(_, rest)| rest == name));
    if let (Some(key), None) = (in_sections.next(), in_sections.next()) {
        return format!("; did you mean {}?", key.name);
    }
    let closest = KEYS.iter().map(|key| (distance(name, key.name), key.name)).min();
    closest
        .filter(|(far, _)| *far <= 4)
        .map(|(_, key)| format!("; did you mean {key}?"))
        .unwrap_or_default()
}

/// Levenshtein's distance, in one row.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.iter().enumerate() {
            let change = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}
