//! `tagalong doctor`: one line for each link from the platform to upstream, and what to do about each that fails.
//!
//! It changes nothing: it asks the agent, looks at files, and asks upstream for its first page without a credential.
//! Only `--send` sends one span, which says of itself what it is. What each line says is worked out by pure functions
//! from what was seen, so that every broken setup can be told as a test.

use std::time::Duration;

use serde::Serialize;

use super::{
    Context,
    failure::{Failure, Kind},
    screen::{Screen, Tone},
    status,
};
use crate::{
    agent::{
        control::{Answer, Ask},
        ports,
    },
    identity::{
        claims::Claims,
        secret::{Secret, leave_no_core_file},
    },
    view::status::Status,
};

mod claims;
mod credential;
mod exchange;
mod here;
mod programs;
mod send;
#[cfg(test)]
mod tests;
mod upstream;

/// How long the agent may take to show its token.
const PATIENCE: Duration = Duration::from_secs(2);
/// Columns that the verdict and the link's name take.
const MARKS: usize = 6;
const NAMES: usize = 19;
/// Narrower than this, a text stands below its name.
const NARROW: usize = 72;

/// What was found at one link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    /// As it should be.
    Ok,
    /// Nothing is broken, but something is worth knowing.
    Note,
    /// Telemetry does not get past this link.
    Failed,
}

/// The links in the order in which they depend on each other: of several that fail, the first is mended first.
/// The names are public and stable; a version may add some.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Name {
    Settings,
    Platform,
    Endpoint,
    #[serde(rename = "spool writable")]
    Spool,
    Agent,
    Ports,
    Programs,
    Clock,
    Credential,
    /// One for each step; only where the credential is exchanged.
    Exchange,
    /// One for each mismatch between what was asked for and what came, or one that there is none.
    Claims,
    #[serde(rename = "upstream reachable")]
    Reachable,
    #[serde(rename = "upstream accepts")]
    Accepts,
    /// Only with `--send`.
    #[serde(rename = "one span")]
    OneSpan,
}

/// One link of the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Link {
    link: Name,
    verdict: Verdict,
    /// What was found, in one line for people.
    found: String,
    /// The one thing to do next; absent where there is nothing to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

/// What `doctor --json` prints, as one object.
///
/// ```json
/// {"ok": false,
///  "links": [{"link": "credential", "verdict": "failed", "found": "the token file … is empty", "hint": "write …"}]}
/// ```
///
/// `verdict` is `ok`, `note` or `failed`; `hint` may be absent. Texts are for people and change between versions, all
/// else is stable. The exit code is 0 if `ok`, else 1, or 2 if the settings themselves are wrong.
#[derive(Debug, Serialize)]
struct Report {
    /// Whether no link failed.
    ok: bool,
    links: Vec<Link>,
}

impl Link {
    fn ok(link: Name, found: impl Into<String>) -> Link {
        Link {
            link,
            verdict: Verdict::Ok,
            found: found.into(),
            hint: None,
        }
    }

    fn note(link: Name, found: impl Into<String>, hint: impl Into<String>) -> Link {
        Link {
            verdict: Verdict::Note,
            hint: Some(hint.into()),
            ..Link::ok(link, found)
        }
    }

    fn failed(link: Name, found: impl Into<String>, hint: impl Into<String>) -> Link {
        Link {
            verdict: Verdict::Failed,
            hint: Some(hint.into()),
            ..Link::ok(link, found)
        }
    }
}

impl Name {
    fn label(self) -> String {
        serde_json::to_value(self)
            .ok()
            .and_then(|value| value.as_str().map(str::to_owned))
            .unwrap_or_default()
    }
}

pub(super) fn run(context: Result<Context, Failure>, json: bool, send: bool) -> Result<(), Failure> {
    let context = match context {
        Ok(Context {
            wrong: Some(failure), ..
        })
        | Err(failure) => {
            let links = unusable_settings(&failure);
            // Colours are a setting of the terminal, and that is not at fault.
            tell(links, json, Screen::of(&crate::workspace::Env::from_process()))?;
            return Err(Failure::new(failure.kind, "nothing else can be checked before that"));
        }
        Ok(context) => context,
    };
    let links = links(&context, send);
    let broken = links.iter().filter(|link| link.verdict == Verdict::Failed).count();
    tell(links, json, Screen::of(&context.env))?;
    match broken {
        0 => Ok(()),
        1 => Err(Failure::new(Kind::Failed, "one link is broken")),
        broken => Err(Failure::new(
            Kind::Failed,
            format!("{broken} links are broken; mend the first one first"),
        )),
    }
}

