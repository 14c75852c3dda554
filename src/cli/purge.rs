//! `tagalong purge`: the agent stopped, and everything that rests on this machine deleted and named.
//!
//! It deletes what it knows by name and nothing else, so a directory that was set to something shared loses only what is
//! ours. Settings that a person wrote, what `tagalong init` wrote, and the binary stay.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    Context, consent,
    context::{settings, wrong},
    failure::{Failure, Kind},
    login,
    screen::Screen,
    status::bytes_text,
};
use crate::{
    agent::{
        bridge,
        control::{self, Answer, Ask},
        turn::{self, Turn},
    },
    config::{Config, ConfigError, Credential, Locations},
    spool,
    workspace::Env,
};

/// Nothing is worth sending that is about to be deleted, but a batch under way may end.
const DRAIN: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(10);

/// Directly in a spool's directory, besides the owners' directories.
const IN_SPOOL: [&str; 4] = [spool::LOCK, "place", "ports.json", turn::FILE];
/// What else an owner's directory in a spool may be called, besides a principal's fingerprint: 32 hex digits.
const NOBODYS: &str = "nobody";
const PENDING: &str = "pending-";
/// Directly in the state directory, by what a person would call it.
const IN_STATE: [(&str, &str); 7] = [
    ("workspace-id", "the workspace's id"),
    ("pseudonym-key", "the key of pseudonyms"),
    (bridge::KEY_FILE, "the key for containers next to the workspace"),
    (consent::FILE, "the note of what you were told"),
    (login::TOLD, "the note that you were told to log in"),
    ("agent.log", "the agent's log"),
    ("agent.log.1", "the log before it"),
];
/// How drafts begin that a killed process has left.
const DRAFTS: [&str; 3] = [".workspace-id.", ".pseudonym-key.", ".siblings-key."];

/// One thing that rests here.
struct Thing {
    name: String,
    paths: Vec<PathBuf>,
    /// Deleted afterwards if nothing else is in it.
    holder: PathBuf,
}

pub(super) fn run(env: &Env, set: &[String], dry_run: bool) -> Result<(), Failure> {
    let files = Locations::of(env);
    let (loaded, errors) = settings(env, set, &files)?;
    if !errors.is_empty() {
        // The directories that were meant may be others than these.
        if !dry_run || errors.iter().any(ConfigError::may_hide_the_spool) {
            return Err(wrong(&errors));
        }
        remark!("{}", wrong(&errors).render(Screen::of_errors(env)));
    }
    let config = &loaded.config;
    let spools = spools(&config.spool.dir);
    let holders = [&config.dirs.state, &config.spool.dir, &config.dirs.runtime];
    for dir in holders.into_iter().chain(&spools) {
        look_into(dir)?;
    }
    if matches!(config.identity.credential, Credential::Login(_)) {
        log_out(env, set, dry_run);
    }
    // Until all is deleted: nobody is to accept anything into a spool that is about to go.
    let stopped = spools.iter().filter(|_| !dry_run).map(|spool| stop(config, spool));
    let _turns: Vec<Option<Turn>> = stopped.collect::<Result<_, _>>()?;
    let things = things(config, &spools);
    for thing in &things {
        let bytes: u64 = thing.paths.iter().map(|path| size(path)).sum();
        if !dry_run {
            delete(thing)?;
        }
        let verb = if dry_run { "would delete" } else { "deleted" };
        let holder = thing.holder.display();
        say!("{verb} {} in {holder} ({})", thing.name, bytes_text(bytes));
    }
    if things.is_empty() {
        say!("nothing of tagalong's rests here");
    }
    if !dry_run {
        // If nothing else is in them. What is above them may be anybody's.
        let _ = fs::remove_dir(&config.dirs.runtime);
        let _ = fs::remove_dir(&config.dirs.state);
    }
    for file in [files.user.as_ref(), Some(&files.system)].into_iter().flatten() {
        if file.exists() {
            say!("kept your settings in {}", file.display());
        }
    }
    Ok(())
}

/// Ends the login at the issuer and takes it out of the keyring. What cannot be reached keeps nothing else from going.
fn log_out(env: &Env, set: &[String], dry_run: bool) {
    if dry_run {
        return say!("would log out");
    }
    let done = Context::load(env.clone(), set.to_vec()).and_then(|context| login::logout(&context));
    if let Err(failure) = done {
        remark!("{failure}");
    }
}

/// The spool, and those that were begun beside it because it was copied from another workspace.
fn spools(dir: &Path) -> Vec<PathBuf> {
    let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let is_beside = |other: &str| {
        other
            .strip_prefix(&name)
            .and_then(|rest| rest.strip_prefix('-'))
            .is_some_and(|hash| is_hex(hash, 8))
    };
    let parent = dir.parent().unwrap_or(dir);
    let mut found: Vec<PathBuf> = names(parent)
        .into_iter()
        .filter(|other| *other == name || is_beside(other))
        .map(|other| parent.join(other))
        .filter(|path| spool::is_spool(path).unwrap_or(false))
        .collect();
    found.sort();
    found
}

