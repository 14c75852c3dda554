//! `tagalong token` and `tagalong whoami`: the current credential for other tools, and who it speaks for.

use std::time::{Duration, SystemTime};

use clap::ValueEnum;
use serde::Serialize;

use super::{
    Context,
    failure::{Failure, Kind},
    screen::Screen,
};
use crate::{
    agent::{
        control::{Answer, Ask},
        report,
    },
    config::Credential,
    identity::{
        Admitted, State,
        claims::Claims,
        clock::{Clock, Expiry},
        secret::{Secret, leave_no_core_file},
    },
    view::status::{self, Principal},
    workspace::Trust,
};

const PATIENCE: Duration = Duration::from_secs(5);
/// Seconds since 1970 at which the year 10000 begins.
const YEAR_10000: u64 = 253_402_300_800;

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Format {
    /// The token alone
    Raw,
    /// The token with its expiry
    Json,
    /// Kubernetes' client.authentication.k8s.io/v1
    ExecCredential,
    /// A header object, as coding agents' header helpers expect it
    OtelHeaders,
}

pub(super) fn run(context: &Context, format: Format) -> Result<(), Failure> {
    leave_no_core_file();
    let (token, expires_in) = match context.ask(&Ask::Token, PATIENCE) {
        Ok(Answer::Token {
            token,
            expires_in,
            audience,
            ..
        }) => {
            for_whom(context, audience.as_deref())?;
            (token.map(Secret::from), expires_in)
        }
        Ok(_) => return Err(super::unknown_answer()),
        Err(failure) if failure.kind == Kind::NotRunning && has_source(context) => {
            let minted = alone(context)?;
            (minted.token, left(minted.expiry))
        }
        Err(failure) => return Err(failure),
    };
    let Some(token) = token else {
        if context.loaded.config.identity.credential == Credential::None {
            return Err(Failure::new(
                Kind::NoCredential,
                "there is no token: identity.credential is \"none\" here",
            )
            .hint("set identity.credential to where tokens come from"));
        }
        let trouble = match context.ask(&Ask::Status, PATIENCE) {
            Ok(Answer::Status(status)) => status.credential.trouble,
            _ => None,
        };
        return Err(nothing("there is no usable credential right now", trouble));
    };
    say!("{}", render(token.expose(), expires_in, format, SystemTime::now()));
    Ok(())
}

/// Refuses the running agent's token where these settings ask for one for another `audience`. Those of an upstream that
/// was taken from an `OTEL_*` variable ask for none.
fn for_whom(context: &Context, audience: Option<&str>) -> Result<(), Failure> {
    let config = &context.loaded.config;
    let from_otel = config.export.as_ref().is_some_and(|export| export.from_otel);
    match config.identity.wanted_audience().filter(|_| !from_otel) {
        Some(wanted) if audience != Some(wanted) => {
            let theirs = audience.unwrap_or("nobody in particular");
            let message = format!("the running agent's token is for {theirs}, and these settings ask for {wanted}");
            Err(Failure::new(Kind::NoCredential, message)
                .hint("run `tagalong up`: it puts an agent with these settings in its place"))
        }
        _ => Ok(()),
    }
}

/// There is nothing to show, and why, where that is known.
fn nothing(what: &str, trouble: Option<String>) -> Failure {
    let why = trouble.unwrap_or_else(|| "no credential was obtained".to_owned());
    Failure::new(Kind::NoCredential, format!("{what}: {why}")).hint("`tagalong doctor` says which link is broken")
}

/// Without a source there is nothing to mint, with an agent or without.
fn has_source(context: &Context) -> bool {
    !matches!(
        context.loaded.config.identity.credential,
        crate::config::Credential::None
    )
}

/// One credential of this process's own, where no agent runs.
fn alone(context: &Context) -> Result<Admitted, Failure> {
    if context.workspace.prebuild {
        return Err(Failure::new(
            Kind::NoCredential,
            "this is a prebuild: its token would name whoever it ran as",
        ));
    }
    let minted = super::runtime()?.block_on(crate::agent::mint(
        &context.env,
        &context.loaded.config,
        &context.workspace,
    ));
    minted.map_err(|error| {
        Failure::new(Kind::NoCredential, format!("no agent runs, and without one: {error}"))
            .hint("`tagalong doctor` says which link is broken")
    })
}

