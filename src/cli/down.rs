//! `tagalong down`: drain within a deadline, stop, and tell what is left.

use std::time::Duration;

use super::{
    Context,
    failure::{Failure, Kind},
    login,
    status::{bytes_text, without_agent},
};
use crate::agent::{
    control::{Answer, Ask},
    turn::Turn,
};

pub(super) fn run(context: &Context, timeout: &str) -> Result<(), Failure> {
    let timeout = super::parse_duration(timeout)?;
    let deadline = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
    let turn = Turn::to_stop(&context.loaded.config.spool.dir);
    let mut status = super::status::fetch(context).ok();
    let sends = status.as_ref().is_some_and(|status| status.export.endpoint.is_some());
    let answer = match context.ask(&Ask::Stop { deadline }, timeout + Duration::from_secs(3)) {
        Err(failure) if failure.kind == Kind::NotRunning => {
            say!("no agent runs for this workspace");
            return Ok(());
        }
        answer => answer?,
    };
    drop(turn);
    match answer {
        Answer::Left { bytes: 0, .. } if !sends => {
            say!("stopped; no export.endpoint was set, so what was accepted is kept here and sent nowhere");
            Ok(())
        }
        Answer::Left { bytes: 0, absent } => {
            // Upstream may have refused some of it at the last moment.
            let set_aside = without_agent(context).spool.set_aside;
            say!("{}", sent(set_aside, absent));
            Ok(())
        }
        Answer::Left { bytes, absent } => {
            let left = left(bytes, absent);
            if let Some(status) = &mut status {
                login::ask_once(context, status);
            }
            let trouble = status.and_then(|status| status.credential.trouble.or(status.export.trouble));
            Err(match trouble {
                Some(trouble) => left.hint(format!("what kept them here: {trouble}")),
                None => left,
            })
        }
        Answer::Failed(reason) => Err(Failure::new(Kind::Failed, reason)
            .hint("run `tagalong down` again in a moment: another agent may be about to take its place")),
        _ => Err(super::unknown_answer()),
    }
}

/// Nothing is unsent of whoever is here. What upstream refused was not sent either.
fn sent(set_aside: u64, absent: u64) -> String {
    let mut text = "stopped; everything that was accepted has been sent".to_owned();
    let aside = match set_aside {
        0 => None,
        1 => Some("1 entry that is".to_owned()),
        entries => Some(format!("{entries} entries that are")),
    };
    let aside = aside.map(|aside| format!("{aside} set aside: `tagalong spool list` says why"));
    let absent = (absent > 0).then(|| of_others(absent));
    for exception in aside.into_iter().chain(absent) {
        text.push_str(&format!("\n  but for {exception}"));
    }
    text
}

/// What is unsent, of whoever is here and of those who are not.
fn left(bytes: u64, absent: u64) -> Failure {
    let bytes = bytes_text(bytes);
    let left = Failure::new(
        Kind::Undelivered,
        format!("stopped, with {bytes} of telemetry left in the spool"),
    )
    .hint("the next `tagalong up` in this workspace sends them");
    match absent {
        0 => left,
        absent => left.hint(format!("beside that, {}", of_others(absent))),
    }
}

fn of_others(absent: u64) -> String {
    let bytes = bytes_text(absent);
    format!("{bytes} of earlier starts and of others here: they wait for a start under their name")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_refused_and_what_is_of_others_is_not_said_to_be_sent() {
        insta::assert_snapshot!(sent(0, 0), @"stopped; everything that was accepted has been sent");
        insta::assert_snapshot!(sent(1, 0), @"
        stopped; everything that was accepted has been sent
          but for 1 entry that is set aside: `tagalong spool list` says why
        ");
        insta::assert_snapshot!(sent(27, 12_000), @"
        stopped; everything that was accepted has been sent
          but for 27 entries that are set aside: `tagalong spool list` says why
          but for 11 KiB of earlier starts and of others here: they wait for a start under their name
        ");
    }

    #[test]
    fn what_is_left_is_said_in_the_sizes_of_status_and_what_others_left_with_it() {
        insta::assert_snapshot!(left(3_500_000, 0), @"
        tagalong: stopped, with 3.3 MiB of telemetry left in the spool
          the next `tagalong up` in this workspace sends them
        ");
        insta::assert_snapshot!(left(700, 12_000), @"
        tagalong: stopped, with 700 B of telemetry left in the spool
          the next `tagalong up` in this workspace sends them
          beside that, 11 KiB of earlier starts and of others here: they wait for a start under their name
        ");
    }
}
