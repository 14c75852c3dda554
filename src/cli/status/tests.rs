//! What a person reads, for each state.

use std::collections::BTreeMap;

use super::*;
use crate::{
    spool::Books,
    view::status::{Agent, Endpoints, Principal, Step, Workspace},
    workspace::Trust,
};

/// An agent at work, with everything as it should be.
pub(in crate::cli) fn at_work() -> Status {
    let books = Books {
        accepted: 1234,
        delivered: 1200,
        pending: 34,
        ..Books::default()
    };
    Status {
        agent: Some(Agent {
            version: "0.1.0".to_owned(),
            commit: None,
            pid: 4711,
            uptime: 3725,
            session_id: "00ff".to_owned(),
            endpoints: Endpoints {
                grpc: "127.0.0.1:4317".to_owned(),
                http: "127.0.0.1:4318".to_owned(),
                siblings: None,
                siblings_trouble: None,
            },
            stopping: false,
            moved: Vec::new(),
            ended: Vec::new(),
            config: "c0ffee".to_owned(),
        }),
        workspace: Workspace {
            platform: "gitpod".to_owned(),
            id: "acme-shop-x1y2z3".to_owned(),
            name: None,
            instance_id: None,
            url: None,
            prebuild: false,
            repository: None,
            reference: None,
            owner: None,
            trust: BTreeMap::from([("id".to_owned(), Trust::Platform)]),
        },
        principal: Some(Principal {
            issuer: "https://api.gitpod.io/idp".to_owned(),
            subject: "1c9a".to_owned(),
            attributes: BTreeMap::from([
                ("user.id".to_owned(), "1c9a".to_owned()),
                ("user.email".to_owned(), "ada@example.com".to_owned()),
            ]),
            trust: Trust::Verified,
        }),
        credential: Credential {
            source: "gitpod".to_owned(),
            state: State::Fresh,
            expires_in: Some(2500.0),
            generation: 3,
            rotations: 2,
            failures: 0,
            trouble: None,
            issuer: Some("https://api.gitpod.io/idp".to_owned()),
            audiences: vec!["https://otel.example.com".to_owned()],
            wanted_audience: Some("https://otel.example.com".to_owned()),
            reason: None,
            steps: Vec::new(),
            clock_skew: Some(0.0),
        },
        spool: Spool {
            dir: "/workspace/.tagalong/spool".to_owned(),
            bytes: 5000,
            max_bytes: 1 << 30,
            oldest_age: Some(2),
            set_aside: 0,
            set_aside_bytes: 0,
            books: BTreeMap::from([("traces".to_owned(), books)]),
            trouble: None,
            unadopted: None,
            full: Vec::new(),
        },
        export: Export {
            endpoint: Some("https://otel.example.com/".to_owned()),
            state: "sending".to_owned(),
            accepted: 1234,
            delivered: 1200,
            ..Export::default()
        },
    }
}

/// The same machine while no agent runs.
pub(in crate::cli) fn at_rest() -> Status {
    let mut status = at_work();
    status.agent = None;
    status.principal = None;
    status.credential = Credential {
        state: State::Stopped,
        expires_in: None,
        generation: 0,
        issuer: None,
        audiences: Vec::new(),
        clock_skew: None,
        ..status.credential
    };
    status.export.state = "off".to_owned();
    status
}

fn plain(status: &Status) -> String {
    render(status, Screen::default())
}

fn columns(status: &Status, width: usize) -> String {
    let screen = Screen {
        colours: false,
        width: Some(width),
    };
    let text = render(status, screen);
    let longest_word = text.split_whitespace().map(|word| word.chars().count()).max();
    let longest_line = text.lines().map(|line| line.trim_end().chars().count()).max();
    assert!(
        longest_line <= Some(width).max(longest_word.map(|word| word + 11)),
        "{text}"
    );
    text
}

