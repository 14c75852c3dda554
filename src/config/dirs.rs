//! The directories that the agent uses, from the environment as a value.
//!
//! Nothing is made here: a prebuild must find no directory of ours afterwards.

use crate::workspace::{Env, Files, Platform};
use std::path::PathBuf;

/// All that outlives a stop of a Gitpod Classic workspace is below `/workspace`.
const GITPOD_HOME: &str = "/workspace/.tagalong";
const NAME: &str = "tagalong";

/// Where things are kept. Nothing says that any of these exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dirs {
    /// The user's `config.toml`.
    pub config: PathBuf,
    /// What lasts: the workspace id, the remembered ports, the log.
    pub state: PathBuf,
    /// What ends with the machine's run: the control socket, markers.
    pub runtime: PathBuf,
    /// The default of `spool.dir`.
    pub spool: PathBuf,
}

/// Where settings are read from; tests name files of their own.
#[derive(Clone, Debug)]
pub struct Locations {
    /// The machine's file, which alone may lock settings.
    pub system: PathBuf,
    /// The user's file; none if there is no home directory.
    pub user: Option<PathBuf>,
    /// Addresses that are known to be the agent's own besides those of `listen`: the ports that it really got, now or
    /// at its last start. An `OTEL_EXPORTER_OTLP_ENDPOINT` that leads there is no upstream.
    pub own: Vec<std::net::SocketAddr>,
    /// What detection may look at of this machine.
    pub machine: Files,
}

impl Dirs {
    /// The XDG directories (XDG Base Directory Specification 0.8: a relative path in a variable is ignored), and
    /// a directory for what lasts where the platform keeps another one than the home: `/workspace/.tagalong` on Gitpod
    /// Classic, and `.tagalong` in `PROJECTS_ROOT` on Che. `TAGALONG_HOME` replaces that. None if there is neither a home directory nor a replacement for it.
    pub fn resolve(env: &Env, platform: Platform) -> Option<Dirs> {
        let absolute = |name: &str| env.get(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let config = config_dir(env);
        let state = match (absolute("TAGALONG_HOME"), platform) {
            (Some(home), _) => home,
            (None, Platform::Gitpod) => PathBuf::from(GITPOD_HOME),
            (None, Platform::Che) if absolute("PROJECTS_ROOT").is_some() => {
                absolute("PROJECTS_ROOT")?.join(".tagalong")
            }
            (None, _) => absolute("XDG_STATE_HOME")
                .or_else(|| Some(home(env)?.join(".local/state")))?
                .join(NAME),
        };
        Some(Dirs {
            config: config.unwrap_or_else(|| state.join("config")),
            runtime: absolute("XDG_RUNTIME_DIR").map_or_else(|| state.join("run"), |runtime| runtime.join(NAME)),
            spool: state.join("spool"),
            state,
        })
    }
}

impl Locations {
    /// The places of this system: `/etc/tagalong/config.toml` and the user's.
    pub fn of(env: &Env) -> Locations {
        Locations {
            system: PathBuf::from("/etc").join(NAME).join("config.toml"),
            user: config_dir(env).map(|dir| dir.join("config.toml")),
            own: Vec::new(),
            machine: Files::system(),
        }
    }
}

fn config_dir(env: &Env) -> Option<PathBuf> {
    let xdg = env
        .get("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute());
    Some(xdg.or_else(|| Some(home(env)?.join(".config")))?.join(NAME))
}

/// `HOME`, else what the system's list of users says. A relative path is none: it would be another one in every checkout.
fn home(env: &Env) -> Option<PathBuf> {
    let named = env.get("HOME").map(PathBuf::from);
    let home = named.or_else(|| Some(directories::BaseDirs::new()?.home_dir().to_owned()))?;
    home.is_absolute().then_some(home)
}
