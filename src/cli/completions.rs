//! `tagalong completions`: a script that completes what help shows, and nothing that help hides.

use clap::CommandFactory;

pub(super) fn run(shell: clap_complete::Shell) {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut visible(&super::Cli::command()), "tagalong", &mut script);
    super::print(format_args!("{}", String::from_utf8_lossy(&script)));
}

/// The generators take hidden commands along, so they get a command that has none.
fn visible(command: &clap::Command) -> clap::Command {
    let arguments = command.get_arguments().filter(|argument| !argument.is_hide_set());
    let commands = command.get_subcommands().filter(|command| !command.is_hide_set());
    let mut copy = clap::Command::new(command.get_name().to_owned())
        .args(arguments.cloned())
        .subcommands(commands.map(visible));
    if let Some(version) = command.get_version() {
        copy = copy.version(version.to_owned());
    }
    match command.get_about() {
        Some(about) => copy.about(about.clone()),
        None => copy,
    }
}
