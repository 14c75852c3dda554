//! The links between the workspace's token and the one that upstream sees: a line for each step of the exchange.

use super::{Link, Name};
use crate::{config::Identity, view::status::Status};

/// Nothing where nothing is exchanged.
pub(super) fn steps(status: &Status, identity: &Identity) -> Vec<Link> {
    let Some(exchange) = &identity.exchange else {
        return Vec::new();
    };
    let name = exchange.name();
    if status.agent.is_none() {
        let found = format!(
            "{name} at {}, with a token for {}",
            exchange.place(),
            exchange.subject_audience
        );
        return vec![Link::note(Name::Exchange, found, "the agent exchanges: `tagalong up`")];
    }
    match status.credential.steps.as_slice() {
        [] | [_] => vec![Link::note(
            Name::Exchange,
            format!("{name} was not reached"),
            format!(
                "mend the credential above: a token for {} is what is exchanged",
                exchange.subject_audience
            ),
        )],
        [_, taken @ ..] => taken
            .iter()
            .map(|step| match &step.trouble {
                None => Link::ok(Name::Exchange, format!("{}, {}", step.name, step.with)),
                Some(trouble) => Link::failed(
                    Name::Exchange,
                    format!("{}: {trouble}", step.name),
                    "compare both sides; `tagalong config` shows identity.exchange and what belongs to it, and telemetry \
                     waits in the spool meanwhile",
                ),
            })
            .collect(),
    }
}