/// What is left of it now, in seconds.
fn left(expiry: Option<Expiry>) -> Option<f64> {
    Some(expiry?.remaining(Clock::System.now()).as_secs_f64())
}

fn render(token: &str, expires_in: Option<f64>, format: Format, now: SystemTime) -> String {
    let expiry = expires_in.and_then(|seconds| rfc3339(now, seconds));
    match format {
        Format::Raw => token.to_owned(),
        Format::Json => serde_json::json!({"token": token, "expires_at": expiry}).to_string(),
        Format::ExecCredential => serde_json::json!({
            "apiVersion": "client.authentication.k8s.io/v1",
            "kind": "ExecCredential",
            "status": {"token": token, "expirationTimestamp": expiry},
        })
        .to_string(),
        Format::OtelHeaders => serde_json::json!({"Authorization": format!("Bearer {token}")}).to_string(),
    }
}

/// UTC, to the second (RFC 3339); none for what no calendar of four digits holds.
fn rfc3339(now: SystemTime, seconds: f64) -> Option<String> {
    let remaining = Duration::try_from_secs_f64(seconds.max(0.0)).ok()?;
    let last = SystemTime::UNIX_EPOCH + Duration::from_secs(YEAR_10000);
    let end = now.checked_add(remaining).filter(|end| *end < last)?;
    Some(humantime::format_rfc3339_seconds(end).to_string())
}

/// What `whoami --json` prints: three fields of `status --json`, here without an agent too.
#[derive(Serialize)]
struct Known {
    workspace: status::Workspace,
    principal: Principal,
    credential: status::Credential,
}

pub(super) fn whoami(context: &Context, json: bool) -> Result<(), Failure> {
    let (principal, credential, workspace) = match context.ask(&Ask::Status, PATIENCE) {
        Ok(Answer::Status(status)) => (status.principal, status.credential, status.workspace),
        Ok(_) => return Err(super::unknown_answer()),
        Err(failure) if failure.kind == Kind::NotRunning && has_source(context) => minted(context)?,
        Err(failure) => return Err(failure),
    };
    let principal = match principal {
        // What is accepted goes on waiting under the last one's name, but nobody speaks for them any more.
        Some(_) if credential.state == State::NeedsUser => return Err(nothing("nobody", credential.trouble)),
        Some(principal) => principal,
        None => return Err(nothing("nobody yet", credential.trouble)),
    };
    let known = Known {
        workspace,
        principal,
        credential,
    };
    if json {
        say!("{}", serde_json::to_string(&known).map_err(std::io::Error::from)?);
    } else {
        super::print(format_args!("{}", person(&known, Screen::of(&context.env))));
    }
    Ok(())
}

/// Who a credential of this process's own speaks for, by which one, and where.
fn minted(context: &Context) -> Result<(Option<Principal>, status::Credential, status::Workspace), Failure> {
    let minted = alone(context)?;
    let claims = minted.token.as_ref().and_then(|token| Claims::decode(token.expose()));
    let workspace = match claims {
        Some(claims) => report::confirmed_status(&context.workspace, &claims),
        None => report::workspace_status(&context.workspace),
    };
    let principal = Principal {
        issuer: minted.principal.issuer,
        subject: minted.principal.subject,
        attributes: minted.principal.attributes.into_iter().collect(),
        trust: minted.principal.trust,
    };
    let credential = status::Credential {
        expires_in: left(minted.expiry),
        generation: u64::from(minted.token.is_some()),
        state: State::Stopped,
        ..super::status::without_credential(context)
    };
    Ok((Some(principal), credential, workspace))
}

/// How far the name can be believed, and who checks it.
fn belief(trust: Trust) -> &'static str {
    match trust {
        Trust::Verified => "the issuer's token says so; its signature is checked by upstream, not here",
        Trust::Platform => "the platform says so, without a signature",
        Trust::Asserted => "nobody but this machine says so",
    }
}

