//! The links on this machine: settings, platform, endpoint, spool, agent and its ports.

use std::{
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    time::Duration,
};

use super::{Link, Name};
use crate::{
    cli::{
        failure::Failure,
        status::{self, ANEW, NOT_ADOPTED, bytes_text, duration_text, fault, with_trust},
    },
    config::{Config, Listen, leads_to},
    view::{
        build,
        status::{Agent, Endpoints, Status, Workspace},
    },
};

/// With less room than this the disk counts as full: one segment of the spool.
const LITTLE_ROOM: u64 = 16 * 1024 * 1024;
/// Where `listen.siblings` finds no address.
const OPEN_FOR_SIBLINGS: &str = "start the container engine first, then `tagalong down` and `tagalong up`; or set \
                                 listen.siblings to an IP address of this machine";
/// On loopback, whoever listens accepts at once.
const LOOPBACK: Duration = Duration::from_millis(300);

/// What was left out of account on purpose is no failure, but often the answer.
pub(super) fn settings(notices: &[String]) -> Link {
    match notices {
        [] => Link::ok(Name::Settings, "all are understood"),
        notices => Link::note(
            Name::Settings,
            notices.join(" "),
            "`tagalong config` shows which value holds, and where it came from",
        ),
    }
}

pub(super) fn platform(workspace: &Workspace) -> Link {
    let mut facts: Vec<(&str, String)> = vec![("id", workspace.id.clone())];
    facts.extend(status::facts(workspace).map(|(field, words, value)| (field, format!("{words} {value}"))));
    let trust = |(field, _): &(&str, String)| workspace.trust.get(*field);
    // Mostly the same stands for all that is known, and once is enough.
    let is_one = facts.windows(2).all(|pair| trust(&pair[0]) == trust(&pair[1]));
    let last = facts.len() - 1;
    let found: Vec<String> = facts
        .iter()
        .enumerate()
        .map(|(number, (field, text))| match is_one && number < last {
            true => text.clone(),
            false => with_trust(workspace, field, text),
        })
        .collect();
    let found = found.join(", ");
    if workspace.prebuild {
        let found = format!("{found}, a prebuild");
        return Link::note(Name::Platform, found, "nothing is started in a prebuild, on purpose");
    }
    Link::ok(Name::Platform, found)
}

/// Where the agent listens; while none runs, where it would: not on what somebody else holds. One that cannot be asked is
/// taken to be where an agent listened `last`.
pub(super) fn own_addresses(
    status: &Status,
    listen: &Listen,
    last: Option<&[SocketAddr]>,
    held: &[SocketAddr],
) -> Vec<SocketAddr> {
    let running = status.agent.as_ref().map(|agent| &agent.endpoints);
    let running: Vec<SocketAddr> = running
        .iter()
        .flat_map(|endpoints| [&endpoints.grpc, &endpoints.http])
        .filter_map(|address| address.parse().ok())
        .collect();
    if !running.is_empty() {
        return running;
    }
    if let Some(last) = last {
        return last.to_vec();
    }
    let wanted = [listen.grpc, listen.http].into_iter();
    wanted.filter(|address| !held.contains(address)).collect()
}

/// Whether there is an upstream at all, and one that is not the agent itself.
pub(super) fn endpoint(status: &Status, own: &[SocketAddr], config: &Config) -> Link {
    let export = config.export.as_ref();
    let Some(endpoint) = &status.export.endpoint else {
        // The agent may run without one while these settings name one: then a start is what is missing.
        let hint = match export {
            Some(export) => format!("`tagalong up` takes over export.endpoint, now {}", export.endpoint),
            None => format!(
                "{}, with your team's gateway or vendor for URL; then `tagalong up`",
                to_set(status, "export.endpoint", "URL")
            ),
        };
        let found = "no export.endpoint is set: telemetry is kept on this machine and sent nowhere";
        return Link::note(Name::Endpoint, found, hint);
    };
    if url::Url::parse(endpoint).is_ok_and(|url| leads_to(&url, own)) {
        return Link::failed(
            Name::Endpoint,
            format!("{endpoint} leads back to the agent itself"),
            "set export.endpoint to your team's gateway or vendor; programs find the agent by `tagalong env`",
        );
    }
    if export.is_some_and(|export| export.from_otel && export.endpoint.as_str() == endpoint) {
        return Link::note(
            Name::Endpoint,
            format!("{endpoint}, taken from OTEL_EXPORTER_OTLP_ENDPOINT: it never gets a credential"),
            "if it asks for one, set export.endpoint to it instead",
        );
    }
    Link::ok(Name::Endpoint, endpoint.clone())
}

