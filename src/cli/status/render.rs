//! The status as text. Pure: a status and a screen in, lines out.

use crate::{
    cli::screen::{Screen, Tone},
    identity::State,
    spool::Books,
    view::status::{Agent, Credential, Principal, Spool, Status, Workspace},
    workspace::Trust,
};

/// Columns that labels take.
const LABELS: usize = 11;
/// On a narrow screen, what stands below a label is indented by this.
const BELOW: usize = 2;

/// Lines, each with its label or below the last one.
struct Lines {
    screen: Screen,
    text: String,
}

impl Lines {
    fn add(&mut self, label: &str, text: &str) {
        self.toned(label, None, text);
    }

    fn toned(&mut self, label: &str, tone: Option<Tone>, text: &str) {
        let screen = self.screen;
        let indent = if screen.is_narrow() { BELOW } else { LABELS };
        let wrapped = screen.wrap(indent, text);
        let wrapped = tone.map_or(wrapped.clone(), |tone| screen.paint(tone, &wrapped));
        match (label, screen.is_narrow()) {
            ("", _) => self.text.extend(std::iter::repeat_n(' ', indent)),
            (label, false) => self
                .text
                .push_str(&screen.paint(Tone::Label, &format!("{label:<LABELS$}"))),
            (label, true) => {
                self.text.push_str(&screen.paint(Tone::Label, label));
                self.text.push('\n');
                self.text.extend(std::iter::repeat_n(' ', indent));
            }
        }
        self.text.push_str(&wrapped);
        self.text.push('\n');
    }

    /// A trouble, below the last label.
    fn trouble(&mut self, text: &str) {
        self.toned("", Some(Tone::Bad), text);
    }
}

/// The whole screen.
pub(super) fn render(status: &Status, screen: Screen) -> String {
    let mut lines = Lines {
        screen,
        text: String::new(),
    };
    agent(status, &mut lines);
    workspace(&status.workspace, &mut lines);
    match &status.principal {
        Some(principal) => lines.add("principal", &principal_line(principal)),
        None if status.agent.is_none() => lines.add("principal", "known once the agent runs"),
        None => lines.toned(
            "principal",
            Some(Tone::Notable),
            "nobody yet: nothing leaves without a name",
        ),
    }
    credential(status, &mut lines);
    spool(status, &mut lines);
    export(status, &mut lines);
    lines.text
}

fn agent(status: &Status, lines: &mut Lines) {
    let Some(agent) = &status.agent else {
        let text = match status.workspace.prebuild {
            true => "not running: nothing is started in a prebuild, on purpose",
            false => "not running; start it with `tagalong up`",
        };
        return lines.toned("agent", Some(Tone::Notable), text);
    };
    let uptime = duration_text(agent.uptime);
    let stopping = if agent.stopping { ", stopping" } else { "" };
    lines.add(
        "agent",
        &format!("{}, pid {}, up {uptime}{stopping}", agent.version, agent.pid),
    );
    if let Some(fault) = fault(agent) {
        lines.trouble(&format!("{fault}: {ANEW}"));
    }
    lines.add(
        "listening",
        &format!("gRPC {}, HTTP {}", agent.endpoints.grpc, agent.endpoints.http),
    );
    if let Some(siblings) = &agent.endpoints.siblings {
        lines.add("", &format!("{siblings} for containers next to it, with a key"));
    }
    if let Some(trouble) = &agent.endpoints.siblings_trouble {
        lines.trouble(trouble);
    }
    for moved in &agent.moved {
        lines.toned("", Some(Tone::Notable), moved);
    }
}

/// What helps against a [`fault`].
pub(in crate::cli) const ANEW: &str = "`tagalong up` replaces the agent, and loses nothing";

/// Which of the agent's parts are not there any more.
pub(in crate::cli) fn fault(agent: &Agent) -> Option<String> {
    let ended = (!agent.ended.is_empty()).then(|| agent.ended.join(" and "))?;
    Some(format!("{ended} ended by a fault of tagalong"))
}

fn workspace(workspace: &Workspace, lines: &mut Lines) {
    let prebuild = if workspace.prebuild { ", a prebuild" } else { "" };
    // Mostly the platform stands for both, and once is enough.
    let [id, platform] = ["id", "platform"].map(|field| workspace.trust.get(field));
    let both = platform.is_none() || id == platform;
    let place = match both {
        true => with_trust(
            workspace,
            "id",
            &format!("{} on {}{prebuild}", workspace.id, workspace.platform),
        ),
        false => format!("{}{prebuild}", with_trust(workspace, "id", &workspace.id)),
    };
    lines.add("workspace", &place);
    for (field, words, value) in facts(workspace).filter(|(field, ..)| !both || *field != "platform") {
        lines.add("", &format!("{words} {}", with_trust(workspace, field, value)));
    }
}

