//! `tagalong doctor`: one line for each link from the platform to upstream, and what to do about each that fails.
//!
//! It changes nothing; only `--send` sends one span that says of itself what it is.

use std::{
    net::{TcpStream, ToSocketAddrs},
    time::Duration,
};

use serde::Serialize;

use super::{
    Context,
    failure::{Failure, Kind},
};
use crate::{
    agent::control::{Answer, Ask},
    identity::State,
    view::status::Status,
    workspace::Trust,
};

/// How long one look at the network may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a sent span may take to upstream and back.
const DELIVERY: Duration = Duration::from_secs(15);

/// What was found at one link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    /// Nothing is wrong, but something is worth knowing.
    Note,
    Failed,
}

/// One link of the chain.
#[derive(Clone, Debug, Serialize)]
struct Link {
    link: &'static str,
    verdict: Verdict,
    found: String,
    /// The one thing to do next.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

pub fn run(context: &Context, json: bool, send: bool) -> Result<(), Failure> {
    let status = super::status::fetch(context)?;
    let mut links = vec![
        platform(&status),
        ports(&status),
        spool(&status, context),
        credential(&status),
        claims(&status),
        clock(&status),
        reachable(&status),
        accepts(&status),
    ];
    if send {
        links.push(send_one(context, &status));
    }
    if json {
        say!("{}", serde_json::to_string(&links).map_err(std::io::Error::from)?);
    } else {
        super::print(format_args!(
            "{}",
            render(&links, super::screen::Screen::of(&context.env).colours)
        ));
    }
    match links.iter().filter(|link| link.verdict == Verdict::Failed).count() {
        0 => Ok(()),
        1 => Err(Failure::new(Kind::Failed, "one link is broken")),
        broken => Err(Failure::new(
            Kind::Failed,
            format!("{broken} links are broken; mend the first one first"),
        )),
    }
}

fn render(links: &[Link], colours: bool) -> String {
    let mut text = String::new();
    for link in links {
        let (mark, colour) = match link.verdict {
            Verdict::Ok => ("ok  ", "32"),
            Verdict::Note => ("note", "33"),
            Verdict::Failed => ("FAIL", "31"),
        };
        let mark = if colours {
            format!("\x1b[{colour}m{mark}\x1b[0m")
        } else {
            mark.to_owned()
        };
        text.push_str(&format!("{mark}  {:<19} {}\n", link.link, link.found));
        if let Some(hint) = &link.hint {
            text.push_str(&format!("      {:<19} → {hint}\n", ""));
        }
    }
    text
}

fn ok(link: &'static str, found: impl Into<String>) -> Link {
    Link {
        link,
        verdict: Verdict::Ok,
        found: found.into(),
        hint: None,
    }
}

fn note(link: &'static str, found: impl Into<String>, hint: impl Into<String>) -> Link {
    Link {
        link,
        verdict: Verdict::Note,
        found: found.into(),
        hint: Some(hint.into()),
    }
}

fn failed(link: &'static str, found: impl Into<String>, hint: impl Into<String>) -> Link {
    Link {
        link,
        verdict: Verdict::Failed,
        found: found.into(),
        hint: Some(hint.into()),
    }
}

fn platform(status: &Status) -> Link {
    let workspace = &status.workspace;
    if workspace.prebuild {
        return note(
            "platform",
            format!("{}, a prebuild", workspace.platform),
            "nothing is started in a prebuild",
        );
    }
    ok(
        "platform",
        format!("{}, workspace {}", workspace.platform, workspace.id),
    )
}

fn ports(status: &Status) -> Link {
    match &status.agent {
        None => failed("ports", "no agent runs here", "start it with `tagalong up`"),
        Some(agent) if !agent.moved.is_empty() => note(
            "ports",
            agent.moved.join("; "),
            "programs that use `tagalong env` find the real ports",
        ),
        Some(agent) => ok(
            "ports",
            format!("gRPC {}, HTTP {}", agent.endpoints.grpc, agent.endpoints.http),
        ),
    }
}

fn spool(status: &Status, context: &Context) -> Link {
    let spool = &status.spool;
    if status.agent.is_none() {
        let dir = &context.loaded.config.spool.dir;
        let nearest = dir.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(dir);
        return match rustix::fs::access(nearest, rustix::fs::Access::WRITE_OK) {
            Ok(()) => ok("spool writable", dir.display().to_string()),
            Err(error) => failed(
                "spool writable",
                format!("{}: {error}", dir.display()),
                "make it writable, or set spool.dir to a place that is",
            ),
        };
    }
    if let Some(trouble) = &spool.trouble {
        return failed(
            "spool writable",
            trouble.clone(),
            format!("make room for {}", spool.dir),
        );
    }
    if spool.bytes * 10 >= spool.max_bytes * 9 {
        let found = format!("{} of {} bytes are unsent", spool.bytes, spool.max_bytes);
        return failed(
            "spool writable",
            found,
            "mend the link to upstream below, or raise spool.max_bytes",
        );
    }
    if spool.set_aside > 0 {
        return note(
            "spool writable",
            format!("{}; {} set aside", spool.dir, spool.set_aside),
            "see `tagalong spool list`",
        );
    }
    ok("spool writable", spool.dir.clone())
}

fn credential(status: &Status) -> Link {
    let credential = &status.credential;
    let what = format!("{}, {}", credential.source, super::status::expiry_text(credential));
    if status.agent.is_none() {
        return note(
            "credential",
            format!("{} is the source", credential.source),
            "the agent obtains it: `tagalong up`",
        );
    }
    let trouble = credential
        .trouble
        .clone()
        .unwrap_or_else(|| "no usable credential yet".to_owned());
    match credential.state {
        State::Fresh | State::Refreshing => ok("credential", what),
        State::Degraded => note(
            "credential",
            format!("{what}; {trouble}"),
            "it is tried again by itself; nothing is lost",
        ),
        State::Boot | State::Acquiring => note(
            "credential",
            "on its way",
            "run `tagalong doctor` again in some seconds",
        ),
        State::Rejected => note(
            "credential",
            "upstream refused it; another one is on its way",
            "nothing is lost meanwhile",
        ),
        State::Denied => failed(
            "credential",
            "upstream refuses fresh credentials",
            "compare identity.audience and the issuer with what upstream expects; telemetry waits in the spool",
        ),
        State::Starved | State::NeedsUser | State::Stopped => failed(
            "credential",
            trouble,
            format!(
                "mend identity.credential = \"{}\"; telemetry waits in the spool",
                credential.source
            ),
        ),
    }
}

fn claims(status: &Status) -> Link {
    match &status.principal {
        None => note(
            "claims",
            "nobody is known yet",
            "nothing leaves without a name; it waits in the spool",
        ),
        Some(principal) if principal.trust == Trust::Verified => ok("claims", super::status::principal_line(principal)),
        Some(principal) => note(
            "claims",
            super::status::principal_line(principal),
            "no token says who this is; set identity.credential for a verified name",
        ),
    }
}

fn clock(status: &Status) -> Link {
    match &status.credential.trouble {
        Some(trouble) if trouble.contains("clock") => {
            failed("clock", trouble.clone(), "set this machine's clock; tokens end by it")
        }
        _ => ok("clock", "no credential disagrees with it"),
    }
}

fn reachable(status: &Status) -> Link {
    let Some(endpoint) = &status.export.endpoint else {
        return note(
            "upstream reachable",
            "no export.endpoint is set",
            "set it, or use this machine's own view only",
        );
    };
    let Ok(url) = url::Url::parse(endpoint) else {
        return failed(
            "upstream reachable",
            format!("{endpoint} is no URL"),
            "set export.endpoint",
        );
    };
    let (host, port) = (
        url.host_str().unwrap_or_default(),
        url.port_or_known_default().unwrap_or(443),
    );
    // A name server that does not answer is the resolver's own time limit; the connection has ours.
    let addresses = (host.trim_matches(['[', ']']), port).to_socket_addrs();
    let connected = addresses.map(|mut all| all.any(|one| TcpStream::connect_timeout(&one, PATIENCE).is_ok()));
    match connected {
        Ok(true) => ok("upstream reachable", format!("{host}:{port}")),
        Ok(false) => failed(
            "upstream reachable",
            format!("{host}:{port} does not accept connections"),
            "check export.endpoint, or the proxy in HTTPS_PROXY; telemetry waits in the spool",
        ),
        Err(error) => failed(
            "upstream reachable",
            format!("{host}: {error}"),
            "check the name in export.endpoint",
        ),
    }
}

fn accepts(status: &Status) -> Link {
    let export = &status.export;
    if export.endpoint.is_none() || status.agent.is_none() {
        return note(
            "upstream accepts",
            "not asked",
            "`tagalong doctor --send` sends one marked span",
        );
    }
    if let Some(trouble) = &export.trouble {
        return failed(
            "upstream accepts",
            trouble.clone(),
            "telemetry waits in the spool and is sent when upstream takes it",
        );
    }
    if !export.not_taken.is_empty() {
        let found = format!("upstream does not take {}", export.not_taken.join(", "));
        return note(
            "upstream accepts",
            found,
            "turn them off in the SDK, or give upstream a pipeline for them",
        );
    }
    if export.delivered == 0 {
        return note(
            "upstream accepts",
            "nothing was sent yet",
            "`tagalong doctor --send` sends one marked span",
        );
    }
    ok("upstream accepts", format!("{} items delivered", export.delivered))
}

/// Sends one span through the front door and waits until upstream has answered for all that was accepted.
fn send_one(context: &Context, status: &Status) -> Link {
    let Some(agent) = &status.agent else {
        return failed("one span", "no agent runs here", "start it with `tagalong up`");
    };
    let before = status.export.delivered;
    let trace_id = match post_span(&agent.endpoints.http) {
        Ok(trace_id) => trace_id,
        Err(failure) => return failed("one span", failure.message, "see `tagalong logs`"),
    };
    let deadline = u64::try_from(DELIVERY.as_millis()).expect("some seconds fit");
    let left = context.ask(&Ask::Flush { deadline }, DELIVERY + PATIENCE);
    let after = super::status::fetch(context).map_or(before, |status| status.export.delivered);
    match left {
        Ok(Answer::Left { bytes: 0 }) if after > before => {
            ok("one span", format!("delivered; its trace is {trace_id}"))
        }
        Ok(Answer::Left { .. }) => failed(
            "one span",
            format!(
                "accepted here and not delivered within {} s; its trace is {trace_id}",
                DELIVERY.as_secs()
            ),
            "it waits in the spool; mend the first broken link above",
        ),
        _ => failed("one span", "the agent does not answer", "see `tagalong logs`"),
    }
}

fn post_span(http: &str) -> Result<String, Failure> {
    let mut id = [0; 24];
    getrandom::fill(&mut id).map_err(|error| Failure::new(Kind::Failed, error.to_string()))?;
    let hex: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    let (trace_id, span_id) = hex.split_at(32);
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos())
        .to_string();
    let body = serde_json::json!({"resourceSpans": [{
        "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "tagalong-doctor"}}]},
        "scopeSpans": [{"scope": {"name": "tagalong"}, "spans": [{
            "traceId": trace_id, "spanId": span_id, "name": "tagalong doctor --send", "kind": 1,
            "startTimeUnixNano": now, "endTimeUnixNano": now,
        }]}],
    }]});
    super::runtime()?.block_on(async {
        let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build();
        let sent = client
            .map_err(std::io::Error::other)?
            .post(format!("http://{http}/v1/traces"))
            .header("content-type", "application/json")
            .body(body.to_string())
            .send()
            .await
            .map_err(std::io::Error::other)?;
        match sent.status().is_success() {
            true => Ok(trace_id.to_owned()),
            false => Err(Failure::new(
                Kind::Failed,
                format!("the agent answered {} to a span", sent.status()),
            )),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_broken_link_says_what_to_do_under_it() {
        let links = [
            ok("platform", "local"),
            failed("credential", "the file is empty", "write a token into it"),
        ];
        assert_eq!(
            render(&links, false),
            "ok    platform            local\nFAIL  credential          the file is empty\n                          → write a token into it\n"
        );
    }
}
