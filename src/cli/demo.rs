//! `tagalong demo`: the demonstration, and what a report of it with losses means.

use std::{os::unix::process::CommandExt, process::Command};

use super::failure::{Failure, Kind};
use crate::{
    demo::{self, Report},
    workspace::Env,
};

pub(super) fn run(env: &Env, duration: &str, json: bool) -> Result<(), Failure> {
    without_sdk_settings(env, duration, json)?;
    let duration = super::parse_duration(duration)?;
    let runtime = super::runtime()?;
    let report = runtime
        .block_on(demo::run(demo::Options { duration, json }))
        .map_err(|error| {
            let failure = Failure::new(Kind::Failed, format!("the demo did not run: {error}"));
            match error.kind() {
                std::io::ErrorKind::Interrupted => failure,
                _ => failure
                    .hint("it needs a directory in TMPDIR (else /tmp) that it can write in, and ports of 127.0.0.1"),
            }
        })?;
    if json {
        say!("{}", serde_json::to_string(&report).map_err(std::io::Error::from)?);
    }
    verdict(&report)
}

fn verdict(report: &Report) -> Result<(), Failure> {
    if report.lost > 0 {
        return Err(Failure::new(
            Kind::Failed,
            format!("{} of the accepted spans did not arrive", report.lost),
        ));
    }
    if report.accepted == 0 {
        return Err(
            Failure::new(Kind::Failed, "the agent accepted nothing, so nothing was shown")
                .hint("let it send for longer, as with --for 10s"),
        );
    }
    Ok(())
}

/// The demonstration's sample is a program with an SDK, which takes what `OTEL_*` says over what it is told. Where any of
/// it is set, the process begins again without.
fn without_sdk_settings(env: &Env, duration: &str, json: bool) -> Result<(), Failure> {
    let mut names = env.0.keys().filter(|name| name.starts_with("OTEL_")).peekable();
    if names.peek().is_none() {
        return Ok(());
    }
    let mut again = Command::new(std::env::current_exe()?);
    again.args(["demo", "--for", duration]).args(json.then_some("--json"));
    for name in names {
        again.env_remove(name);
    }
    Err(again.exec().into())
}

pub(super) fn token(issuer: &str, audience: &str) -> Result<(), Failure> {
    let token = super::runtime()?
        .block_on(demo::token(issuer, audience))
        .map_err(|error| Failure::new(Kind::Failed, error.to_string()))?;
    say!("{token}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_demonstration_that_lost_or_showed_nothing_fails() {
        let report = |accepted, delivered| Report {
            accepted,
            delivered,
            lost: accepted - delivered,
            ..Report::default()
        };
        let failure = |report| verdict(&report).map_err(|failure| failure.message);
        assert_eq!(failure(report(3, 3)), Ok(()));
        assert_eq!(
            failure(report(3, 1)),
            Err("2 of the accepted spans did not arrive".to_owned())
        );
        assert_eq!(
            failure(report(0, 0)),
            Err("the agent accepted nothing, so nothing was shown".to_owned())
        );
    }
}
