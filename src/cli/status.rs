//! `tagalong status`: identity, credential, spool and export on one screen, with or without a running agent.

use std::time::Duration;

use super::{
    Context,
    failure::{Failure, Kind},
};
use crate::{
    agent::{
        control::{Answer, Ask},
        report::workspace_status,
    },
    identity::State,
    view::status::{Credential, Export, Principal, Spool, Status},
    workspace::Trust,
};

pub fn run(context: &Context, json: bool) -> Result<(), Failure> {
    let status = fetch(context)?;
    if json {
        say!("{}", serde_json::to_string(&status).map_err(std::io::Error::from)?);
    } else {
        super::print(format_args!("{}", render(&status, super::colours(&context.env))));
    }
    Ok(())
}

/// The running agent's status; without one, what is known without it.
pub(super) fn fetch(context: &Context) -> Result<Status, Failure> {
    match context.ask(&Ask::Status, Duration::from_secs(2)) {
        Ok(Answer::Status(status)) => Ok(*status),
        Ok(_) => Err(Failure::new(
            Kind::Failed,
            "the agent gave an answer that this version does not know",
        )),
        Err(failure) if failure.kind == Kind::NotRunning => Ok(without_agent(context)),
        Err(failure) => Err(failure),
    }
}

fn without_agent(context: &Context) -> Status {
    let config = &context.loaded.config;
    Status {
        agent: None,
        workspace: workspace_status(&context.workspace),
        principal: None,
        credential: Credential {
            source: config.identity.credential.as_str().to_owned(),
            state: State::Stopped,
            expires_in: None,
            generation: 0,
            rotations: 0,
            failures: 0,
            trouble: None,
        },
        spool: Spool {
            dir: config.spool.dir.display().to_string(),
            max_bytes: config.spool.max_bytes,
            ..Spool::default()
        },
        export: Export {
            endpoint: config.export.as_ref().map(|export| export.endpoint.to_string()),
            state: "off".to_owned(),
            ..Export::default()
        },
    }
}

fn render(status: &Status, colours: bool) -> String {
    let mut lines = Vec::new();
    let mut line = |heading: &str, text: String| {
        let heading = format!("{heading:<11}");
        lines.push(if colours {
            format!("\x1b[1m{heading}\x1b[0m{text}\n")
        } else {
            format!("{heading}{text}\n")
        });
    };
    match &status.agent {
        Some(agent) => {
            let uptime = duration_text(agent.uptime);
            line("agent", format!("{}, pid {}, up {uptime}", agent.version, agent.pid));
            line(
                "listening",
                format!("gRPC {}, HTTP {}", agent.endpoints.grpc, agent.endpoints.http),
            );
            for moved in &agent.moved {
                line("", moved.clone());
            }
        }
        None => line("agent", "not running; start it with `tagalong up`".to_owned()),
    }
    let workspace = &status.workspace;
    let trust = workspace.trust.get("id").map_or("", |trust| trust_text(*trust));
    line(
        "workspace",
        format!("{} on {} ({trust})", workspace.id, workspace.platform),
    );
    match &status.principal {
        Some(principal) => line("principal", principal_line(principal)),
        None => line("principal", "nobody yet: nothing leaves without a name".to_owned()),
    }
    line(
        "credential",
        format!(
            "{}, {}, {}",
            status.credential.source,
            state_text(status.credential.state),
            expiry_text(&status.credential)
        ),
    );
    if let Some(trouble) = &status.credential.trouble {
        line("", trouble.clone());
    }
    spool_lines(&status.spool, &mut line);
    export_lines(&status.export, &mut line);
    lines.concat()
}

fn spool_lines(spool: &Spool, line: &mut impl FnMut(&str, String)) {
    let age = spool
        .oldest_age
        .map_or(String::new(), |age| format!(", the oldest {} old", duration_text(age)));
    line(
        "spool",
        format!(
            "{} of {} unsent{age}",
            bytes_text(spool.bytes),
            bytes_text(spool.max_bytes)
        ),
    );
    for (signal, books) in &spool.books {
        line(
            "",
            format!(
                "{signal}: {} accepted = {} delivered + {} rejected + {} set aside + {} expired + {} pending",
                books.accepted, books.delivered, books.rejected, books.set_aside, books.expired, books.pending
            ),
        );
    }
    if spool.set_aside > 0 {
        line("", format!("{} set aside: see `tagalong spool list`", spool.set_aside));
    }
    if let Some(trouble) = &spool.trouble {
        line("", format!("{trouble}: senders are told to come again"));
    }
}

fn export_lines(export: &Export, line: &mut impl FnMut(&str, String)) {
    let Some(endpoint) = &export.endpoint else {
        line(
            "export",
            "no export.endpoint is set: telemetry is kept here as a ring and sent nowhere".to_owned(),
        );
        return;
    };
    line("export", format!("{} to {endpoint}", export.state));
    if let Some(trouble) = &export.trouble {
        line("", trouble.clone());
    }
    for signal in &export.not_taken {
        line(
            "",
            format!("upstream does not take {signal}; they are kept here as a ring"),
        );
    }
}

/// Who, in one line, with how far that can be believed.
pub(super) fn principal_line(principal: &Principal) -> String {
    let name = ["user.email", "user.name", "user.id", "user.hash"]
        .iter()
        .find_map(|key| principal.attributes.get(*key))
        .unwrap_or(&principal.subject);
    format!("{name} ({})", trust_text(principal.trust))
}

/// When the credential ends, in words.
pub(super) fn expiry_text(credential: &Credential) -> String {
    let generation = credential.generation;
    match credential.expires_in {
        Some(seconds) if seconds > 0.0 => format!("generation {generation}, ends in {}", duration_text(seconds as u64)),
        Some(_) => format!("generation {generation}, ended"),
        None if generation > 0 => format!("generation {generation}, without an end"),
        None => "none yet".to_owned(),
    }
}

fn trust_text(trust: Trust) -> &'static str {
    match trust {
        Trust::Verified => "verified",
        Trust::Platform => "the platform's word",
        Trust::Asserted => "asserted, not verified",
    }
}

fn state_text(state: State) -> String {
    serde_json::to_value(state)
        .ok()
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_default()
}

fn duration_text(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d", seconds / 86_400),
    }
}

fn bytes_text(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{} KiB", bytes / 1024),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
        _ => format!("{:.1} GiB", bytes as f64 / 1_073_741_824.0),
    }
}
