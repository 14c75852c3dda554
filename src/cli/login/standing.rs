//! What `up`, `status` and `down` have to say of a login: that there is none, and once in a session what to do about it.
//! They ask nobody for anything.

use std::time::{Duration, Instant};

use super::{
    super::{consent, screen::Screen},
    Context, configured,
};
use crate::{
    agent::control::{Answer, Ask},
    identity::{State, source::refresh::LOG_IN},
    view::status::Status,
};

/// Below the state directory: the session in which somebody was told that nobody is logged in.
pub(in crate::cli) const TOLD: &str = "told-login";
/// The agent looks for its login at once; whoever starts it is not kept for one that takes longer.
const LOOKS: Duration = Duration::from_millis(40);
const PATIENCE: Duration = Duration::from_secs(5);

/// One line where the credential is a login and there is none, once in a session of the agent's.
pub(in crate::cli) fn say_if_nobody(context: &Context, status: &Status) {
    if configured(context).is_none() {
        return;
    }
    let Some(status) = settled(context, status) else {
        return;
    };
    let (Some(agent), State::NeedsUser) = (&status.agent, status.credential.state) else {
        return;
    };
    if consent::is_noted(context, TOLD, &agent.session_id) {
        return;
    }
    let trouble = status.credential.trouble.as_deref();
    let text = format!(
        "{}; until then what arrives waits in the spool",
        trouble.unwrap_or("nobody is logged in here: run `tagalong login`")
    );
    say!("  {}", Screen::of(&context.env).wrap(2, &text));
    consent::note(context, TOLD, &agent.session_id);
}

/// Takes what to do out of the trouble that is shown, if somebody was told in this session; that nobody is logged in
/// stays in it.
pub(in crate::cli) fn ask_once(context: &Context, status: &mut Status) {
    let (Some(agent), Some(trouble)) = (&status.agent, &mut status.credential.trouble) else {
        return;
    };
    if let Some(fact) = trouble.strip_suffix(LOG_IN)
        && consent::is_noted(context, TOLD, &agent.session_id)
    {
        *trouble = fact.trim_end_matches([' ', ':', ';']).to_owned();
    }
}

/// Notes that somebody was told in this session, once a status was shown that [`ask_once`] left as it was.
pub(in crate::cli) fn told(context: &Context, status: &Status) {
    let trouble = status.credential.trouble.as_deref();
    if let Some(agent) = &status.agent
        && trouble.is_some_and(|trouble| trouble.ends_with(LOG_IN))
    {
        consent::note(context, TOLD, &agent.session_id);
    }
}

/// The status once the agent has looked for its login; none if that takes longer than a hook may.
fn settled(context: &Context, status: &Status) -> Option<Status> {
    let began = Instant::now();
    let mut status = status.clone();
    while matches!(status.credential.state, State::Boot | State::Acquiring) {
        if began.elapsed() > LOOKS {
            return None;
        }
        match context.ask(&Ask::Status, PATIENCE) {
            Ok(Answer::Status(next)) => status = *next,
            _ => return None,
        }
    }
    Some(status)
}