/// The command that sets `key` so that it lasts.
pub(super) fn to_set(status: &Status, key: &str, value: &str) -> String {
    match status.workspace.platform.as_str() {
        // There no home directory outlives a stop, but the platform keeps variables (`gp env`).
        "gitpod" => {
            let variable = key.to_ascii_uppercase().replace('.', "_");
            format!("`eval \"$(gp env -e TAGALONG_{variable}={value})\"`")
        }
        _ => format!("`tagalong config set {key} {value}`"),
    }
}

/// What the disk below the spool says.
#[derive(Clone, Debug)]
pub(super) struct Room {
    /// The spool's directory, or the nearest one above it that exists.
    pub(super) place: PathBuf,
    /// Why nothing can be written there.
    pub(super) trouble: Option<String>,
    /// In bytes, for this user; none where the system does not tell.
    pub(super) free: Option<u64>,
}

impl Room {
    /// Looks, and makes nothing.
    pub(super) fn of(dir: &Path) -> Room {
        let place = dir.ancestors().find(|place| place.exists()).unwrap_or(dir).to_owned();
        let trouble = if place.is_dir() {
            rustix::fs::access(&place, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK)
                .err()
                .map(|error| std::io::Error::from(error).to_string())
        } else {
            Some("it is no directory".to_owned())
        };
        let free = rustix::fs::statvfs(&place)
            .ok()
            .map(|stat| stat.f_bavail.saturating_mul(stat.f_frsize));
        Room { place, trouble, free }
    }
}

pub(super) fn spool(status: &Status, room: &Room) -> Link {
    let spool = &status.spool;
    let elsewhere = "or set spool.dir to a place that is";
    if let (Some(trouble), None) = (&room.trouble, &status.agent) {
        let found = format!("nothing can be written in {}: {trouble}", room.place.display());
        return Link::failed(Name::Spool, found, format!("make it writable, {elsewhere}"));
    }
    if let Some(trouble) = &spool.trouble {
        let hint = match &status.agent {
            Some(_) => format!(
                "mend or clear the disk of {}; senders keep their data until then",
                spool.dir
            ),
            None => "make it readable, or set spool.dir to a directory of its own".to_owned(),
        };
        return Link::failed(Name::Spool, trouble.clone(), hint);
    }
    if let Some(unadopted) = &spool.unadopted {
        return Link::failed(
            Name::Spool,
            format!("{NOT_ADOPTED}: {unadopted}"),
            format!(
                "mend or clear the disk of {}; nothing is lost, and it is tried again",
                spool.dir
            ),
        );
    }
    let is_full = spool.is_nearly_full();
    if is_full || !spool.full.is_empty() {
        let (unsent, most) = (bytes_text(spool.bytes), bytes_text(spool.max_bytes));
        let full = match is_full {
            true => "full".to_owned(),
            false => format!("full for {}, half of it at most", spool.full.join(" and ")),
        };
        let aside = match spool.set_aside {
            0 => String::new(),
            _ => format!(", {} set aside", bytes_text(spool.set_aside_bytes)),
        };
        let found = format!("{full}: {unsent} of {most} wait to be sent{aside}, and senders are told to come again");
        let hint = match spool.is_much_set_aside() {
            true => {
                "`tagalong spool list` says why upstream refuses it; `tagalong spool retry all` sends it again, \
                 `tagalong spool drop all` gives it up"
            }
            false => "mend the first broken link below, or raise spool.max_bytes",
        };
        return Link::failed(Name::Spool, found, hint);
    }
    if let Some(free) = room.free.filter(|free| *free < LITTLE_ROOM) {
        let found = format!(
            "the disk of {} is full: {} left",
            room.place.display(),
            bytes_text(free)
        );
        return Link::failed(
            Name::Spool,
            found,
            "make room on that disk, or set spool.dir to another",
        );
    }
    if spool.set_aside > 0 {
        return Link::note(
            Name::Spool,
            format!("{}; {} set aside", spool.dir, spool.set_aside),
            "`tagalong spool list` says why; `tagalong spool retry all` sends it again",
        );
    }
    Link::ok(Name::Spool, spool.dir.clone())
}

