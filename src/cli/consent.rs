//! What a person is told when the agent first starts here: what is recorded, under which name, and where it is sent.
//!
//! Three lines, once; and once more when one of them changes, because somebody else may have changed it. They are no
//! question: a hook has nobody to answer it, and `TAGALONG_DISABLED=1` is the answer that every command understands.

use std::{fs, io, os::unix::fs::OpenOptionsExt};

use super::{Context, output};
use crate::{
    config::{Attributes, Credential},
    view::status::Principal,
};

/// Below the state directory: what was said last.
pub(super) const FILE: &str = "told";

/// The lines, if they have not been said here yet. Who is known yet makes no difference to whether they were.
pub(super) fn untold(context: &Context, principal: Option<&Principal>) -> Option<[String; 3]> {
    (!is_noted(context, FILE, &subject(context))).then(|| lines(context, principal))
}

/// Notes that they were said.
pub(super) fn told(context: &Context) {
    note(context, FILE, &subject(context));
}

/// Whether `text` is what was noted last in `file`, below the state directory.
pub(super) fn is_noted(context: &Context, file: &str, text: &str) -> bool {
    fs::read_to_string(context.loaded.config.dirs.state.join(file)).is_ok_and(|said| said == text)
}

/// Notes `text` there, once it was said. If that fails it is said again, which is the better mistake. A shell's profile
/// throws away what is said: then nobody was told, and the next command is the first that says it.
pub(super) fn note(context: &Context, file: &str, text: &str) {
    if is_thrown_away() || output::is_lost() {
        return;
    }
    let written = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(context.loaded.config.dirs.state.join(file))
        .and_then(|mut file| io::Write::write_all(&mut file, text.as_bytes()));
    if let Err(error) = written {
        tracing::debug!(%error, "that it was said is not noted");
    }
}

/// Whether standard output is the null device.
fn is_thrown_away() -> bool {
    let output = rustix::fs::fstat(io::stdout()).ok();
    let null = rustix::fs::stat("/dev/null").ok();
    output.zip(null).is_some_and(|(output, null)| {
        rustix::fs::FileType::from_raw_mode(output.st_mode) == rustix::fs::FileType::CharacterDevice
            && output.st_rdev == null.st_rdev
    })
}

/// What the lines depend on.
fn subject(context: &Context) -> String {
    let identity = &context.loaded.config.identity;
    let attributes = match identity.attributes {
        Attributes::Full => "full",
        Attributes::Pseudonym => "pseudonym",
        Attributes::None => "none",
    };
    [
        endpoint(context).unwrap_or("nowhere"),
        identity.credential.as_str(),
        attributes,
        "",
    ]
    .join("\n")
}

fn endpoint(context: &Context) -> Option<&str> {
    let export = context.loaded.config.export.as_ref()?;
    Some(export.endpoint.as_str())
}

fn lines(context: &Context, principal: Option<&Principal>) -> [String; 3] {
    [
        "recorded: what programs here send as OpenTelemetry data, and what you set up hooks for; nothing else"
            .to_owned(),
        format!("under: {}", name(context, principal)),
        match endpoint(context) {
            Some(endpoint) => {
                format!("sent to: {endpoint} (TAGALONG_DISABLED=1 stops it, `tagalong purge` deletes it here)")
            }
            None => {
                "sent to: nobody; it stays here (TAGALONG_DISABLED=1 stops it, `tagalong purge` deletes it)".to_owned()
            }
        },
    ]
}

fn name(context: &Context, principal: Option<&Principal>) -> String {
    let identity = &context.loaded.config.identity;
    match (identity.attributes, principal) {
        (Attributes::None, _) => "no name (identity.attributes = \"none\")".to_owned(),
        (Attributes::Pseudonym, _) => "a pseudonym (identity.attributes = \"pseudonym\")".to_owned(),
        (_, Some(principal)) => super::status::principal_line(principal),
        (_, None) if identity.credential == Credential::None => {
            "the name that the platform or this machine has for you".to_owned()
        }
        (_, None) => format!("the name that the {} credential says", identity.credential.as_str()),
    }
}
