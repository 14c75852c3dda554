//! `doctor --send`: one span through the front door, and all the way to upstream's answer.

use std::time::{Duration, Instant};

use super::{Link, Name, Verdict, credential, upstream};
use crate::{
    agent::control::{Answer, Ask},
    cli::{
        Context,
        failure::{Failure, Kind},
        status,
    },
    identity::client,
    spool::Books,
    view::status::Status,
    workspace::hex,
};

const PATIENCE: Duration = Duration::from_secs(5);
/// How long a sent span may take to upstream and back.
const DELIVERY: Duration = Duration::from_secs(15);
/// Whatever keeps it is known by then, or soon after, and then there is nothing more to wait for.
const LOOK: Duration = Duration::from_secs(3);

/// What a span passes once it was accepted. Where one of these is broken, it would be waited for in vain.
const ON_ITS_WAY: [Name; 4] = [Name::Credential, Name::Exchange, Name::Reachable, Name::Accepts];

/// Sends one span and waits until upstream has answered for all that was accepted; unless it is known from the other
/// `links` that it would not get there.
pub(super) fn one_span(context: &Context, status: &Status, links: &[Link]) -> Link {
    let Some(agent) = &status.agent else {
        return Link::failed(Name::OneSpan, "no agent runs here", "start it with `tagalong up`");
    };
    let broken = |link: &&Link| link.verdict == Verdict::Failed && ON_ITS_WAY.contains(&link.link);
    if let Some(Link { link, .. }) = links.iter().find(broken) {
        let found = format!("not tried: the link \"{}\" is broken", link.label());
        return Link::note(Name::OneSpan, found, "mend it first, then try again");
    }
    let trace_id = match post(&agent.endpoints.http) {
        Ok(trace_id) => trace_id,
        Err(failure) => return Link::failed(Name::OneSpan, failure.message, "see `tagalong logs`"),
    };
    if status.export.endpoint.is_none() {
        let found = format!("accepted and kept here; its trace is {trace_id}");
        return Link::note(Name::OneSpan, found, "without an export.endpoint it is sent nowhere");
    }
    let began = Instant::now();
    loop {
        let deadline = u64::try_from(LOOK.as_millis()).expect("some seconds fit");
        let left = context.ask(&Ask::Flush { deadline }, LOOK + PATIENCE);
        let (Ok(Answer::Left { bytes, .. }), Ok(after)) = (left, status::fetch(context)) else {
            return Link::failed(Name::OneSpan, "the agent does not answer", "see `tagalong logs`");
        };
        let known = match bytes {
            0 => Some(answered(status, &after, &trace_id)),
            _ => found_broken(context, &after, &trace_id),
        };
        if let Some(link) = known {
            return link;
        }
        if began.elapsed() > DELIVERY {
            let hint = "it waits in the spool; `tagalong status` tells when it has left";
            return Link::failed(Name::OneSpan, undelivered(&trace_id), hint);
        }
    }
}

/// What upstream's answer was, once nothing is unsent any more. Entries do not say whose they are, so what was refused
/// meanwhile counts first: nothing that was refused is said to be delivered.
fn answered(before: &Status, after: &Status, trace_id: &str) -> Link {
    let grew = |count: fn(&Books) -> u64| traces(after, count) > traces(before, count);
    if grew(|books| books.set_aside + books.rejected) {
        return Link::failed(
            Name::OneSpan,
            format!("upstream was asked and refuses what is sent; its trace is {trace_id}"),
            "`tagalong spool list` has the reason, and `tagalong logs` that of what was dropped",
        );
    }
    if grew(|books| books.delivered) {
        return Link::ok(Name::OneSpan, format!("delivered; its trace is {trace_id}"));
    }
    Link::failed(Name::OneSpan, undelivered(trace_id), "see `tagalong status`")
}

/// What was in order before the span was sent, and was found broken by it.
fn found_broken(context: &Context, after: &Status, trace_id: &str) -> Option<Link> {
    let credential = credential::credential(after, &context.loaded.config.identity, &context.env);
    let links = [credential, upstream::accepts(after, None)];
    let broken = links.into_iter().find(|link| link.verdict == Verdict::Failed)?;
    let found = format!("{}: {}", undelivered(trace_id), broken.found);
    Some(Link {
        link: Name::OneSpan,
        found,
        ..broken
    })
}

fn undelivered(trace_id: &str) -> String {
    format!("accepted here and not delivered yet; its trace is {trace_id}")
}

fn traces(status: &Status, count: fn(&Books) -> u64) -> u64 {
    status.spool.books.get("traces").map_or(0, count)
}

fn post(http: &str) -> Result<String, Failure> {
    let mut id = [0; 24];
    getrandom::fill(&mut id).map_err(|error| Failure::new(Kind::Failed, error.to_string()))?;
    let digits = hex(&id);
    let (trace_id, span_id) = digits.split_at(32);
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
    crate::cli::runtime()?.block_on(async {
        let client = client::build(None, PATIENCE, false);
        let sent = client
            .map_err(std::io::Error::other)?
            .post(format!("http://{http}/v1/traces"))
            .timeout(PATIENCE)
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
