//! From checked settings to the configuration: what is derived, and what only makes sense together.

use super::{
    Compression, Config, ConfigError, DEFAULT_LOG, Dirs, Entry, Export, KEYS, Listen, Loaded, Locations, Origin,
    Platform, Protocol, Redact, Settings, Siblings, Spool,
    identity::Here,
    leads_to,
    settings::Written,
    value::{self, Value},
};
use crate::workspace::{self, Env, hex};
use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};
use tracing_subscriber::{EnvFilter, filter::LevelFilter};
use url::Url;

pub(super) const ENDPOINT: &str = "export.endpoint";
pub(super) const OTEL_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const OTEL_PROTOCOL: &str = "OTEL_EXPORTER_OTLP_PROTOCOL";
const LOG: &str = "TAGALONG_LOG";

/// The last step of [`Config::load`]: what comes of the settings, none without a directory for what lasts; and all that
/// is wrong with them.
pub(super) fn resolve(mut settings: Settings, env: &Env, files: &Locations) -> (Option<Loaded>, Vec<ConfigError>) {
    let workspace = workspace::Config {
        id: settings.text("workspace.id"),
        name: settings.text("workspace.name"),
        // Another name than these does not get here.
        platform: settings
            .text("workspace.platform")
            .and_then(|name| Platform::named(&name)),
    };
    let platform = workspace::platform(env, &files.machine, &workspace);
    let here = Here {
        platform,
        env,
        machine: &files.machine,
    };
    let listen = settings.listen();
    let export = settings.export(env, &listen, files);
    let identity = settings.identity(here, export.as_ref());
    settings.refuse_bearer_in_the_clear(&identity, export.as_ref());
    let Some(dirs) = Dirs::resolve(env, platform) else {
        let origin = Origin::Environment("HOME".to_owned());
        settings.refuse(
            "HOME",
            &origin,
            "there is no home directory; expected an absolute path in HOME or TAGALONG_HOME".to_owned(),
        );
        return (None, settings.errors);
    };
    settings.derive("spool.dir", &dirs.spool.display().to_string(), "the state directory");
    let config = Config {
        log: settings.log(env),
        listen,
        export,
        identity,
        workspace,
        spool: settings.spool(dirs.spool.clone()),
        redact: Redact {
            enabled: settings.flag("redact.enabled"),
            patterns: settings.list("redact.patterns"),
            keys: settings.list("redact.keys"),
        },
        dirs,
        fingerprint: settings.fingerprint(),
    };
    let loaded = Loaded {
        config,
        entries: settings.entries(),
        notices: settings.notices,
        locked: settings.locked,
    };
    (Some(loaded), settings.errors)
}

/// Whether a text says what is logged. A bare word that is no level would be somebody's target, and show nothing of ours.
fn is_log_filter(text: &str) -> bool {
    let is_level = text.parse::<LevelFilter>().is_ok();
    (is_level || text.contains(['=', ':', ','])) && EnvFilter::try_new(text).is_ok()
}

impl Settings {
    fn log(&mut self, env: &Env) -> String {
        let wanted = env.get(LOG).unwrap_or(DEFAULT_LOG);
        if is_log_filter(wanted) {
            return wanted.to_owned();
        }
        self.notices.push(format!(
            "{LOG} is no log filter, so \"{DEFAULT_LOG}\" holds: write a level, such as debug, or TARGET=LEVEL."
        ));
        DEFAULT_LOG.to_owned()
    }

    fn listen(&self) -> Listen {
        Listen {
            grpc: self.address("listen.grpc"),
            http: self.address("listen.http"),
            allowed_origins: self.list("listen.allowed_origins"),
            max_request_bytes: self.number("listen.max_request_bytes"),
            other_users: self.flag("listen.other_users"),
            siblings: match self.text("listen.siblings").as_deref() {
                None => Siblings::Off,
                Some("auto") => Siblings::Auto,
                // A text that is no address does not get here.
                Some(address) => address.parse().map_or(Siblings::Off, Siblings::At),
            },
        }
    }

    fn export(&mut self, env: &Env, listen: &Listen, files: &Locations) -> Option<Export> {
        let from_otel = self.follow_otel(env, listen, files);
        let Value::Endpoint(endpoint) = self.get(ENDPOINT).value.clone() else {
            return None;
        };
        Some(Export {
            endpoint,
            protocol: match self.text("export.protocol").as_deref() {
                Some("grpc") => Protocol::Grpc,
                _ => Protocol::HttpProtobuf,
            },
            compression: match self.text("export.compression").as_deref() {
                Some("none") => Compression::None,
                _ => Compression::Gzip,
            },
            // Headers carry keys, and a key is meant for the upstream that was set beside it.
            headers: if from_otel {
                BTreeMap::new()
            } else {
                self.headers("export.headers")
            },
            ca_file: self.text("export.ca_file").map(PathBuf::from),
            timeout: self.duration("export.timeout"),
            concurrency: usize::try_from(self.number("export.concurrency")).unwrap_or(1),
            batch_bytes: self.number("export.batch_bytes"),
            batch_delay: self.duration("export.batch_delay"),
            from_otel,
        })
    }

