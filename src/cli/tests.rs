//! What the command line says of itself, and that every failure says what to do and keeps its exit code.

use clap::CommandFactory;

use super::{
    context::{foreign, stuck},
    *,
};

/// Every command and what is below it, by the words that are typed, but those that are hidden.
fn commands() -> Vec<(String, clap::Command)> {
    fn below(prefix: &str, command: &clap::Command, found: &mut Vec<(String, clap::Command)>) {
        found.push((prefix.to_owned(), command.clone()));
        for command in command.get_subcommands().filter(|command| !command.is_hide_set()) {
            if command.get_name() != "help" {
                below(&format!("{prefix} {}", command.get_name()), command, found);
            }
        }
    }
    let mut root = Cli::command().term_width(80).version("0.0.0");
    root.build();
    let mut found = Vec::new();
    below("tagalong", &root, &mut found);
    found
}

/// After a change on purpose: `INSTA_UPDATE=always cargo test --lib cli::` writes them anew.
#[test]
fn the_help_of_every_command() {
    for (words, mut command) in commands() {
        let name = format!("help_{}", words.replace(' ', "_"));
        let help = command.render_help().to_string();
        insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true }, {
            insta::assert_snapshot!(name, help);
        });
    }
}

#[test]
fn help_says_something_of_every_command_and_every_option() {
    for (words, command) in commands() {
        assert!(command.get_about().is_some(), "{words}");
        for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
            let id = argument.get_id();
            assert!(argument.get_help().is_some(), "{words}: {id}");
        }
    }
}

#[test]
fn the_command_line_holds_together() {
    Cli::command().debug_assert();
}

#[test]
fn a_failure_says_what_happened_and_below_what_to_do() {
    let failure = Failure::new(Kind::NotRunning, "no agent runs for this workspace")
        .hint("start it with `tagalong up`")
        .hint("`tagalong doctor` says more");
    insta::assert_snapshot!(failure, @"
    tagalong: no agent runs for this workspace
      start it with `tagalong up`
      `tagalong doctor` says more
    ");
}

#[test]
fn exit_codes_are_stable() {
    let codes = [
        (Kind::Failed, 1),
        (Kind::Usage, 2),
        (Kind::NotRunning, 3),
        (Kind::NoCredential, 4),
        (Kind::Undelivered, 5),
    ];
    for (kind, code) in codes {
        assert_eq!(
            format!("{:?}", Failure::new(kind, "").exit_code()),
            format!("{:?}", ExitCode::from(code))
        );
    }
}

#[test]
fn a_socket_that_is_not_for_this_user_is_named_with_what_decides_where_it_is() {
    let socket = std::path::Path::new("/run/user/0/tagalong/01234567.sock");
    insta::assert_snapshot!(foreign(socket, &rustix::io::Errno::ACCESS.into()), @"
    tagalong: the control socket /run/user/0/tagalong/01234567.sock cannot be reached: Permission denied (os error 13)
      unset or correct XDG_RUNTIME_DIR: it names a directory of your own
      if it is right, somebody else made /run/user/0/tagalong, perhaps with sudo: remove that
    ");
}

#[test]
fn an_agent_that_says_nothing_is_named_with_the_way_to_end_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("mute.sock");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
    let failure = stuck(&socket, std::time::Duration::from_secs(2)).to_string();
    let failure = failure.replace(&format!("kill -9 {}", std::process::id()), "kill -9 PID");
    insta::assert_snapshot!(failure, @"
    tagalong: the agent did not answer within 2 s
      see `tagalong logs`; an agent that is stuck is safe to end with `kill -9 PID`: nothing that it accepted is lost
    ");
}
