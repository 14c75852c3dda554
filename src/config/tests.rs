//! Precedence, locks, and what is said when settings are wrong.

use super::*;
use crate::workspace::Files;

#[test]
fn the_embedded_file_has_every_key_and_no_other() {
    let table: toml::Table = include_str!("default.toml").parse().unwrap();
    let mut written: Vec<String> = table
        .iter()
        .flat_map(|(section, keys)| {
            keys.as_table()
                .unwrap()
                .keys()
                .map(move |key| format!("{section}.{key}"))
        })
        .collect();
    let mut known: Vec<&str> = KEYS.iter().map(|key| key.name).collect();
    written.sort();
    known.sort_unstable();
    assert_eq!(written, known);
    let settings = Settings::read(&Env::default(), &[], &nowhere(), &[]);
    assert_eq!(settings.errors, []);
}

fn nowhere() -> Locations {
    Locations {
        system: "/nonexistent/system.toml".into(),
        user: None,
        own: Vec::new(),
        machine: Files::below("/nonexistent"),
    }
}

/// A home, and an `/etc`, for one story.
pub(super) struct Machine {
    dir: tempfile::TempDir,
    env: Env,
    flags: Vec<(String, String)>,
}

impl Machine {
    pub(super) fn new() -> Machine {
        let env = Env::from([("HOME", "/home/dev")]);
        Machine {
            dir: tempfile::tempdir().unwrap(),
            env,
            flags: Vec::new(),
        }
    }

    pub(super) fn var(mut self, name: &str, value: &str) -> Machine {
        self.env.0.insert(name.to_owned(), value.to_owned());
        self
    }

    pub(super) fn flag(mut self, key: &str, value: &str) -> Machine {
        self.flags.push((key.to_owned(), value.to_owned()));
        self
    }

    pub(super) fn file(self, name: &str, text: &str) -> Machine {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }

    pub(super) fn user(self, text: &str) -> Machine {
        self.file("user.toml", text)
    }

    fn system(self, text: &str) -> Machine {
        self.file("system.toml", text)
    }

    fn locations(&self) -> Locations {
        let path = |name: &str| self.dir.path().join(name);
        Locations {
            system: path("system.toml"),
            user: Some(path("user.toml")),
            own: Vec::new(),
            machine: Files::below(self.dir.path()),
        }
    }

    fn load(&self) -> Result<Loaded, Vec<ConfigError>> {
        Config::load(&self.env, &self.flags, &self.locations())
    }

    #[track_caller]
    pub(super) fn loaded(&self) -> Loaded {
        self.load().expect("the settings are right")
    }

    /// As [`Machine::shown`], where what is wrong was left out.
    #[track_caller]
    fn shown_of_the_rest(&self, key: &str) -> (String, String) {
        let (loaded, errors) = Config::load_rest(&self.env, &self.flags, &self.locations()).expect("there is a home");
        assert_eq!(self.load().expect_err("something is wrong"), errors, "the same is said");
        self.entry(&loaded, key)
    }