    /// Takes the upstream of `OTEL_EXPORTER_OTLP_ENDPOINT` where no other is set, and says whether it did.
    fn follow_otel(&mut self, env: &Env, listen: &Listen, files: &Locations) -> bool {
        let is_free = self.get(ENDPOINT).value.is_unset() && !self.locked.iter().any(|key| key == ENDPOINT);
        // An explicit "none" further up is a decision too.
        let (true, Origin::Default, Some(text)) = (is_free, &self.get(ENDPOINT).origin, env.get(OTEL_ENDPOINT)) else {
            return false;
        };
        let Some(url) = value::endpoint(text.trim()) else {
            let why = match Url::parse(text.trim()) {
                Ok(url) if value::has_user(&url) => {
                    "has a user or password in its URL and was left out of account: set export.endpoint without them, \
                     and export.headers to what upstream asks for."
                }
                Ok(url) if matches!(url.scheme(), "http" | "https") => {
                    "has a query or fragment and was left out of account: an endpoint has neither."
                }
                _ => "is no http or https URL and was left out of account.",
            };
            self.notices.push(format!("{OTEL_ENDPOINT} {why}"));
            return false;
        };
        let mut own = vec![listen.grpc, listen.http];
        own.extend(&files.own);
        if leads_to(&url, &own) {
            return false;
        }
        self.set(
            ENDPOINT,
            Value::Endpoint(url),
            Origin::Environment(OTEL_ENDPOINT.to_owned()),
        );
        let protocol = env
            .get(OTEL_PROTOCOL)
            .filter(|name| matches!(*name, "grpc" | "http/protobuf"));
        if let (Some(name), Origin::Default) = (protocol, &self.get("export.protocol").origin)
            && !self.locked.iter().any(|key| key == "export.protocol")
        {
            let origin = Origin::Environment(OTEL_PROTOCOL.to_owned());
            self.set("export.protocol", Value::Text(name.to_owned()), origin);
        }
        true
    }

    fn spool(&self, default: PathBuf) -> Spool {
        Spool {
            dir: self.text("spool.dir").map_or(default, PathBuf::from),
            max_bytes: self.number("spool.max_bytes"),
            max_age: self.duration("spool.max_age"),
            keep_bytes: self.number("spool.keep_bytes"),
        }
    }

    pub(super) fn set(&mut self, key: &'static str, value: Value, origin: Origin) {
        self.values.insert(key, Written { value, origin });
    }

    /// Sets a text that nobody set.
    pub(super) fn derive(&mut self, key: &'static str, text: &str, from: &'static str) {
        if self.get(key).value.is_unset() {
            self.set(key, Value::Text(text.to_owned()), Origin::Derived(from));
        }
    }

    fn entries(&self) -> Vec<Entry> {
        let entry = |key: &super::settings::Key| {
            let Written { value, origin } = self.get(key.name);
            let value = if key.secret {
                value.render_masked()
            } else {
                key.kind.render(value)
            };
            Entry {
                key: key.name,
                value,
                origin: origin.to_string(),
            }
        };
        KEYS.iter().map(entry).collect()
    }

    /// SHA-256 over the names and the whole values, each closed by a zero byte, which neither can hold.
    fn fingerprint(&self) -> String {
        let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        for key in &KEYS {
            for part in [key.name, self.get(key.name).value.render().as_str()] {
                context.update(part.as_bytes());
                context.update(&[0]);
            }
        }
        hex(context.finish().as_ref())
    }

    // A value of another kind than its key's does not get here; `Kind` sees to it.

    pub(super) fn text(&self, key: &str) -> Option<String> {
        match &self.get(key).value {
            Value::Text(text) if !text.is_empty() => Some(text.clone()),
            _ => None,
        }
    }

    pub(super) fn url(&self, key: &str) -> Option<Url> {
        match &self.get(key).value {
            Value::Endpoint(url) => Some(url.clone()),
            _ => None,
        }
    }

    pub(super) fn list(&self, key: &str) -> Vec<String> {
        match &self.get(key).value {
            Value::List(items) => items.clone(),
            _ => Vec::new(),
        }
    }

    pub(super) fn headers(&self, key: &str) -> BTreeMap<String, String> {
        match &self.get(key).value {
            Value::Headers(headers) => headers.clone(),
            _ => BTreeMap::new(),
        }
    }

    fn flag(&self, key: &str) -> bool {
        self.get(key).value == Value::Flag(true)
    }

    fn number(&self, key: &str) -> u64 {
        match self.get(key).value {
            Value::Count(number) | Value::Size(number) => number,
            _ => 0,
        }
    }

    fn duration(&self, key: &str) -> Duration {
        match self.get(key).value {
            Value::Duration(span) => span,
            _ => Duration::ZERO,
        }
    }

    fn address(&self, key: &str) -> SocketAddr {
        match self.get(key).value {
            Value::Address(address) => address,
            _ => SocketAddr::from(([127, 0, 0, 1], 0)),
        }
    }
}