pub(super) fn agent(status: &Status, hung: Option<&Failure>, fingerprint: &str) -> Link {
    if let Some(failure) = hung {
        let hint = failure.hints.first().map_or("see `tagalong logs`", String::as_str);
        return Link::failed(Name::Agent, &failure.message, hint);
    }
    let Some(agent) = &status.agent else {
        if status.workspace.prebuild {
            return Link::note(Name::Agent, "none runs", "nothing is started in a prebuild, on purpose");
        }
        return Link::failed(Name::Agent, "none runs here", "start it with `tagalong up`");
    };
    if let Some((theirs, ours)) = build::differs(agent) {
        let found = format!("version {theirs} runs, this is {ours}");
        return Link::note(Name::Agent, found, "`tagalong up` replaces it, and loses nothing");
    }
    if let Some(fault) = fault(agent) {
        return Link::failed(Name::Agent, fault, ANEW);
    }
    if agent.config != fingerprint {
        return Link::note(
            Name::Agent,
            "it runs with other settings than those that hold here now",
            "`tagalong up` replaces it by one with these, and loses nothing; `tagalong config` shows them",
        );
    }
    let uptime = duration_text(agent.uptime);
    Link::ok(
        Name::Agent,
        format!("{}, pid {}, up {uptime}", agent.version, agent.pid),
    )
}

/// While no agent runs: the addresses that it wants and that somebody else holds. What one that cannot be asked holds is
/// its own.
pub(super) fn held(status: &Status, listen: &Listen, last: Option<&[SocketAddr]>) -> Vec<SocketAddr> {
    if status.agent.is_some() || last.is_some() {
        return Vec::new();
    }
    let wanted = [listen.grpc, listen.http].into_iter();
    wanted
        .filter(|address| address.port() != 0 && TcpStream::connect_timeout(address, LOOPBACK).is_ok())
        .collect()
}

pub(super) fn ports(status: &Status, last: Option<&[SocketAddr]>, held: &[SocketAddr]) -> Link {
    match &status.agent {
        None if last.is_some() => Link::note(
            Name::Ports,
            "not known while the agent cannot be asked",
            "mend the link above",
        ),
        None if held.is_empty() => Link::ok(Name::Ports, "free for the agent"),
        None => {
            let held: Vec<String> = held.iter().map(ToString::to_string).collect();
            let found = format!("{} is held by another process", held.join(" and "));
            let hint = "the agent takes another port, and `tagalong env` tells programs which";
            Link::note(Name::Ports, found, hint)
        }
        Some(Agent {
            endpoints: Endpoints {
                siblings_trouble: Some(trouble),
                ..
            },
            moved,
            ..
        }) => {
            let found: Vec<&str> = moved.iter().chain([trouble]).map(String::as_str).collect();
            Link::note(Name::Ports, found.join("; "), OPEN_FOR_SIBLINGS)
        }
        Some(agent) if !agent.moved.is_empty() => Link::note(
            Name::Ports,
            agent.moved.join("; "),
            "run `eval \"$(tagalong env)\"` where programs start: they look at the usual ports else",
        ),
        Some(agent) => Link::ok(
            Name::Ports,
            format!("gRPC {}, HTTP {}", agent.endpoints.grpc, agent.endpoints.http),
        ),
    }
}
