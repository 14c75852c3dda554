//! `tagalong login` and `tagalong logout`: a person logs in once, and the agent goes on by itself.
//!
//! What an endpoint says of its issuer (RFC 9728) is shown and confirmed before anything is done with it, and only
//! what was confirmed is written into the user's file. No browser is opened and nothing is asked twice. Where nobody
//! is at a terminal, it fails at once unless `--yes` says that somebody will look at the output.

use std::{
    io::{BufRead, IsTerminal},
    time::Duration,
};

use clap::Args;
use url::Url;

use super::{
    Context,
    failure::{Failure, Kind},
    up,
};
use crate::{
    agent::{
        self,
        control::{Answer, Ask, LoggedIn},
    },
    config::{Credential, edit},
    identity::{
        claims::Claims,
        client,
        clock::Clock,
        discovery::{Metadata, protected_resource},
        grant::Tokens,
        keep::{KeepError, Place, Shown},
        login::{App, browser::Browser, device::Device},
        secret::leave_no_core_file,
        source::refresh::{Flow, Session, minted},
        web,
    },
};

mod plan;
mod standing;

pub(super) use standing::{TOLD, ask_once, say_if_nobody};

/// The agent may revoke at the issuer before it answers.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Args, Debug)]
pub(super) struct Options {
    /// Where telemetry goes; it is written into your settings once you confirm
    endpoint: Option<String>,
    /// Log in with a code, in a browser that may be anywhere
    #[arg(long, conflicts_with = "browser")]
    device: bool,
    /// Log in with a browser on this machine
    #[arg(long)]
    browser: bool,
    /// Confirm everything beforehand
    #[arg(long, short)]
    yes: bool,
}

impl Options {
    fn flow(&self) -> Option<Flow> {
        match (self.device, self.browser) {
            (true, _) => Some(Flow::Device),
            (_, true) => Some(Flow::Browser),
            _ => None,
        }
    }
}

pub(super) fn run(context: Context, options: &Options) -> Result<(), Failure> {
    if context.workspace.prebuild {
        return Err(Failure::new(
            Kind::Usage,
            "this is a prebuild: whoever logged in here would be in every workspace that is made of it",
        ));
    }
    let is_attended = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    if !is_attended && !options.yes {
        return Err(Failure::new(Kind::Usage, "nobody is at a terminal here to log in")
            .hint("run `tagalong login` in a terminal, or add --yes if somebody reads the output"));
    }
    leave_no_core_file();
    let runtime = super::runtime()?;
    let plan = runtime.block_on(plan::make(&context, options))?;
    let context = confirm(context, &plan, options.yes)?;
    let config = &context.loaded.config;
    let session = agent::login_session(config, &context.workspace)
        .ok_or_else(|| Failure::new(Kind::Usage, "identity.credential is no login"))?;
    let place = runtime.block_on(where_it_rests(&session))?;
    if place == Place::Memory || context.ask(&Ask::Status, PATIENCE).is_ok() {
        // With the settings of the moment: the agent that runs may have others.
        up::start(&context, up::Options::logging_in())?;
    }
    let app = App {
        scopes: plan.scopes.clone(),
        ..session.app().clone()
    };
    let client = http_client(&context)?;
    let tokens = runtime.block_on(walk(&client, &plan.metadata, &app, session.flow()))?;
    if tokens.id.is_none() && app.scopes.iter().any(|scope| scope == "openid") {
        say!("The issuer gave no ID token, although openid was asked for: who you are is what its access token says.");
    }
    let whom = whom(&tokens, &app);
    let shown = app.choose(&tokens);
    runtime.block_on(hand_over(&context, &session, tokens, shown, place))?;
    say!("{whom}");
    Ok(())
}

/// Shows what will be done, asks if anything is to be written, writes it, and reads the settings again.
fn confirm(context: Context, plan: &plan::Plan, yes: bool) -> Result<Context, Failure> {
    super::print(format_args!("{plan}"));
    if plan.changes.is_empty() {
        return Ok(context);
    }
    let file = crate::config::Locations::of(&context.env)
        .user
        .ok_or_else(|| Failure::new(Kind::Usage, "there is no home directory to keep settings in"))?;
    say!("This is kept in {}.", file.display());
    if !yes {
        super::print(format_args!("Go on? [y/N] "));
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer)?;
        if !matches!(answer.trim(), "y" | "Y" | "yes") {
            return Err(Failure::new(Kind::Failed, "nothing was changed"));
        }
    }
    edit::set(&file, &plan.changes)?;
    let context = Context::load(context.env, context.set)?;
    plan.holds(&context)?;
    Ok(context)
}