fn tell(links: Vec<Link>, json: bool, screen: Screen) -> Result<(), Failure> {
    if json {
        let ok = links.iter().all(|link| link.verdict != Verdict::Failed);
        let report = Report { ok, links };
        say!("{}", serde_json::to_string(&report).map_err(std::io::Error::from)?);
    } else {
        super::print(format_args!("{}", render(&links, screen)));
    }
    Ok(())
}

/// Without settings there is no other link to look at.
fn unusable_settings(failure: &Failure) -> Vec<Link> {
    let place = "correct it where it is written: the name in brackets says where";
    match failure.kind {
        Kind::Usage if !failure.hints.is_empty() => failure
            .hints
            .iter()
            .map(|problem| Link::failed(Name::Settings, problem, place))
            .collect(),
        _ => {
            let hint = failure.hints.first().map_or("see `tagalong config`", String::as_str);
            vec![Link::failed(Name::Settings, &failure.message, hint)]
        }
    }
}

/// Looks at everything, once.
fn links(context: &Context, send: bool) -> Vec<Link> {
    let (status, hung) = match status::fetch(context) {
        Ok(status) => (status, None),
        Err(failure) => (status::without_agent(context), Some(failure)),
    };
    let config = &context.loaded.config;
    let last = hung.as_ref().map(|_| ports::remembered(&config.spool.dir));
    let held = here::held(&status, &config.listen, last.as_deref());
    let own = here::own_addresses(&status, &config.listen, last.as_deref(), &held);
    let probe = upstream::probe(&context.env, &status, config.export.as_ref());
    let credential = credential::credential(&status, &config.identity, &context.env);
    let agent = match here::agent(&status, hung.as_ref(), config.fingerprint()) {
        // One that is started now would be started anew for it.
        none if status.agent.is_none() && hung.is_none() && credential.verdict == Verdict::Failed => Link {
            verdict: Verdict::Note,
            hint: Some("mend the credential below first, then start it with `tagalong up`".to_owned()),
            ..none
        },
        agent => agent,
    };
    let mut links = vec![
        here::settings(&context.loaded.notices),
        here::platform(&status.workspace),
        here::endpoint(&status, &own, config),
        match &context.unkept {
            Some(failure) => Link::failed(Name::Spool, &failure.message, failure.hints.join("; ")),
            None => here::spool(&status, &here::Room::of(&config.spool.dir)),
        },
        agent,
        here::ports(&status, last.as_deref(), &held),
        programs::programs(&context.env, &status, &own, config.export.as_ref()),
        credential::clock(&status.credential, probe.as_ref().and_then(upstream::Probe::skew)),
        credential,
    ];
    links.extend(exchange::steps(&status, &config.identity));
    let token = token(context, &status);
    let asked = claims::Asked {
        scopes: config.identity.wanted_scopes(),
        client_id: config.identity.client_id.as_deref(),
    };
    links.extend(claims::claims(&status, asked, token.as_ref()));
    links.extend([
        upstream::reachable(probe.as_ref()),
        upstream::accepts(&status, probe.as_ref()),
    ]);
    if send {
        links.push(send::one_span(context, &status, &links));
    }
    links
}

/// What the agent's token of the moment says; none without one that can be read.
fn token(context: &Context, status: &Status) -> Option<Claims> {
    status.agent.as_ref()?;
    leave_no_core_file();
    match context.ask(&Ask::Token, PATIENCE) {
        Ok(Answer::Token { token, .. }) => Claims::decode(Secret::from(token?).expose()),
        _ => None,
    }
}

fn render(links: &[Link], screen: Screen) -> String {
    // Beside the names the texts need more room than `status` needs beside its labels.
    let is_narrow = screen.is_narrower_than(NARROW);
    let indent = if is_narrow { MARKS } else { MARKS + NAMES + 1 };
    let blank = " ".repeat(indent);
    let mut text = String::new();
    for link in links {
        let (mark, tone) = match link.verdict {
            Verdict::Ok => ("ok  ", Tone::Good),
            Verdict::Note => ("note", Tone::Notable),
            Verdict::Failed => ("FAIL", Tone::Bad),
        };
        let mark = screen.paint(tone, mark);
        let found = screen.wrap(indent, &link.found);
        let label = link.link.label();
        if is_narrow {
            text.push_str(&format!("{mark}  {label}\n{blank}{found}\n"));
        } else {
            text.push_str(&format!("{mark}  {label:<NAMES$} {found}\n"));
        }
        if let Some(hint) = &link.hint {
            text.push_str(&format!("{blank}→ {}\n", screen.wrap(indent + 2, hint)));
        }
    }
    text
}