/// What is known of the workspace besides its id: the field, how it is introduced, and its value.
pub(in crate::cli) fn facts(workspace: &Workspace) -> impl Iterator<Item = (&'static str, &'static str, &str)> {
    let facts = [
        ("platform", "on", Some(&workspace.platform)),
        ("name", "called", workspace.name.as_ref()),
        ("instance_id", "start", workspace.instance_id.as_ref()),
        ("repository", "for", workspace.repository.as_ref()),
        ("reference", "made from", workspace.reference.as_ref()),
        ("owner", "created by", workspace.owner.as_ref()),
        ("url", "at", workspace.url.as_ref()),
    ];
    facts
        .into_iter()
        .filter_map(|(field, words, value)| Some((field, words, value?.as_str())))
}

/// A value, with how far it can be believed.
pub(in crate::cli) fn with_trust(workspace: &Workspace, field: &str, value: &str) -> String {
    match workspace.trust.get(field) {
        Some(trust) => format!("{value} ({})", trust_text(*trust)),
        None => value.to_owned(),
    }
}

fn credential(status: &Status, lines: &mut Lines) {
    let credential = &status.credential;
    let source = &credential.source;
    if status.agent.is_none() {
        let text = match source.as_str() {
            "none" => "none: upstream gets no token".to_owned(),
            source => format!("{source}; the agent asks for it"),
        };
        lines.add("credential", &text);
        return reason(credential, lines);
    }
    if source == "none" {
        lines.add("credential", "none: upstream gets no token");
    } else {
        let text = format!(
            "{source}, {}, {}",
            state_text(credential.state),
            expiry_text(credential)
        );
        lines.toned("credential", state_tone(credential.state), &text);
    }
    if let Some(trouble) = &credential.trouble {
        lines.trouble(trouble);
    }
    for step in credential.steps.iter().skip(1).filter(|step| step.trouble.is_none()) {
        lines.add("", &format!("exchanged: {}, {}", step.name, step.with));
    }
    reason(credential, lines);
}

fn reason(credential: &Credential, lines: &mut Lines) {
    if let Some(reason) = &credential.reason {
        lines.add("", reason);
    }
}

fn spool(status: &Status, lines: &mut Lines) {
    let Spool {
        bytes,
        max_bytes,
        oldest_age,
        set_aside,
        set_aside_bytes,
        books,
        trouble,
        unadopted,
        full,
        dir: _,
    } = &status.spool;
    let age = oldest_age.map_or(String::new(), |age| format!(", the oldest {} old", duration_text(age)));
    let is_nearly_full = status.spool.is_nearly_full();
    let is_full = is_nearly_full || !full.is_empty();
    let text = format!("{} of {} unsent{age}", bytes_text(*bytes), bytes_text(*max_bytes));
    lines.toned("spool", is_full.then_some(Tone::Bad), &text);
    for (signal, books) in books {
        lines.add("", &books_line(signal, books));
    }
    if *set_aside > 0 {
        let entries = if *set_aside == 1 { "entry" } else { "entries" };
        let size = bytes_text(*set_aside_bytes);
        let text = format!("{set_aside} {entries} set aside, {size}: see `tagalong spool list`");
        lines.toned("", Some(Tone::Notable), &text);
    }
    let aside = match status.spool.is_much_set_aside() {
        true => ", with what is set aside",
        false => "",
    };
    match trouble {
        Some(trouble) if status.agent.is_some() => lines.trouble(&format!("{trouble}: senders are told to come again")),
        Some(trouble) => lines.trouble(trouble),
        None if is_nearly_full => lines.trouble(&format!("full{aside}: senders are told to come again")),
        None if is_full => lines.trouble(&format!(
            "full for {}, half of it at most{aside}: senders are told to come again; see `tagalong doctor`",
            full.join(" and ")
        )),
        None => {}
    }
    if let Some(unadopted) = unadopted {
        lines.trouble(&format!("{NOT_ADOPTED}: {unadopted}; it is tried again"));
    }
}

/// What it means that something could not be adopted.
pub(in crate::cli) const NOT_ADOPTED: &str = "what came before it was known who is here is not sent yet";

