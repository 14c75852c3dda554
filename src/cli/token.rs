//! `tagalong token` and `tagalong whoami`: the current credential for other tools, and who it speaks for.

use std::time::{Duration, SystemTime};

use clap::ValueEnum;

use super::{
    Context,
    failure::{Failure, Kind},
};
use crate::agent::control::{Answer, Ask};

const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Format {
    /// The token alone
    Raw,
    /// The token with its expiry
    Json,
    /// Kubernetes' client.authentication.k8s.io/v1
    ExecCredential,
    /// A header object, as coding agents' header helpers expect it
    OtelHeaders,
}

pub fn run(context: &Context, format: Format) -> Result<(), Failure> {
    let Answer::Token {
        token,
        expires_in,
        principal: _,
    } = context.ask(&Ask::Token, PATIENCE)?
    else {
        return Err(Failure::new(
            Kind::Failed,
            "the agent gave an answer that this version does not know",
        ));
    };
    let Some(token) = token else {
        return Err(
            Failure::new(Kind::NoCredential, "there is no usable credential right now")
                .hint("`tagalong doctor` says which link is broken"),
        );
    };
    say!("{}", render(&token, expires_in, format, SystemTime::now()));
    Ok(())
}

fn render(token: &str, expires_in: Option<f64>, format: Format, now: SystemTime) -> String {
    let expiry = expires_in.map(|seconds| rfc3339(now + Duration::from_secs_f64(seconds.max(0.0))));
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

/// UTC, to the second (RFC 3339). The days are counted as Howard Hinnant's `civil_from_days` does.
fn rfc3339(time: SystemTime) -> String {
    let seconds = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_shifted + 2) / 5 + 1;
    let month = if month_shifted < 10 {
        month_shifted + 3
    } else {
        month_shifted - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}

pub fn whoami(context: &Context) -> Result<(), Failure> {
    let Answer::Status(status) = context.ask(&Ask::Status, PATIENCE)? else {
        return Err(Failure::new(
            Kind::Failed,
            "the agent gave an answer that this version does not know",
        ));
    };
    let Some(principal) = status.principal else {
        return Err(
            Failure::new(Kind::NoCredential, "nobody yet: no credential was obtained")
                .hint("`tagalong doctor` says which link is broken"),
        );
    };
    say!("{}", super::status::principal_line(&principal));
    say!("issuer   {}", principal.issuer);
    say!("subject  {}", principal.subject);
    for (key, value) in &principal.attributes {
        say!("{key}  {value}");
    }
    say!(
        "source   {}, {}",
        status.credential.source,
        super::status::expiry_text(&status.credential)
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_rfc_3339() {
        let at = |seconds| rfc3339(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01T00:00:00Z");
        assert_eq!(at(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(at(1_795_262_461), "2026-11-21T12:01:01Z");
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