/// Where the login will rest, said in words.
async fn where_it_rests(session: &Session) -> Result<Place, Failure> {
    let (place, why) = session.resting().place().await.map_err(|error| {
        Failure::new(Kind::NoCredential, error.to_string())
            .hint("identity.keep = \"auto\" takes the agent's memory where the keyring cannot be used")
    })?;
    match (place, why) {
        (Place::Keyring, _) => say!("The login will rest in the keyring."),
        (Place::File, _) => say!("The login will rest in {}.", session.resting().file().display()),
        (Place::Memory, why) => {
            let why = why.map_or(String::new(), |why: KeepError| format!("{why}. "));
            say!("{why}The login will be kept in the agent's memory, and ends with the agent.");
        }
    }
    Ok(place)
}

/// Shows a person where to go, and waits.
async fn walk(client: &reqwest::Client, metadata: &Metadata, app: &App, flow: Flow) -> Result<Tokens, Failure> {
    let failed = |error: crate::identity::login::LoginError| {
        Failure::new(Kind::NoCredential, error.to_string()).hint("nobody is logged in; run `tagalong login` again")
    };
    match flow {
        Flow::Device => {
            let device = Device::begin(client, metadata, app, &Clock::System)
                .await
                .map_err(failed)?;
            say!("\nOpen {}\nand enter the code {}\n", device.url, device.user_code);
            if let Some(picture) = picture(device.complete_url.as_ref().unwrap_or(&device.url)) {
                super::print(format_args!("{picture}\n"));
            }
            say!("Waiting; the code is good for {}.", minutes(device.lifetime));
            shown()?;
            device.wait(client, metadata, app, &Clock::System).await.map_err(failed)
        }
        Flow::Browser => {
            let browser = Browser::begin(metadata, app).await.map_err(failed)?;
            say!("\nOpen this in a browser on this machine:\n{}\n", browser.url);
            say!(
                "Waiting, {} at most.",
                minutes(crate::identity::login::browser::PATIENCE)
            );
            shown()?;
            browser.wait(client, metadata, app).await.map_err(failed)
        }
    }
}

/// Whoever cannot read where to go is not waited for.
fn shown() -> Result<(), Failure> {
    if super::output::is_lost() {
        let nobody = Failure::new(
            Kind::Failed,
            "nobody can read where to log in: standard output takes no more",
        );
        return Err(nobody.hint("run `tagalong login` in a terminal"));
    }
    Ok(())
}

/// For a terminal that is wide enough, and for nothing else: a pipe has no camera before it.
fn picture(url: &Url) -> Option<String> {
    let stdout = std::io::stdout();
    let columns = rustix::termios::tcgetwinsize(&stdout).ok()?.ws_col;
    super::qr::picture(url.as_str(), usize::from(columns))
}