fn export(status: &Status, lines: &mut Lines) {
    let export = &status.export;
    let Some(endpoint) = &export.endpoint else {
        return lines.toned("export", Some(Tone::Notable), nowhere(status));
    };
    if status.agent.is_none() {
        let waiting: u64 = status.spool.books.values().map(|books| books.pending).sum();
        let text = match waiting {
            _ if status.spool.trouble.is_some() => format!("to {endpoint}"),
            0 => format!("to {endpoint}; nothing waits"),
            1 => format!("to {endpoint}; 1 item waits for the next `tagalong up`"),
            items => format!("to {endpoint}; {items} items wait for the next `tagalong up`"),
        };
        return lines.add("export", &text);
    }
    let has_credential = status.credential.state.sends();
    let tone = match export.state.as_str() {
        "sending" => None,
        "waiting" if has_credential => None,
        "paused" => Some(Tone::Bad),
        _ => Some(Tone::Notable),
    };
    lines.toned("export", tone, &export_text(&export.state, has_credential, endpoint));
    if let Some(trouble) = &export.trouble {
        lines.trouble(trouble);
    }
    if let Some(seconds) = export.next_attempt {
        lines.add("", &format!("tried again in {}", duration_text(seconds)));
    }
    for signal in &export.not_taken {
        let text = format!("upstream does not take {signal}; they are kept here as a ring");
        lines.toned("", Some(Tone::Notable), &text);
    }
}

/// What becomes of telemetry while no upstream is set.
pub(in crate::cli) fn nowhere(status: &Status) -> &'static str {
    // A ring counts as nothing unsent.
    if status.agent.is_some() && status.spool.bytes > 0 {
        return "no export.endpoint is set: what was accepted for one waits in the spool, and what comes now is sent nowhere";
    }
    "no export.endpoint is set: telemetry is kept here as a ring and sent nowhere"
}

fn export_text(state: &str, has_credential: bool, endpoint: &str) -> String {
    match state {
        "sending" => format!("sending to {endpoint}"),
        "waiting" if has_credential => format!("ready to send to {endpoint}"),
        "waiting" => format!("waiting for a credential, to send to {endpoint}"),
        state => format!("{state}; upstream is {endpoint}"),
    }
}

/// `traces: 12 accepted = 10 delivered + 2 pending`: what is zero is left out, unless all is.
fn books_line(signal: &str, books: &Books) -> String {
    let terms = [
        (books.delivered, "delivered"),
        (books.rejected, "rejected"),
        // The books keep both as one: what is given up has left the spool as well.
        (books.set_aside, "set aside or given up"),
        (books.expired, "expired"),
        (books.pending, "pending"),
    ];
    let sum: Vec<String> = terms
        .iter()
        .filter(|(items, _)| *items > 0)
        .map(|(items, what)| format!("{items} {what}"))
        .collect();
    if sum.is_empty() {
        return format!("{signal}: {} accepted", books.accepted);
    }
    format!("{signal}: {} accepted = {}", books.accepted, sum.join(" + "))
}

/// Who, in one line, with how far that can be believed.
pub(in crate::cli) fn principal_line(principal: &Principal) -> String {
    format!("{} ({})", principal_name(principal), trust_text(principal.trust))
}

/// What people call them, as far as it is stamped.
pub(in crate::cli) fn principal_name(principal: &Principal) -> &str {
    ["user.email", "user.name", "user.id", "user.hash"]
        .iter()
        .find_map(|key| principal.attributes.get(*key))
        .unwrap_or(&principal.subject)
}

/// When the credential ends, in words.
pub(in crate::cli) fn expiry_text(credential: &Credential) -> String {
    let generation = credential.generation;
    match credential.expires_in {
        Some(seconds) if seconds > 0.0 => format!("generation {generation}, ends in {}", duration_text(seconds as u64)),
        Some(_) => format!("generation {generation}, ended"),
        None if generation > 0 => format!("generation {generation}, without an end"),
        None => "none yet".to_owned(),
    }
}

fn trust_text(trust: Trust) -> &'static str {
    match trust {
        Trust::Verified => "verified",
        Trust::Platform => "the platform's word",
        Trust::Asserted => "asserted, not verified",
    }
}

fn state_text(state: State) -> String {
    serde_json::to_value(state)
        .ok()
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_default()
}

fn state_tone(state: State) -> Option<Tone> {
    match state {
        State::Fresh | State::Refreshing => None,
        State::Boot | State::Acquiring | State::Degraded | State::Rejected => Some(Tone::Notable),
        State::Starved | State::Denied | State::NeedsUser | State::Stopped => Some(Tone::Bad),
    }
}

/// Seconds in words, as roughly as people say it.
pub(in crate::cli) fn duration_text(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// Bytes in words.
pub(in crate::cli) fn bytes_text(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{} KiB", bytes / 1024),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
        _ => format!("{:.1} GiB", bytes as f64 / 1_073_741_824.0),
    }
}
