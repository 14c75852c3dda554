//! `tagalong status`: identity, credential, spool and export on one screen, with or without a running agent.

use std::time::{Duration, SystemTime};

use super::{
    Context,
    failure::{Failure, Kind},
    login,
    screen::Screen,
};
use crate::{
    agent::{
        control::{Answer, Ask},
        report::workspace_status,
    },
    identity::State,
    spool,
    view::status::{Credential, Export, Spool, Status},
};

mod render;
#[cfg(test)]
pub(super) mod tests;

use render::render;
pub(super) use render::{
    ANEW, NOT_ADOPTED, bytes_text, duration_text, expiry_text, facts, fault, nowhere, principal_line, principal_name,
    with_trust,
};

/// How long the agent may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

pub(super) fn run(context: &Context, json: bool) -> Result<(), Failure> {
    let mut status = fetch(context)?;
    if json {
        say!("{}", serde_json::to_string(&status).map_err(std::io::Error::from)?);
    } else {
        login::ask_once(context, &mut status);
        super::print(format_args!("{}", render(&status, Screen::of(&context.env))));
        login::told(context, &status);
    }
    Ok(())
}

/// The running agent's status; without one, what is known without it.
pub(super) fn fetch(context: &Context) -> Result<Status, Failure> {
    match context.ask(&Ask::Status, PATIENCE) {
        Ok(Answer::Status(status)) => Ok(*status),
        Ok(_) => Err(super::unknown_answer()),
        Err(failure) if failure.kind == Kind::NotRunning => Ok(without_agent(context)),
        Err(failure) => Err(failure),
    }
}

/// What is known of a credential that nobody minted yet.
pub(super) fn without_credential(context: &Context) -> Credential {
    let settings = &context.loaded.config.identity;
    Credential {
        source: settings.credential.as_str().to_owned(),
        state: State::Stopped,
        expires_in: None,
        generation: 0,
        rotations: 0,
        failures: 0,
        trouble: None,
        issuer: None,
        audiences: Vec::new(),
        wanted_audience: settings.wanted_audience().map(str::to_owned),
        clock_skew: None,
        reason: settings.reason.clone(),
        steps: Vec::new(),
    }
}

/// What settings, platform and disk tell.
pub(super) fn without_agent(context: &Context) -> Status {
    let config = &context.loaded.config;
    let spool = spool_on_disk(&config.spool.dir, config.spool.max_bytes);
    let total = |read: fn(&spool::Books) -> u64| spool.books.values().map(read).sum();
    Status {
        agent: None,
        workspace: workspace_status(&context.workspace),
        principal: None,
        credential: without_credential(context),
        export: Export {
            endpoint: config.export.as_ref().map(|export| export.endpoint.to_string()),
            state: "off".to_owned(),
            accepted: total(|books| books.accepted),
            delivered: total(|books| books.delivered),
            refused: total(|books| books.rejected + books.set_aside),
            ..Export::default()
        },
        spool,
    }
}

fn spool_on_disk(dir: &std::path::Path, max_bytes: u64) -> Spool {
    let (stats, trouble) = match spool::Spool::glance(dir, max_bytes) {
        Ok(stats) => (stats, None),
        Err(error) => (
            spool::Stats::default(),
            Some(format!("{} cannot be read: {error}", dir.display())),
        ),
    };
    Spool {
        dir: dir.display().to_string(),
        bytes: stats.bytes,
        max_bytes,
        oldest_age: stats
            .oldest
            .map(|oldest| SystemTime::now().duration_since(oldest).map_or(0, |age| age.as_secs())),
        set_aside: stats.set_aside,
        set_aside_bytes: stats.set_aside_bytes,
        books: stats.books,
        trouble,
        unadopted: None,
        full: stats.full,
    }
}
