//! Whether programs that start from this shell find the agent: what `OTEL_*` says to an SDK.
//!
//! Only this shell's environment is known; a program that got another one is not seen.

use std::net::SocketAddr;

use super::{Link, Name};
use crate::{
    config::{Export, leads_to},
    view::status::Status,
    workspace::Env,
};

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
/// An endpoint of a signal's own goes before the one for all (OTLP exporter specification).
const ENDPOINTS: [&str; 4] = [
    ENDPOINT,
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
    "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT",
];
/// Where SDKs send to when nothing is set.
const DEFAULT_PORTS: [u16; 2] = [4317, 4318];
const EVALUATE: &str = "run `eval \"$(tagalong env)\"` here, and `tagalong init shell` for new shells";

pub(super) fn programs(env: &Env, status: &Status, own: &[SocketAddr], export: Option<&Export>) -> Link {
    let set: Vec<(&str, &str)> = ENDPOINTS
        .iter()
        .filter_map(|name| Some((*name, env.get(name)?)))
        .collect();
    for (name, text) in &set {
        let Ok(url) = url::Url::parse(text.trim()) else {
            return Link::failed(Name::Programs, format!("{name} is no URL"), mend(name));
        };
        if leads_to(&url, own) {
            continue;
        }
        // Host and port alone: what else is in there may be secret.
        let port = url.port_or_known_default().map(|port| format!(":{port}"));
        let place = format!("{}{}", url.host_str().unwrap_or("nowhere"), port.unwrap_or_default());
        let found = format!("{name} leads to {place}: what is started here goes past the agent");
        if *name == ENDPOINT && export.is_some_and(|export| export.from_otel) {
            return Link::note(Name::Programs, found, EVALUATE);
        }
        return Link::failed(Name::Programs, found, mend(name));
    }
    if let Some(found) = switched_off(env) {
        return Link::note(Name::Programs, found, "unset it where programs are to be traced");
    }
    if let Some((name, _)) = set.first() {
        return Link::ok(Name::Programs, format!("{name} leads to the agent"));
    }
    let is_default = |own: &SocketAddr| DEFAULT_PORTS.contains(&own.port());
    // There may be none: strangers hold the usual ports, and no agent runs.
    if !own.is_empty() && own.iter().all(is_default) {
        return Link::ok(Name::Programs, "SDKs look for the agent where it listens");
    }
    if status.agent.is_none() {
        return Link::ok(Name::Programs, "nothing points them elsewhere");
    }
    Link::note(
        Name::Programs,
        "no OTEL_EXPORTER_OTLP_ENDPOINT is set, and SDKs look at the usual ports only",
        EVALUATE,
    )
}

/// `tagalong env` sets the endpoint for all signals, and one of a signal's own would still go before it.
fn mend(name: &str) -> String {
    if name == ENDPOINT {
        return EVALUATE.to_owned();
    }
    format!("run `unset {name}` here, and take it out of where it is set")
}

/// What keeps an SDK from sending wherever it is pointed to.
fn switched_off(env: &Env) -> Option<String> {
    if env
        .get("OTEL_SDK_DISABLED")
        .is_some_and(|value| value.eq_ignore_ascii_case("true"))
    {
        return Some("OTEL_SDK_DISABLED=true switches OpenTelemetry off in what is started here".to_owned());
    }
    if env.get("OTEL_CONFIG_FILE").is_some() {
        return Some("OTEL_CONFIG_FILE is set: SDKs that honour it ignore the other OTEL_* variables".to_owned());
    }
    let exporter = env.get("OTEL_TRACES_EXPORTER")?;
    let sends = exporter.split(',').any(|one| one.trim().starts_with("otlp"));
    (!sends).then(|| format!("OTEL_TRACES_EXPORTER={exporter} keeps traces from being sent"))
}