/// The refresh token to its place, the first access token to the agent.
async fn hand_over(
    context: &Context,
    session: &Session,
    tokens: Tokens,
    shown: Shown,
    place: Place,
) -> Result<(), Failure> {
    let cannot = |error: String| Failure::new(Kind::Failed, error).hint("the login did not come into effect");
    let refresh = tokens.refresh.clone();
    if refresh.is_none() {
        say!("The issuer gave no refresh token, so the login ends with its first credential.");
        say!("Add \"offline_access\" to identity.scopes, if the issuer has it.");
        // The login before this one must not come back when that has ended.
        session.resting().forget().await;
    }
    let not_granted = tokens.not_granted(&session.app().scopes).unwrap_or_default();
    if !not_granted.is_empty() {
        let scopes = not_granted.join(", ");
        say!("The issuer did not grant {scopes}; `tagalong doctor` names the setting there.");
    }
    let minted = minted(tokens, shown, not_granted).map_err(|error| cannot(error.to_string()))?;
    let in_memory = place == Place::Memory || refresh.is_none();
    let brought = LoggedIn {
        refresh: refresh.as_ref().filter(|_| in_memory).map(Into::into),
        token: minted
            .token
            .as_ref()
            .map(Into::into)
            .ok_or_else(|| cannot("there is no token".to_owned()))?,
        lifetime: minted.lifetime.map(|lifetime| lifetime.as_secs_f64()),
        shows_id: shown == Shown::Id,
        not_granted: minted.not_granted.clone(),
    };
    if !in_memory {
        session
            .begin(refresh, shown, minted)
            .await
            .map_err(|error| cannot(error.to_string()))?;
    }
    match context.ask(&Ask::Login(Some(brought)), PATIENCE) {
        Ok(Answer::Done) => Ok(()),
        Ok(Answer::Failed(error)) => Err(cannot(error)),
        Ok(_) => Err(super::unknown_answer()),
        // It finds the login when it starts.
        Err(failure) if failure.kind == Kind::NotRunning && !in_memory => Ok(()),
        Err(failure) => Err(failure),
    }
}

fn whom(tokens: &Tokens, app: &App) -> String {
    let claims = |token: &crate::identity::secret::Secret| Claims::decode(token.expose())?.principal();
    let principal = tokens.id.as_ref().and_then(claims).or_else(|| claims(&tokens.access));
    let name = principal.and_then(|principal| {
        let of = |key: &str| principal.attributes.iter().find(|(name, _)| name == key);
        let (_, name) = of("user.email").or_else(|| of("user.name")).or_else(|| of("user.id"))?;
        Some(name.clone())
    });
    match name {
        Some(name) => format!("Logged in as {name} at {}.", app.issuer),
        None => format!("Logged in at {}.", app.issuer),
    }
}

pub(super) fn logout(context: &Context) -> Result<(), Failure> {
    let (was_in, revoked) = match context.ask(&Ask::Logout, PATIENCE) {
        Ok(Answer::LoggedOut { was_in, revoked }) => (was_in, revoked),
        Ok(Answer::Failed(error)) => return Err(Failure::new(Kind::Failed, error)),
        Ok(_) => return Err(super::unknown_answer()),
        Err(failure) if failure.kind == Kind::NotRunning => end_alone(context)?,
        Err(failure) => return Err(failure),
    };
    match (was_in, revoked) {
        (false, _) => say!("Nobody was logged in."),
        (true, true) => say!("Logged out: the issuer has revoked the login, and it is forgotten here."),
        (true, false) => {
            say!("Logged out: the login is forgotten here. The issuer did not confirm that it revoked it.");
        }
    }
    Ok(())
}

fn end_alone(context: &Context) -> Result<(bool, bool), Failure> {
    let config = &context.loaded.config;
    let Some(session) = agent::login_session(config, &context.workspace) else {
        let source = config.identity.credential.as_str();
        return Err(Failure::new(
            Kind::Usage,
            format!("nobody logs in here: identity.credential is \"{source}\""),
        ));
    };
    leave_no_core_file();
    let ca_file = config.export.as_ref().and_then(|export| export.ca_file.as_deref());
    let ended = super::runtime()?.block_on(session.end(ca_file));
    let revoked = ended.map_err(|error| Failure::new(Kind::Failed, error.to_string()))?;
    Ok((revoked.is_some(), revoked.unwrap_or(false)))
}

fn http_client(context: &Context) -> Result<reqwest::Client, Failure> {
    let export = context.loaded.config.export.as_ref();
    let ca_file = export.and_then(|export| export.ca_file.as_deref());
    if ca_file.is_none() && !client::has_authorities() {
        remark!("this machine has no CA certificates: install ca-certificates, or set export.ca_file");
    }
    web::client(ca_file).map_err(|error| Failure::new(Kind::Failed, error.to_string()).hint("correct export.ca_file"))
}

fn minutes(span: Duration) -> String {
    match span.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds => format!("{} min", seconds / 60),
    }
}

/// The login that is configured, if one is.
fn configured(context: &Context) -> Option<Flow> {
    match context.loaded.config.identity.credential {
        Credential::Login(flow) => Some(flow),
        _ => None,
    }
}