#[test]
fn an_agent_at_work() {
    insta::assert_snapshot!(plain(&at_work()), @"
    agent      0.1.0, pid 4711, up 1 h 2 min
    listening  gRPC 127.0.0.1:4317, HTTP 127.0.0.1:4318
    workspace  acme-shop-x1y2z3 on gitpod (the platform's word)
    principal  ada@example.com (verified)
    credential gitpod, fresh, generation 3, ends in 41 min
    spool      4 KiB of 1.0 GiB unsent, the oldest 2 s old
               traces: 1234 accepted = 1200 delivered + 34 pending
    export     sending to https://otel.example.com/
    ");
}

#[test]
fn no_agent_shows_what_waits_on_disk() {
    insta::assert_snapshot!(plain(&at_rest()), @"
    agent      not running; start it with `tagalong up`
    workspace  acme-shop-x1y2z3 on gitpod (the platform's word)
    principal  known once the agent runs
    credential gitpod; the agent asks for it
    spool      4 KiB of 1.0 GiB unsent, the oldest 2 s old
               traces: 1234 accepted = 1200 delivered + 34 pending
    export     to https://otel.example.com/; 34 items wait for the next `tagalong up`
    ");
}

#[test]
fn no_agent_and_nothing_set_up() {
    let mut status = at_rest();
    status.workspace.platform = "local".to_owned();
    status.workspace.trust = BTreeMap::from([("id".to_owned(), Trust::Asserted)]);
    status.credential.source = "none".to_owned();
    status.spool = Spool {
        max_bytes: 1 << 30,
        ..Spool::default()
    };
    status.export = Export::default();
    insta::assert_snapshot!(plain(&status), @"
    agent      not running; start it with `tagalong up`
    workspace  acme-shop-x1y2z3 on local (asserted, not verified)
    principal  known once the agent runs
    credential none: upstream gets no token
    spool      0 B of 1.0 GiB unsent
    export     no export.endpoint is set: telemetry is kept here as a ring and sent nowhere
    ");
}

#[test]
fn no_agent_in_a_prebuild_is_as_it_should_be() {
    let mut status = at_rest();
    status.workspace.prebuild = true;
    let text = plain(&status);
    let first = text.lines().next().expect("a line");
    assert_eq!(
        first,
        "agent      not running: nothing is started in a prebuild, on purpose"
    );
}

#[test]
fn no_agent_and_a_spool_that_cannot_be_read() {
    let mut status = at_rest();
    status.spool.books.clear();
    status.spool.trouble = Some("/srv/spool cannot be read: Permission denied (os error 13)".to_owned());
    insta::assert_snapshot!(plain(&status), @"
    agent      not running; start it with `tagalong up`
    workspace  acme-shop-x1y2z3 on gitpod (the platform's word)
    principal  known once the agent runs
    credential gitpod; the agent asks for it
    spool      4 KiB of 1.0 GiB unsent, the oldest 2 s old
               /srv/spool cannot be read: Permission denied (os error 13)
    export     to https://otel.example.com/
    ");
}

#[test]
fn a_credential_that_ran_out() {
    let mut status = at_work();
    status.credential.state = State::Starved;
    status.credential.expires_in = Some(-3.0);
    status.credential.trouble = Some("the credential command failed (exit status: 1)".to_owned());
    status.export.state = "waiting".to_owned();
    insta::assert_snapshot!(plain(&status), @"
    agent      0.1.0, pid 4711, up 1 h 2 min
    listening  gRPC 127.0.0.1:4317, HTTP 127.0.0.1:4318
    workspace  acme-shop-x1y2z3 on gitpod (the platform's word)
    principal  ada@example.com (verified)
    credential gitpod, starved, generation 3, ended
               the credential command failed (exit status: 1)
    spool      4 KiB of 1.0 GiB unsent, the oldest 2 s old
               traces: 1234 accepted = 1200 delivered + 34 pending
    export     waiting for a credential, to send to https://otel.example.com/
    ");
}

#[test]
fn nobody_is_known_yet() {
    let mut status = at_work();
    status.principal = None;
    status.credential.state = State::Acquiring;
    status.credential.expires_in = None;
    status.credential.generation = 0;
    status.export.state = "waiting".to_owned();
    insta::assert_snapshot!(plain(&status), @"
    agent      0.1.0, pid 4711, up 1 h 2 min
    listening  gRPC 127.0.0.1:4317, HTTP 127.0.0.1:4318
    workspace  acme-shop-x1y2z3 on gitpod (the platform's word)
    principal  nobody yet: nothing leaves without a name
    credential gitpod, acquiring, none yet
    spool      4 KiB of 1.0 GiB unsent, the oldest 2 s old
               traces: 1234 accepted = 1200 delivered + 34 pending
    export     waiting for a credential, to send to https://otel.example.com/
    ");
}

#[test]
fn upstream_denies() {
    let mut status = at_work();
    status.credential.state = State::Denied;
    status.credential.trouble = Some("upstream knows the credential and forbids sending (403)".to_owned());
    status.export.state = "paused".to_owned();
    status.export.trouble = Some("HTTP 403: not in the group tracing".to_owned());
    status.export.next_attempt = Some(42);
    insta::assert_snapshot!(plain(&status), @"
    agent      0.1.0, pid 4711, up 1 h 2 min
    listening  gRPC 127.0.0.1:4317, HTTP 127.0.0.1:4318
    workspace  acme-shop-x1y2z3 on gitpod (the platform's word)
    principal  ada@example.com (verified)
    credential gitpod, denied, generation 3, ends in 41 min
               upstream knows the credential and forbids sending (403)
    spool      4 KiB of 1.0 GiB unsent, the oldest 2 s old
               traces: 1234 accepted = 1200 delivered + 34 pending
    export     paused; upstream is https://otel.example.com/
               HTTP 403: not in the group tracing
               tried again in 42 s
    ");
}

#[test]
fn a_spool_that_is_full() {
    let mut status = at_work();
    status.spool.bytes = status.spool.max_bytes;
    status.spool.oldest_age = Some(7200);
    status.export.state = "paused".to_owned();
    status.export.trouble = Some("connection refused".to_owned());
    insta::assert_snapshot!(plain(&status), @"
    agent      0.1.0, pid 4711, up 1 h 2 min
    listening  gRPC 127.0.0.1:4317, HTTP 127.0.0.1:4318
    workspace  acme-shop-x1y2z3 on gitpod (the platform's word)
    principal  ada@example.com (verified)
    credential gitpod, fresh, generation 3, ends in 41 min
    spool      1.0 GiB of 1.0 GiB unsent, the oldest 2 h 0 min old
               traces: 1234 accepted = 1200 delivered + 34 pending
               full: senders are told to come again
    export     paused; upstream is https://otel.example.com/
               connection refused
    ");
}

#[test]
fn a_spool_that_is_full_for_one_signal() {
    let mut status = at_work();
    status.spool.bytes = status.spool.max_bytes / 2;
    status.spool.full = vec!["traces".to_owned()];
    insta::assert_snapshot!(plain(&status), @"
    agent      0.1.0, pid 4711, up 1 h 2 min
    listening  gRPC 127.0.0.1:4317, HTTP 127.0.0.1:4318
    workspace  acme-shop-x1y2z3 on gitpod (the platform's word)
    principal  ada@example.com (verified)
    credential gitpod, fresh, generation 3, ends in 41 min
    spool      512.0 MiB of 1.0 GiB unsent, the oldest 2 s old
               traces: 1234 accepted = 1200 delivered + 34 pending
               full for traces, half of it at most: senders are told to come again; see `tagalong doctor`
    export     sending to https://otel.example.com/
    ");
}

#[test]
fn a_spool_that_is_full_of_what_upstream_refuses() {
    let mut status = at_work();
    let books = status.spool.books.entry("traces".to_owned()).or_default();
    (books.delivered, books.set_aside) = (0, 1200);
    (status.spool.set_aside, status.spool.set_aside_bytes) = (1200, 500 << 20);
    status.spool.full = vec!["traces".to_owned()];
    insta::assert_snapshot!(plain(&status), @"
    agent      0.1.0, pid 4711, up 1 h 2 min
    listening  gRPC 127.0.0.1:4317, HTTP 127.0.0.1:4318
    workspace  acme-shop-x1y2z3 on gitpod (the platform's word)
    principal  ada@example.com (verified)
    credential gitpod, fresh, generation 3, ends in 41 min
    spool      4 KiB of 1.0 GiB unsent, the oldest 2 s old
               traces: 1234 accepted = 1200 set aside or given up + 34 pending
               1200 entries set aside, 500.0 MiB: see `tagalong spool list`
               full for traces, half of it at most, with what is set aside: senders are told to come again; see `tagalong doctor`
    export     sending to https://otel.example.com/
    ");
    status.spool.set_aside_bytes = status.spool.max_bytes;
    let all = plain(&status);
    assert!(
        all.contains("  full, with what is set aside: senders are told to come again\n"),
        "{all}"
    );
}

#[test]
fn what_nobody_can_have_yet_is_said() {
    let mut status = at_work();
    status.spool.unadopted = Some("No space left on device (os error 28)".to_owned());
    let all = plain(&status);
    let said = "           what came before it was known who is here is not sent yet: No space left on device \
                (os error 28); it is tried again\n";
    assert!(all.contains(said), "{all}");
}

#[test]
fn a_disk_that_refuses() {
    let mut status = at_work();
    status.spool.trouble = Some("No space left on device (os error 28)".to_owned());
    insta::assert_snapshot!(plain(&status), @"
    agent      0.1.0, pid 4711, up 1 h 2 min
    listening  gRPC 127.0.0.1:4317, HTTP 127.0.0.1:4318
    workspace  acme-shop-x1y2z3 on gitpod (the platform's word)
    principal  ada@example.com (verified)
    credential gitpod, fresh, generation 3, ends in 41 min
    spool      4 KiB of 1.0 GiB unsent, the oldest 2 s old
               traces: 1234 accepted = 1200 delivered + 34 pending
               No space left on device (os error 28): senders are told to come again
    export     sending to https://otel.example.com/
    ");
}

#[test]
fn something_was_set_aside_and_a_signal_is_not_taken() {
    let mut status = at_work();
    let books = status.spool.books.entry("traces".to_owned()).or_default();
    (books.delivered, books.set_aside, books.rejected) = (1195, 3, 2);
    status.spool.books.insert("metrics".to_owned(), Books::default());
    (status.spool.set_aside, status.spool.set_aside_bytes) = (2, 12 << 10);
    status.export.not_taken = vec!["metrics".to_owned()];
    insta::assert_snapshot!(plain(&status), @"
    agent      0.1.0, pid 4711, up 1 h 2 min
    listening  gRPC 127.0.0.1:4317, HTTP 127.0.0.1:4318
    workspace  acme-shop-x1y2z3 on gitpod (the platform's word)
    principal  ada@example.com (verified)
    credential gitpod, fresh, generation 3, ends in 41 min
    spool      4 KiB of 1.0 GiB unsent, the oldest 2 s old
               metrics: 0 accepted
               traces: 1234 accepted = 1195 delivered + 2 rejected + 3 set aside or given up + 34 pending
               2 entries set aside, 12 KiB: see `tagalong spool list`
    export     sending to https://otel.example.com/
               upstream does not take metrics; they are kept here as a ring
    ");
}

#[test]
fn ports_that_were_taken_and_no_upstream() {
    let mut status = at_work();
    if let Some(agent) = &mut status.agent {
        agent.moved = vec![
            "127.0.0.1:4318 is held by otelcol (pid 99); listening on 127.0.0.1:40001 instead (`tagalong env` tells programs)"
                .to_owned(),
        ];
        agent.endpoints.http = "127.0.0.1:40001".to_owned();
    }
    status.credential.source = "none".to_owned();
    status.export = Export {
        state: "off".to_owned(),
        ..Export::default()
    };
    insta::assert_snapshot!(plain(&status), @"
    agent      0.1.0, pid 4711, up 1 h 2 min
    listening  gRPC 127.0.0.1:4317, HTTP 127.0.0.1:40001
               127.0.0.1:4318 is held by otelcol (pid 99); listening on 127.0.0.1:40001 instead (`tagalong env` tells programs)
    workspace  acme-shop-x1y2z3 on gitpod (the platform's word)
    principal  ada@example.com (verified)
    credential none: upstream gets no token
    spool      4 KiB of 1.0 GiB unsent, the oldest 2 s old
               traces: 1234 accepted = 1200 delivered + 34 pending
    export     no export.endpoint is set: what was accepted for one waits in the spool, and what comes now is sent nowhere
    ");
    status.spool.bytes = 0;
    let text = plain(&status);
    let last = text.lines().last().expect("a line");
    insta::assert_snapshot!(last, @"export     no export.endpoint is set: telemetry is kept here as a ring and sent nowhere");
}

#[test]
fn a_part_of_the_agent_that_is_not_there_any_more() {
    let mut status = at_work();
    if let Some(agent) = &mut status.agent {
        agent.ended = vec!["the export".to_owned()];
    }
    let text = plain(&status);
    let agent: Vec<&str> = text.lines().take(2).collect();
    insta::assert_snapshot!(agent.join("\n"), @"
    agent      0.1.0, pid 4711, up 1 h 2 min
               the export ended by a fault of tagalong: `tagalong up` replaces the agent, and loses nothing
    ");
}

#[test]
fn containers_that_cannot_send_though_they_are_wanted() {
    let mut status = at_work();
    if let Some(agent) = &mut status.agent {
        agent.endpoints.siblings_trouble =
            Some("containers next to this workspace cannot send (listen.siblings): no bridge is here".to_owned());
    }
    let text = plain(&status);
    let listening: Vec<&str> = text.lines().skip(1).take(2).collect();
    insta::assert_snapshot!(listening.join("\n"), @"
    listening  gRPC 127.0.0.1:4317, HTTP 127.0.0.1:4318
               containers next to this workspace cannot send (listen.siblings): no bridge is here
    ");
}

#[test]
fn eighty_columns() {
    let mut status = at_work();
    status.spool.books.entry("traces".to_owned()).or_default().rejected = 7;
    status.credential.trouble = Some(
        "no token from Gitpod: `gp` is not on the PATH; and over HTTP: the supervisor cannot be reached (no connection)"
            .to_owned(),
    );
    insta::assert_snapshot!(columns(&status, 80), @"
    agent      0.1.0, pid 4711, up 1 h 2 min
    listening  gRPC 127.0.0.1:4317, HTTP 127.0.0.1:4318
    workspace  acme-shop-x1y2z3 on gitpod (the platform's word)
    principal  ada@example.com (verified)
    credential gitpod, fresh, generation 3, ends in 41 min
               no token from Gitpod: `gp` is not on the PATH; and over HTTP: the
               supervisor cannot be reached (no connection)
    spool      4 KiB of 1.0 GiB unsent, the oldest 2 s old
               traces: 1234 accepted = 1200 delivered + 7 rejected + 34 pending
    export     sending to https://otel.example.com/
    ");
}

#[test]
fn forty_columns() {
    let mut status = at_work();
    status.credential.trouble = Some("the credential command failed (exit status: 1)".to_owned());
    insta::assert_snapshot!(columns(&status, 40), @"
    agent
      0.1.0, pid 4711, up 1 h 2 min
    listening
      gRPC 127.0.0.1:4317, HTTP
      127.0.0.1:4318
    workspace
      acme-shop-x1y2z3 on gitpod (the
      platform's word)
    principal
      ada@example.com (verified)
    credential
      gitpod, fresh, generation 3, ends in
      41 min
      the credential command failed (exit
      status: 1)
    spool
      4 KiB of 1.0 GiB unsent, the oldest 2
      s old
      traces: 1234 accepted = 1200 delivered
      + 34 pending
    export
      sending to https://otel.example.com/
    ");
}

#[test]
fn colours_only_where_they_are_wanted() {
    assert!(!plain(&at_work()).contains('\x1b'));
    let mut status = at_work();
    status.credential.state = State::Denied;
    status.export.state = "waiting".to_owned();
    let screen = Screen {
        colours: true,
        width: None,
    };
    insta::assert_snapshot!(render(&status, screen).replace('\x1b', "ESC"), @"
    ESC[1magent      ESC[0m0.1.0, pid 4711, up 1 h 2 min
    ESC[1mlistening  ESC[0mgRPC 127.0.0.1:4317, HTTP 127.0.0.1:4318
    ESC[1mworkspace  ESC[0macme-shop-x1y2z3 on gitpod (the platform's word)
    ESC[1mprincipal  ESC[0mada@example.com (verified)
    ESC[1mcredential ESC[0mESC[31mgitpod, denied, generation 3, ends in 41 minESC[0m
    ESC[1mspool      ESC[0m4 KiB of 1.0 GiB unsent, the oldest 2 s old
               traces: 1234 accepted = 1200 delivered + 34 pending
    ESC[1mexport     ESC[0mESC[33mwaiting for a credential, to send to https://otel.example.com/ESC[0m
    ");
}

/// What version 0.1.0 answered on the day that the contract began. It is not to be changed.
const FIRST: &str = r#"{"agent":{"version":"0.1.0","pid":1,"uptime":2,"session_id":"s","endpoints":{"grpc":"127.0.0.1:1",
"http":"127.0.0.1:2"},"moved":[],"config":"c"},"workspace":{"platform":"local","id":"w","name":null,"instance_id":null,
"url":null,"prebuild":false,"trust":{"id":"asserted"}},"principal":{"issuer":"os:h","subject":"u","attributes":{},
"trust":"asserted"},"credential":{"source":"none","state":"fresh","expires_in":null,"generation":1,"rotations":0,
"failures":0,"trouble":null},"spool":{"dir":"/s","bytes":0,"max_bytes":1,"oldest_age":null,"set_aside":0,"books":{
"traces":{"accepted":1,"delivered":1,"rejected":0,"set_aside":0,"expired":0,"pending":0}},"trouble":null},"export":{
"endpoint":null,"state":"off","trouble":null,"accepted":1,"delivered":1,"refused":0,"unauthenticated_current":0,
"unauthenticated_stale":0,"not_taken":[]}}"#;

#[test]
fn an_old_agent_is_still_understood_so_that_it_can_be_replaced() {
    let status: Status = serde_json::from_str(FIRST).expect("every field that was added since has a default");
    let agent = status.agent.expect("one runs");
    assert_eq!((agent.version.as_str(), agent.pid), ("0.1.0", 1));
}

#[test]
fn no_field_of_the_contract_is_ever_taken_away() {
    fn missing(old: &serde_json::Value, new: &serde_json::Value, path: &str, found: &mut Vec<String>) {
        let Some(old) = old.as_object() else { return };
        for (key, value) in old {
            match new.get(key) {
                Some(now) => missing(value, now, &format!("{path}.{key}"), found),
                None => found.push(format!("{path}.{key}")),
            }
        }
    }
    let old: serde_json::Value = serde_json::from_str(FIRST).expect("JSON");
    let new = serde_json::to_value(at_work()).expect("JSON");
    let mut found = Vec::new();
    missing(&old, &new, "status", &mut found);
    assert!(found.is_empty(), "{found:?}");
}

/// Whoever has the binary has the README, and need not have the sources.
#[test]
fn every_field_of_the_contract_is_in_the_readme() {
    fn fields(value: &serde_json::Value, found: &mut Vec<String>) {
        for (key, value) in value.as_object().into_iter().flatten() {
            found.push(key.clone());
            // What is below these is named by field, attribute and signal.
            match key.as_str() {
                "attributes" | "trust" => {}
                "books" => value
                    .as_object()
                    .into_iter()
                    .flatten()
                    .for_each(|(_, books)| fields(books, found)),
                _ => fields(value, found),
            }
        }
        value
            .as_array()
            .into_iter()
            .flatten()
            .for_each(|item| fields(item, found));
    }
    let readme = include_str!("../../../README.md");
    let section = readme.split_once("## For other tools").expect("a section").1;
    let mut status = at_work();
    status.credential.steps = vec![Step {
        name: String::new(),
        with: String::new(),
        trouble: None,
        not_granted: Vec::new(),
    }];
    let mut found = Vec::new();
    fields(&serde_json::to_value(&status).expect("JSON"), &mut found);
    assert!(found.len() > 50, "{found:?}");
    found.retain(|field| !section.contains(&format!("`{field}`")));
    assert!(found.is_empty(), "the README does not say what these are: {found:?}");
}