    /// All errors, a line each.
    #[track_caller]
    pub(super) fn errors(&self) -> String {
        let lines = self
            .load()
            .expect_err("something is wrong")
            .into_iter()
            .map(|error| self.redact(&error.to_string()));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// As `tagalong config` shows a key: value and origin.
    #[track_caller]
    pub(super) fn shown(&self, key: &str) -> (String, String) {
        self.entry(&self.loaded(), key)
    }

    #[track_caller]
    fn entry(&self, loaded: &Loaded, key: &str) -> (String, String) {
        let entry = loaded
            .entries()
            .into_iter()
            .find(|entry| entry.key == key)
            .expect("the key is listed");
        (entry.value, self.redact(&entry.origin))
    }

    fn redact(&self, text: &str) -> String {
        text.replace(&self.dir.path().display().to_string(), "[dir]")
    }
}

fn is(value: &str, origin: &str) -> (String, String) {
    (value.to_owned(), origin.to_owned())
}

const UPSTREAM: &str = "https://otel.example.com/path";

#[test]
fn with_nothing_written_the_defaults_hold_and_there_is_no_upstream() {
    let loaded = Machine::new().loaded();
    let config = loaded.config;
    assert_eq!(config.listen.grpc, SocketAddr::from(([127, 0, 0, 1], 4317)));
    assert_eq!(config.listen.http, SocketAddr::from(([127, 0, 0, 1], 4318)));
    assert_eq!(config.listen.max_request_bytes, 64 << 20);
    assert!(config.export.is_none() && config.identity.audience.is_none() && !config.listen.other_users);
    assert_eq!(config.identity.credential, Credential::None);
    assert!(config.identity.reason.unwrap().contains("plain machine"));
    assert_eq!((config.spool.max_bytes, config.spool.keep_bytes), (1 << 30, 64 << 20));
    assert_eq!(config.spool.dir, PathBuf::from("/home/dev/.local/state/tagalong/spool"));
    assert!(config.redact.enabled);
    assert_eq!(config.log, "info");
    assert_eq!(loaded.notices, [""; 0]);
}

#[test]
fn a_flag_goes_before_the_environment_before_the_user_before_the_machine_before_the_default() {
    let machine = Machine::new();
    assert_eq!(machine.shown("export.timeout"), is("10s", "default"));
    let machine = machine.system("[export]\ntimeout = '20s'\n");
    assert_eq!(machine.shown("export.timeout"), is("20s", "[dir]/system.toml"));
    let machine = machine.user("[export]\ntimeout = '30s'\n");
    assert_eq!(machine.shown("export.timeout"), is("30s", "[dir]/user.toml"));
    let machine = machine.var("TAGALONG_EXPORT_TIMEOUT", "40s");
    assert_eq!(machine.shown("export.timeout"), is("40s", "TAGALONG_EXPORT_TIMEOUT"));
    let machine = machine.flag("export.timeout", "50s");
    assert_eq!(machine.shown("export.timeout"), is("50s", "flag"));
    assert_eq!(
        machine
            .var("TAGALONG_EXPORT_CONCURRENCY", "")
            .shown("export.concurrency"),
        is("4", "default")
    );
}

/// A variable, what is written in it, its key, and how the value is shown.
const EXAMPLES: &[(&str, &str, &str, &str)] = &[
    ("TAGALONG_LISTEN_GRPC", "[::1]:1", "listen.grpc", "[::1]:1"),
    ("TAGALONG_LISTEN_HTTP", "127.0.0.1:0", "listen.http", "127.0.0.1:0"),
    (
        "TAGALONG_LISTEN_ALLOWED_ORIGINS",
        "http://a, https://b:8",
        "listen.allowed_origins",
        r#"["http://a", "https://b:8"]"#,
    ),
    (
        "TAGALONG_LISTEN_MAX_REQUEST_BYTES",
        "1048576",
        "listen.max_request_bytes",
        "1MiB",
    ),
    ("TAGALONG_LISTEN_OTHER_USERS", "yes", "listen.other_users", "true"),
    (
        "TAGALONG_LISTEN_SIBLINGS",
        "172.17.0.1",
        "listen.siblings",
        "172.17.0.1",
    ),
    ("TAGALONG_EXPORT_ENDPOINT", UPSTREAM, "export.endpoint", UPSTREAM),
    ("TAGALONG_EXPORT_PROTOCOL", "grpc", "export.protocol", "grpc"),
    ("TAGALONG_EXPORT_COMPRESSION", "none", "export.compression", "none"),
    (
        "TAGALONG_EXPORT_HEADERS",
        "X-Key=s3cret,b=1=2",
        "export.headers",
        "b=...,x-key=...",
    ),
    ("TAGALONG_EXPORT_CA_FILE", "/ca.pem", "export.ca_file", "/ca.pem"),
    ("TAGALONG_EXPORT_TIMEOUT", "90s", "export.timeout", "90s"),
    ("TAGALONG_EXPORT_CONCURRENCY", "8", "export.concurrency", "8"),
    ("TAGALONG_EXPORT_BATCH_BYTES", "1MiB", "export.batch_bytes", "1MiB"),
    ("TAGALONG_EXPORT_BATCH_DELAY", "0ms", "export.batch_delay", "0ms"),
    ("TAGALONG_IDENTITY_CREDENTIAL", "none", "identity.credential", "none"),
    ("TAGALONG_IDENTITY_AUDIENCE", "aud", "identity.audience", "aud"),
    ("TAGALONG_IDENTITY_ISSUER", "https://i", "identity.issuer", "https://i"),
    ("TAGALONG_IDENTITY_CLIENT_ID", "app", "identity.client_id", "app"),
    ("TAGALONG_IDENTITY_SCOPES", "a,b", "identity.scopes", r#"["a", "b"]"#),
    (
        "TAGALONG_IDENTITY_TOKEN_ENDPOINT",
        "https://i/token?a=b",
        "identity.token_endpoint",
        "https://i/token?a=b",
    ),
    (
        "TAGALONG_IDENTITY_ATTRIBUTES",
        "pseudonym",
        "identity.attributes",
        "pseudonym",
    ),
    ("TAGALONG_IDENTITY_FILE", "/t", "identity.file", "/t"),
    ("TAGALONG_IDENTITY_ENV", "TOKEN", "identity.env", "TOKEN"),
    (
        "TAGALONG_IDENTITY_EXEC",
        r#"["/bin/mint", "a,b"]"#,
        "identity.exec",
        r#"["/bin/mint", …]"#,
    ),
    ("TAGALONG_IDENTITY_URL", "https://u/t", "identity.url", "https://u/t"),
    (
        "TAGALONG_IDENTITY_HTTP_HEADERS",
        "X-Key=s3cret",
        "identity.http_headers",
        "x-key=...",
    ),
    (
        "TAGALONG_IDENTITY_JSON_POINTER",
        "/a/b",
        "identity.json_pointer",
        "/a/b",
    ),
    (
        "TAGALONG_IDENTITY_SERVICE_CONNECTION",
        "c",
        "identity.service_connection",
        "c",
    ),
    ("TAGALONG_IDENTITY_EXCHANGE", "none", "identity.exchange", "none"),
    (
        "TAGALONG_IDENTITY_EXCHANGE_AUDIENCE",
        "//iam",
        "identity.exchange_audience",
        "//iam",
    ),
    (
        "TAGALONG_IDENTITY_EXCHANGE_PARAMETERS",
        "connector_id=github",
        "identity.exchange_parameters",
        "connector_id=...",
    ),
    (
        "TAGALONG_IDENTITY_CLIENT_SECRET_FILE",
        "/s",
        "identity.client_secret_file",
        "/s",
    ),
    (
        "TAGALONG_IDENTITY_SERVICE_ACCOUNT",
        "a@b",
        "identity.service_account",
        "a@b",
    ),
    ("TAGALONG_IDENTITY_AGENT", "/a.sock", "identity.agent", "/a.sock"),
    ("TAGALONG_IDENTITY_SHARE", "/s.sock", "identity.share", "/s.sock"),
    ("TAGALONG_IDENTITY_KEEP", "memory", "identity.keep", "memory"),
    (
        "TAGALONG_IDENTITY_PSEUDONYM_KEY",
        "s3cret-and-long-enough",
        "identity.pseudonym_key",
        "...",
    ),
    ("TAGALONG_WORKSPACE_ID", "w", "workspace.id", "w"),
    ("TAGALONG_WORKSPACE_NAME", "W", "workspace.name", "W"),
    ("TAGALONG_WORKSPACE_PLATFORM", "local", "workspace.platform", "local"),
    ("TAGALONG_SPOOL_DIR", "/s", "spool.dir", "/s"),
    ("TAGALONG_SPOOL_MAX_BYTES", "2GiB", "spool.max_bytes", "2GiB"),
    ("TAGALONG_SPOOL_MAX_AGE", "24h", "spool.max_age", "1d"),
    ("TAGALONG_SPOOL_KEEP_BYTES", "0", "spool.keep_bytes", "0"),
    ("TAGALONG_REDACT_ENABLED", "false", "redact.enabled", "false"),
    ("TAGALONG_REDACT_PATTERNS", "a{1,3}", "redact.patterns", r#"["a{1,3}"]"#),
    ("TAGALONG_REDACT_KEYS", "*.a,b", "redact.keys", r#"["*.a", "b"]"#),
];

#[test]
fn every_key_has_a_variable() {
    let machine = EXAMPLES
        .iter()
        .fold(Machine::new(), |machine, (name, text, ..)| machine.var(name, text));
    assert_eq!(machine.loaded().entries().len(), EXAMPLES.len());
    for (variable, _, key, value) in EXAMPLES {
        assert_eq!(machine.shown(key), is(value, variable));
    }
}

#[test]
fn all_errors_are_said_at_once_each_with_key_origin_and_what_is_expected() {
    let machine = Machine::new()
        .system("[export]\nconcurrency = 0\ntimout = '1s'\n[locked]\nkeys = ['export.endpiont']\n")
        .user("top = 1\n[listen]\ngrpc = 4317\nallowed_origins = ['http://a/path']\n[redact]\npatterns = ['(']\n[locked]\nkeys = []\n")
        .var("TAGALONG_EXPORT_TIMEOUT", "soon")
        .var("TAGALONG_SPOOL_MAX_BYTES", "1 potato")
        .var("TAGALONG_SPOOL_MAXBYTES", "1GiB")
        .var("TAGALONG_IDENTITY_EXEC", "mint")
        .flag("export.endpoint", "ftp://x")
        .flag("identity.credential", "gitpot")
        .flag("nothing.like.it", "1")
        .flag("batch_delay", "1s");
    insta::assert_snapshot!(machine.errors(), @r#"
    export.concurrency ([dir]/system.toml): 0 is not accepted; expected a whole number from 1 to 64
    export.timout ([dir]/system.toml): there is no such setting; did you mean export.timeout?
    locked.keys ([dir]/system.toml): "export.endpiont" is no setting; did you mean export.endpoint?
    listen.allowed_origins ([dir]/user.toml): ["http://a/path"] is not accepted; expected a list of origins, such as ["http://localhost:3000"]
    listen.grpc ([dir]/user.toml): 4317 is not accepted; expected an IP address and a port, such as 127.0.0.1:4317
    redact.patterns ([dir]/user.toml): ["("] is not accepted; expected regular expressions, and "(" is none: unclosed group
    top ([dir]/user.toml): is outside of any section; expected one of listen, export, identity, workspace, spool, redact
    locked ([dir]/user.toml): only the machine's own file may lock settings; take this section out
    export.timeout (TAGALONG_EXPORT_TIMEOUT): "soon" is not accepted; expected a duration from 100ms to 10m, such as 200ms, 10s or 1h
    identity.exec (TAGALONG_IDENTITY_EXEC): its value is not accepted; expected a list of an absolute program and its arguments, such as ["/usr/bin/mint", "--raw"]
    spool.maxbytes (TAGALONG_SPOOL_MAXBYTES): there is no such setting; did you mean spool.max_bytes?
    spool.max_bytes (TAGALONG_SPOOL_MAX_BYTES): "1 potato" is not accepted; expected a size from 1MiB to 1TiB, such as 512KiB, 64MiB or 1GiB
    export.endpoint (flag): "ftp://x" is not accepted; expected an http or https URL without user, password, query and fragment
    identity.credential (flag): "gitpot" is not accepted; expected one of auto, gitpod, ona, github, gitlab, azure-devops, kubernetes, gcp, azure, file, env, exec, http, agent, device, browser, none
    nothing.like.it (flag): there is no such setting
    batch_delay (flag): there is no such setting; did you mean export.batch_delay?
    "#);
}

#[test]
fn a_file_that_is_no_toml_is_named_with_the_line_and_without_what_stands_there() {
    let machine = Machine::new().user("[export]\nheaders = { x-key = 's3cret }\n");
    let errors = machine.errors();
    assert!(!errors.contains("s3cret"), "{errors}");
    insta::assert_snapshot!(errors, @r#"
    the file ([dir]/user.toml): is no valid TOML in line 2: unclosed inline table, expected `}`
    "#);
}

#[test]
fn no_error_says_a_secret() {
    let machine = Machine::new()
        .var("TAGALONG_EXPORT_HEADERS", "x key=s3cret")
        .var("TAGALONG_IDENTITY_EXCHANGE_PARAMETERS", "api_key:s3cret")
        .var("TAGALONG_IDENTITY_PSEUDONYM_KEY", "s3cret")
        .flag("export.endpoint", "https://user:s3cret@otel.example.com");
    insta::assert_snapshot!(machine.errors(), @r#"
    export.headers (TAGALONG_EXPORT_HEADERS): its value is not accepted; expected header names and their values, such as { x-team = "blue" }
    identity.exchange_parameters (TAGALONG_IDENTITY_EXCHANGE_PARAMETERS): its value is not accepted; expected names and their values, such as { connector_id = "github" }
    identity.pseudonym_key (TAGALONG_IDENTITY_PSEUDONYM_KEY): its value is not accepted; expected a text of at least 16 characters
    export.endpoint (flag): its value is not accepted; expected an http or https URL without user, password, query and fragment
    "#);
}

#[test]
fn the_configuration_prints_no_secret() {
    let machine = Machine::new()
        .flag("export.endpoint", UPSTREAM)
        .flag("export.headers", "x-key=s3cret")
        .flag("identity.credential", "gitpod")
        .flag("identity.exchange", "rfc8693")
        .flag("identity.token_endpoint", "https://sts.example/token")
        .flag("identity.exchange_parameters", "api_key=s3cret")
        .flag("identity.pseudonym_key", "s3cret-and-long-enough");
    let loaded = machine.loaded();
    assert_eq!(loaded.config.export.as_ref().unwrap().headers["x-key"], "s3cret");
    assert!(loaded.config.identity.exchange.is_some());
    assert_eq!(machine.shown("identity.exchange_parameters"), is("api_key=...", "flag"));
    assert!(!format!("{loaded:?}").contains("s3cret"));
}

#[test]
fn a_locked_setting_keeps_the_machines_value_and_the_rest_is_told_not_refused() {
    let machine = Machine::new()
        .system("[export]\nendpoint = 'https://team.example'\n[locked]\nkeys = ['export.endpoint', 'redact.enabled']\n")
        .user("[export]\nendpoint = 'https://mine.example'\n")
        .var("TAGALONG_EXPORT_ENDPOINT", "not even a URL")
        .var("OTEL_EXPORTER_OTLP_ENDPOINT", "https://elsewhere.example")
        .flag("redact.enabled", "false");
    assert_eq!(
        machine.shown("export.endpoint"),
        is("https://team.example/", "[dir]/system.toml")
    );
    assert_eq!(machine.shown("redact.enabled"), is("true", "default"));
    assert_eq!(machine.loaded().locked, ["export.endpoint", "redact.enabled"]);
    insta::assert_snapshot!(machine.redact(&machine.loaded().notices.join("\n")), @r#"
    export.endpoint ([dir]/user.toml) is locked on this machine and was left out of account.
    export.endpoint (TAGALONG_EXPORT_ENDPOINT) is locked on this machine and was left out of account.
    redact.enabled (flag) is locked on this machine and was left out of account.
    "#);
}

#[test]
fn a_locked_absence_of_an_upstream_holds_against_the_otel_variable() {
    let machine = Machine::new()
        .system("[locked]\nkeys = ['export.endpoint']\n")
        .var("OTEL_EXPORTER_OTLP_ENDPOINT", "https://elsewhere.example");
    assert!(machine.loaded().config.export.is_none());
}

#[test]
fn the_otel_variable_is_an_upstream_that_never_gets_a_credential_or_headers() {
    let machine = Machine::new()
        .var("GITPOD_WORKSPACE_ID", "w")
        .var("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector.example:4317")
        .var("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
        .flag("identity.credential", "gitpod")
        .flag("export.headers", "x-key=s3cret");
    let config = machine.loaded().config;
    let export = config.export.unwrap();
    assert!(export.from_otel && export.headers.is_empty());
    assert_eq!(
        (export.endpoint.as_str(), export.protocol),
        ("http://collector.example:4317/", Protocol::Grpc)
    );
    assert_eq!(config.identity.credential, Credential::None);
    assert!(config.identity.reason.unwrap().contains("never gets a credential"));
    assert_eq!(
        machine.shown("identity.credential"),
        is("none", "from OTEL_EXPORTER_OTLP_ENDPOINT")
    );
    let machine = machine.flag("export.endpoint", UPSTREAM);
    assert!(
        !machine.loaded().config.export.unwrap().from_otel,
        "what is set goes before what is found"
    );
}

#[test]
fn an_otel_variable_that_is_no_endpoint_is_told_what_is_wrong_with_it_and_nothing_secret_of_it() {
    let told = [
        "ftp://otel.example",
        "https://ada:s3cret@otel.example",
        "https://otel.example?key=s3cret",
    ]
    .map(|url| {
        let machine = Machine::new().var("OTEL_EXPORTER_OTLP_ENDPOINT", url);
        machine.loaded().notices.join("")
    });
    insta::assert_snapshot!(told.join("\n"), @"
    OTEL_EXPORTER_OTLP_ENDPOINT is no http or https URL and was left out of account.
    OTEL_EXPORTER_OTLP_ENDPOINT has a user or password in its URL and was left out of account: set export.endpoint without them, and export.headers to what upstream asks for.
    OTEL_EXPORTER_OTLP_ENDPOINT has a query or fragment and was left out of account: an endpoint has neither.
    ");
}

#[test]
fn the_otel_variable_is_no_upstream_where_it_leads_back_to_the_agent() {
    for url in [
        "http://127.0.0.1:4317",
        "http://localhost:4318/",
        "http://[::1]:4318",
        "http://0.0.0.0:4317",
        "nonsense",
    ] {
        let machine = Machine::new().var("OTEL_EXPORTER_OTLP_ENDPOINT", url);
        assert!(machine.loaded().config.export.is_none(), "{url}");
    }
    let machine = Machine::new().var("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:40001");
    assert!(machine.loaded().config.export.is_some());
    let mut locations = machine.locations();
    locations.own.push(SocketAddr::from(([127, 0, 0, 1], 40001)));
    let loaded = Config::load(&machine.env, &[], &locations).unwrap();
    assert!(
        loaded.config.export.is_none(),
        "a port that the agent took instead of its own is its own too"
    );
}

#[test]
fn the_audience_is_the_upstreams_origin_unless_one_is_set() {
    let machine = Machine::new().flag("export.endpoint", "https://otel.example.com:8443/v1?");
    assert!(machine.errors().contains("without user, password, query"));
    let machine = Machine::new().flag("export.endpoint", "https://otel.example.com:8443/v1");
    assert_eq!(
        machine.shown("identity.audience"),
        is("https://otel.example.com:8443", "from export.endpoint")
    );
    let machine = machine.flag("identity.audience", "team");
    assert_eq!(machine.loaded().config.identity.audience.as_deref(), Some("team"));
}

#[test]
fn an_automatic_credential_is_the_one_that_is_set_else_the_platforms_else_none() {
    let credential = |machine: Machine| machine.loaded().config.identity.credential;
    let gitpod = || {
        Machine::new()
            .var("GITPOD_WORKSPACE_ID", "w")
            .flag("export.endpoint", UPSTREAM)
    };
    assert_eq!(credential(gitpod()), Credential::Gitpod);
    assert_eq!(
        credential(gitpod().flag("identity.file", "/t")),
        Credential::File("/t".into())
    );
    assert_eq!(
        credential(gitpod().flag("workspace.platform", "local")),
        Credential::None
    );
    let exec = Machine::new().user("[identity]\nexec = ['/bin/mint', '--raw']\n");
    assert_eq!(
        credential(exec),
        Credential::Exec(vec!["/bin/mint".into(), "--raw".into()])
    );
    assert_eq!(
        credential(gitpod().flag("identity.file", "/t").flag("identity.credential", "none")),
        Credential::None
    );
}

#[test]
fn settings_that_do_not_go_together_are_errors() {
    let lines = [
        Machine::new().flag("identity.credential", "file"),
        Machine::new().flag("identity.credential", "exec"),
        Machine::new().flag("identity.file", "/t").flag("identity.env", "TOKEN"),
        Machine::new()
            .flag("identity.env", "TOKEN")
            .flag("export.endpoint", "http://otel.example.com"),
    ]
    .map(|machine| machine.errors());
    insta::assert_snapshot!(lines.join("\n"), @r#"
    identity.credential (flag): "file" needs identity.file, which is not set
    identity.credential (flag): "exec" needs identity.exec, which is not set
    identity.credential (default): "auto" cannot choose; expected one of file, env
    export.endpoint (flag): http://otel.example.com/ would carry a token in the clear; expected https, or identity.credential = "none" instead of "env"
    "#);
}

#[test]
fn a_token_may_go_over_plain_http_to_this_machine_only() {
    for url in [
        "http://localhost:1",
        "http://127.9.9.9:1",
        "http://[::1]:1",
        "https://otel.example.com",
    ] {
        Machine::new()
            .flag("identity.env", "TOKEN")
            .flag("export.endpoint", url)
            .loaded();
    }
    for url in ["http://localhost.example:1", "http://10.0.0.1:1", "http://0.0.0.0:1"] {
        assert!(
            Machine::new()
                .flag("identity.env", "TOKEN")
                .flag("export.endpoint", url)
                .load()
                .is_err(),
            "{url}"
        );
    }
}

#[test]
fn what_lasts_is_below_workspace_in_gitpod_and_in_the_state_directory_elsewhere() {
    let dirs = |machine: Machine| machine.loaded().config.dirs;
    let gitpod = dirs(Machine::new().var("GITPOD_WORKSPACE_ID", "w"));
    assert_eq!(gitpod.state, PathBuf::from("/workspace/.tagalong"));
    assert_eq!(gitpod.spool, PathBuf::from("/workspace/.tagalong/spool"));
    assert_eq!(gitpod.runtime, PathBuf::from("/workspace/.tagalong/run"));
    let local = Machine::new()
        .var("XDG_RUNTIME_DIR", "/run/user/1")
        .var("XDG_STATE_HOME", "/st")
        .var("XDG_CONFIG_HOME", "no");
    let local = dirs(local);
    assert_eq!(
        (local.state, local.runtime),
        ("/st/tagalong".into(), "/run/user/1/tagalong".into())
    );
    assert_eq!(local.config, PathBuf::from("/home/dev/.config/tagalong"));
    assert_eq!(
        dirs(Machine::new().var("TAGALONG_HOME", "/t")).spool,
        PathBuf::from("/t/spool")
    );
}

#[test]
fn the_fingerprint_tells_other_settings_from_the_same_ones_wherever_they_are_written() {
    let fingerprint = |machine: Machine| machine.loaded().config.fingerprint().to_owned();
    let plain = fingerprint(Machine::new());
    assert_eq!(
        (plain.len(), &plain),
        (64, &fingerprint(Machine::new().var("TAGALONG_LOG", "debug")))
    );
    assert_eq!(
        plain,
        fingerprint(Machine::new().user("[export]\ntimeout = '10000ms'\n"))
    );
    assert_ne!(plain, fingerprint(Machine::new().flag("export.timeout", "11s")));
    let key = |value: &str| fingerprint(Machine::new().flag("export.headers", value));
    assert_ne!(key("x-key=one"), key("x-key=two"), "secrets count");
    let back = Machine::new().var("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318");
    assert_eq!(
        plain,
        fingerprint(back),
        "a shell that reports to the agent does not replace it"
    );
}

#[test]
fn variables_of_others_are_told_and_left_alone() {
    let machine = Machine::new()
        .var("TAGALONG_HOME", "/t")
        .var("TAGALONG_LOG", "warn")
        .var("TAGALONG_COLOUR", "red");
    let loaded = machine.loaded();
    assert_eq!(loaded.config.log, "warn");
    assert_eq!(loaded.notices, ["TAGALONG_COLOUR is no setting and is not looked at."]);
}

#[test]
fn a_log_filter_that_says_nothing_is_told_and_left_out_of_account() {
    let of = |text| {
        let loaded = Machine::new().var("TAGALONG_LOG", text).loaded();
        (loaded.config.log, loaded.notices.join(" "))
    };
    for filter in ["", "debug", "OFF", "tagalong::spool=trace", "warn,hyper=debug"] {
        let log = if filter.is_empty() { "info" } else { filter };
        assert_eq!(of(filter), (log.to_owned(), String::new()));
    }
    // The first of them names a target that nobody has.
    for none in ["verbose", "tagalong=verbose", "info=debug=trace"] {
        let said = "TAGALONG_LOG is no log filter, so \"info\" holds: write a level, such as debug, or TARGET=LEVEL.";
        assert_eq!(of(none), ("info".to_owned(), said.to_owned()), "{none}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_an_error_and_one_that_is_not_there_is_not() {
    let machine = Machine::new();
    let mut locations = machine.locations();
    locations.user = Some(machine.dir.path().to_owned());
    let errors = Config::load(&machine.env, &[], &locations).unwrap_err();
    assert!(errors[0].problem.starts_with("cannot be read"), "{errors:?}");
    locations.user = Some("/dev/null/config.toml".into());
    assert!(Config::load(&machine.env, &[], &locations).is_ok());
}

#[test]
fn a_relative_directory_in_a_variable_is_not_followed_into_whatever_repository_one_stands_in() {
    let env = Env::from([("HOME", "/home/dev"), ("XDG_CONFIG_HOME", ".config")]);
    let locations = Locations::of(&env);
    assert_eq!(locations.user, Some("/home/dev/.config/tagalong/config.toml".into()));
    assert_eq!(locations.system, PathBuf::from("/etc/tagalong/config.toml"));
    let relative_home = Locations::of(&Env::from([("HOME", "."), ("XDG_CONFIG_HOME", "x")])).user;
    assert_eq!(relative_home, None);
    let dirs = Dirs::resolve(
        &Env::from([("HOME", "/home/dev"), ("TAGALONG_HOME", "here")]),
        Platform::Local,
    )
    .unwrap();
    assert_eq!(dirs.state, PathBuf::from("/home/dev/.local/state/tagalong"));
}

#[test]
fn siblings_are_not_let_in_at_an_address_that_is_everybodys_or_nobodys() {
    for refused in [
        "127.0.0.1",
        "::1",
        "::ffff:127.0.0.1",
        "0.0.0.0",
        "::",
        "docker0",
        "172.17.0.1:4318",
    ] {
        let errors = Machine::new().var("TAGALONG_LISTEN_SIBLINGS", refused).load();
        assert!(errors.is_err(), "{refused}");
    }
    for (text, expected) in [("", Siblings::Off), ("auto", Siblings::Auto)] {
        let loaded = Machine::new().flag("listen.siblings", text).loaded();
        assert_eq!(loaded.config.listen.siblings, expected);
    }
}

#[test]
fn what_is_wrong_leaves_what_a_weaker_place_says() {
    let machine = Machine::new()
        .user("[export]\ntimeout = \"5s\"\nbanana = 1\n[identity]\ncredential = \"gcp\"\nshare = \"/run/a.sock\"")
        .var("TAGALONG_EXPORT_TIMEOUT", "soon")
        .var("TAGALONG_IDENTITY_CREDENTIAL", "file")
        .flag("identity.agent", "/run/a.sock");
    assert_eq!(machine.shown_of_the_rest("export.timeout"), is("5s", "[dir]/user.toml"));
    assert_eq!(
        machine.shown_of_the_rest("identity.credential"),
        is("gcp", "[dir]/user.toml")
    );
    assert_eq!(machine.shown_of_the_rest("identity.share"), is("", "default"));
    assert_eq!(machine.shown_of_the_rest("identity.agent"), is("/run/a.sock", "flag"));
}

#[test]
fn what_is_wrong_without_a_place_that_says_it_leaves_the_rest() {
    let machine = Machine::new()
        .user("[identity]\nfile = \"/run/token\"\nenv = \"TOKEN\"")
        .flag("identity.credential", "exec");
    // Without the flag, it is "auto" that cannot choose; and that is nobody's to take out.
    assert_eq!(
        machine.shown_of_the_rest("identity.credential"),
        is("none", "from what is set beside it")
    );
    assert_eq!(
        machine.shown_of_the_rest("identity.env"),
        is("TOKEN", "[dir]/user.toml")
    );
    let broken = Machine::new().user("[export\n").var("TAGALONG_EXPORT_TIMEOUT", "5s");
    assert_eq!(
        broken.shown_of_the_rest("export.timeout"),
        is("5s", "TAGALONG_EXPORT_TIMEOUT")
    );
}

proptest::proptest! {
    #[test]
    fn what_is_shown_can_be_written(bytes in 0..u64::MAX, millis in 0..u64::MAX / 1000) {
        let size = value::Value::Size(bytes);
        proptest::prop_assert_eq!(value::Kind::Size(0, u64::MAX).read_text(&size.render()), Ok(size));
        let span = value::Value::Duration(Duration::from_millis(millis));
        proptest::prop_assert_eq!(value::Kind::Duration(0, u64::MAX).read_text(&span.render()), Ok(span));
    }
}

#[test]
fn promise_7_a_command_line_in_one_text_is_no_program() {
    let exec = |text| Machine::new().var("TAGALONG_IDENTITY_EXEC", text);
    insta::assert_snapshot!(exec("/bin/mint --key canary").errors(), @r#"identity.exec (TAGALONG_IDENTITY_EXEC): its value is not accepted; expected a list of an absolute program and its arguments, such as ["/usr/bin/mint", "--raw"]"#);
    exec("/bin/mint").loaded();
    exec("['/opt/my tools/mint', '--key', 'x']").loaded();
}

#[test]
fn a_prebuild_or_a_ban_that_says_neither_yes_nor_no_is_wrong() {
    for name in ["TAGALONG_PREBUILD", "TAGALONG_DISABLED"] {
        let machine = |text| Machine::new().var(name, text);
        let errors = machine("banana").errors();
        assert_eq!(
            errors,
            format!("{name} ({name}): \"banana\" is not accepted; expected true or false")
        );
        for text in ["true", "TRUE", "1", "yes", " on ", "false", "0", "no", "OFF", ""] {
            machine(text).loaded();
        }
    }
}

#[test]
fn a_directory_for_what_lasts_that_is_relative_is_wrong() {
    let machine = |text| Machine::new().var("TAGALONG_HOME", text);
    insta::assert_snapshot!(machine("~/kept").errors(), @r#"TAGALONG_HOME (TAGALONG_HOME): "~/kept" is not accepted; expected an absolute path"#);
    assert!(
        machine(" /kept").errors().contains("is not accepted"),
        "nothing cuts the blank off"
    );
    assert_eq!(machine("/Kept").loaded().config.dirs.state, PathBuf::from("/Kept"));
}