/// Who, by what is stamped, and what says so.
fn person(known: &Known, screen: Screen) -> String {
    let Known {
        workspace,
        principal,
        credential,
    } = known;
    let mut rows = vec![
        ("issuer", principal.issuer.clone()),
        ("subject", principal.subject.clone()),
    ];
    rows.extend(
        principal
            .attributes
            .iter()
            .map(|(key, value)| (key.as_str(), value.clone())),
    );
    let source = match credential.source.as_str() {
        "none" => "none".to_owned(),
        source => format!("{source}, {}", super::status::expiry_text(credential)),
    };
    rows.push(("source", source));
    rows.push(("verified", belief(principal.trust).to_owned()));
    rows.push(("workspace", super::status::with_trust(workspace, "id", &workspace.id)));
    let labels = rows.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
    let mut text = format!("{}\n", screen.wrap(2, &super::status::principal_line(principal)));
    for (label, value) in rows {
        match screen.is_narrow() {
            true => text.push_str(&format!("{label}\n  {}\n", screen.wrap(2, &value))),
            false => text.push_str(&format!("{label:labels$}  {}\n", screen.wrap(labels + 2, &value))),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_written_as_rfc_3339_if_a_calendar_holds_it() {
        let at = |seconds| rfc3339(SystemTime::UNIX_EPOCH, seconds);
        assert_eq!(at(-1.0).as_deref(), Some("1970-01-01T00:00:00Z"));
        assert_eq!(at(951_782_400.9).as_deref(), Some("2000-02-29T00:00:00Z"));
        for endless in [1e12, 1e300, f64::INFINITY, f64::NAN] {
            assert!(at(endless).is_none_or(|end| end.starts_with("1970")), "{endless}");
        }
    }

    #[test]
    fn who_it_is_fits_the_terminal() {
        let status = crate::cli::status::tests::at_work();
        let known = Known {
            workspace: status.workspace,
            principal: status.principal.expect("somebody"),
            credential: status.credential,
        };
        let at = |width| person(&known, Screen { colours: false, width });
        insta::assert_snapshot!(at(Some(80)), @"
        ada@example.com (verified)
        issuer      https://api.gitpod.io/idp
        subject     1c9a
        user.email  ada@example.com
        user.id     1c9a
        source      gitpod, generation 3, ends in 41 min
        verified    the issuer's token says so; its signature is checked by upstream,
                    not here
        workspace   acme-shop-x1y2z3 (the platform's word)
        ");
        insta::assert_snapshot!(at(Some(50)), @"
        ada@example.com (verified)
        issuer
          https://api.gitpod.io/idp
        subject
          1c9a
        user.email
          ada@example.com
        user.id
          1c9a
        source
          gitpod, generation 3, ends in 41 min
        verified
          the issuer's token says so; its signature is
          checked by upstream, not here
        workspace
          acme-shop-x1y2z3 (the platform's word)
        ");
    }

    #[test]
    fn other_tools_get_the_fields_of_status() {
        let status = crate::cli::status::tests::at_work();
        let whole = serde_json::to_value(&status).expect("JSON");
        let known = Known {
            workspace: status.workspace,
            principal: status.principal.expect("somebody"),
            credential: status.credential,
        };
        let known = serde_json::to_value(&known).expect("JSON");
        let fields = known.as_object().expect("an object");
        assert_eq!(fields.len(), 3);
        assert!(fields.iter().all(|(field, value)| whole[field] == *value));
    }

    #[test]
    fn every_format_carries_the_token() {
        let now = SystemTime::UNIX_EPOCH;
        assert_eq!(render("t", None, Format::Raw, now), "t");
        assert_eq!(
            render("t", Some(60.0), Format::Json, now),
            r#"{"expires_at":"1970-01-01T00:01:00Z","token":"t"}"#
        );
        assert!(
            render("t", Some(60.0), Format::ExecCredential, now)
                .contains(r#""expirationTimestamp":"1970-01-01T00:01:00Z""#)
        );
        assert_eq!(
            render("t", None, Format::OtelHeaders, now),
            r#"{"Authorization":"Bearer t"}"#
        );
    }
}