/// Ends the agent of a spool and makes sure that none holds it, and that no other command starts one.
fn stop(config: &Config, spool: &Path) -> Result<Option<Turn>, Failure> {
    let turn = Turn::to_stop(spool);
    let socket = control::socket_path(&config.dirs.runtime, spool);
    let deadline = u64::try_from(DRAIN.as_millis()).expect("a moment fits");
    match control::ask(&socket, &Ask::Stop { deadline }, PATIENCE) {
        Ok(Answer::Left { bytes, absent }) if bytes + absent > 0 => {
            say!("stopped the agent; {} had not been sent", bytes_text(bytes + absent));
        }
        Ok(_) => say!("stopped the agent"),
        Err(_) => {}
    }
    let held = || {
        Failure::new(Kind::Failed, format!("an agent still holds {}", spool.display()))
            .hint("end it with `kill` (`tagalong status` has its pid where it is yours) and run `tagalong purge` again")
    };
    match fs::File::open(spool.join(spool::LOCK)) {
        Ok(lock) => lock.try_lock().map_err(|_| held())?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(unseen(spool, &error)),
    }
    Ok(turn)
}

fn things(config: &Config, spools: &[PathBuf]) -> Vec<Thing> {
    let mut things: Vec<Thing> = spools.iter().map(|dir| spool(dir)).collect();
    let state = &config.dirs.state;
    for (file, name) in IN_STATE {
        things.push(Thing {
            name: name.to_owned(),
            paths: vec![state.join(file)],
            holder: state.clone(),
        });
    }
    let drafts = names(state)
        .into_iter()
        .filter(|name| DRAFTS.iter().any(|draft| name.starts_with(draft)));
    things.push(Thing {
        name: "unfinished files".to_owned(),
        paths: drafts.map(|name| state.join(name)).collect(),
        holder: state.clone(),
    });
    things.push(runtime(&config.dirs.runtime));
    for thing in &mut things {
        thing.paths.retain(|path| path.symlink_metadata().is_ok());
    }
    things.retain(|thing| !thing.paths.is_empty());
    things
}

fn spool(dir: &Path) -> Thing {
    let is_ours = |name: &String| {
        let is_owners = name == NOBODYS || name.starts_with(PENDING) || is_hex(name, 32);
        // Of `place`, which a killed process has left.
        let is_draft = name.starts_with("place.") && name.ends_with(".tmp");
        IN_SPOOL.contains(&name.as_str()) || is_draft || is_owners && dir.join(name).is_dir()
    };
    let ours = names(dir).into_iter().filter(is_ours);
    let mut paths: Vec<PathBuf> = ours.map(|name| dir.join(name)).collect();
    // By the lock the next purge finds what this one did not come to.
    paths.sort_by_key(|path| !path.is_dir());
    Thing {
        name: "the spool and its history".to_owned(),
        paths,
        holder: dir.to_owned(),
    }
}

/// Sockets, locks and kept tokens. The directory is ours alone: its mode says so, or nothing in it is touched.
fn runtime(dir: &Path) -> Thing {
    let is_private = fs::metadata(dir)
        .is_ok_and(|metadata| metadata.mode() & 0o077 == 0 && metadata.uid() == rustix::process::geteuid().as_raw());
    let is_ours = |name: &String| {
        let is_socket = name.strip_suffix(".sock").is_some_and(|spool| is_hex(spool, 8));
        is_private && (is_socket || name.starts_with("login-"))
    };
    Thing {
        name: "sockets, locks and what was kept of a login".to_owned(),
        paths: names(dir)
            .into_iter()
            .filter(is_ours)
            .map(|name| dir.join(name))
            .collect(),
        holder: dir.to_owned(),
    }
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn delete(thing: &Thing) -> Result<(), Failure> {
    for path in &thing.paths {
        let deleted = if path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
            fs::remove_dir_all(path)
        } else {
            fs::remove_file(path)
        };
        match deleted {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(
                    Failure::new(Kind::Failed, format!("{} cannot be deleted: {error}", path.display()))
                        .hint("delete it by hand; what comes after it was not deleted either"),
                );
            }
            _ => {}
        }
    }
    let _ = fs::remove_dir(&thing.holder);
    Ok(())
}

/// Nothing is said to rest where nobody could look.
fn look_into(dir: &Path) -> Result<(), Failure> {
    match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(unseen(dir, &error)),
        _ => Ok(()),
    }
}

fn unseen(path: &Path, error: &io::Error) -> Failure {
    let message = format!("what rests in {} cannot be told: {error}", path.display());
    Failure::new(Kind::Failed, message).hint("run `tagalong purge` as the user whose it is; nothing was deleted")
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

/// In bytes, of all that is below a path.
fn size(path: &Path) -> u64 {
    match path.symlink_metadata() {
        Ok(metadata) if metadata.is_dir() => names(path).iter().map(|name| size(&path.join(name))).sum(),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_a_purge_that_broke_off_is_still_a_spool() {
        let dir = tempfile::tempdir().expect("a directory");
        for owner in ["0123456789abcdef0123456789abcdef", NOBODYS, "pending-s1"] {
            fs::create_dir(dir.path().join(owner)).expect("a directory");
        }
        for file in IN_SPOOL {
            fs::write(dir.path().join(file), "").expect("a file");
        }
        let order = spool(dir.path()).paths;
        let until_the_lock = order.iter().take_while(|path| !path.ends_with(spool::LOCK));
        assert_eq!(until_the_lock.filter(|path| path.is_dir()).count(), 3);
    }
}
