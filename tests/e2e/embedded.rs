//! Every program to the demonstration's own upstream, which checks each bearer to the second.

use std::time::Duration;

use tagalong::{
    demo::upstream::{self, Upstream},
    otlp::Signal,
};

use super::{
    sender::Sender,
    workspace::{self, Workspace},
};

#[tokio::test(flavor = "multi_thread")]
async fn every_item_arrives_once_under_the_developers_name_while_tokens_rotate() {
    let issuer = workspace::issuer().await;
    let upstream = upstream::Config {
        issuer: Some(issuer.url()),
        audience: None,
    };
    let upstream = Upstream::start(upstream).await.unwrap();
    let workspace = Workspace::new(
        &issuer.url(),
        &[
            ("TAGALONG_EXPORT_ENDPOINT", &upstream.url()),
            ("TAGALONG_EXPORT_PROTOCOL", "grpc"),
        ],
    );
    let senders = Sender::all();

    // The workspace is there before its identity: what comes in now waits without a name.
    workspace.hang_gp();
    let endpoints = workspace.up();
    let running: Vec<_> = senders
        .iter()
        .map(|sender| sender.start(&workspace, &endpoints))
        .collect();
    let nameless = workspace.wait(|status| status["spool"]["books"]["logs"]["accepted"].as_u64() > Some(20));
    assert!(nameless["principal"].is_null(), "{nameless:#}");
    assert_eq!(upstream.look(|record| record.requests), 0);
    workspace.free_gp();
    for program in running {
        program.finish();
    }
    let all = upstream.wait(|record| {
        senders.iter().all(|sender| {
            record
                .services
                .get(&sender.service)
                .is_some_and(|items| items.spans >= sender.spans() && items.logs >= sender.logs())
        })
    });
    tokio::time::timeout(Duration::from_secs(30), all)
        .await
        .expect("every item arrives");
    let status = workspace.status();
    workspace.tagalong(&["down"]);

    upstream.look(|record| {
        for sender in &senders {
            let items = record.services[&sender.service];
            assert_eq!(
                (items.spans, items.logs),
                (sender.spans(), sender.logs()),
                "{}",
                sender.service
            );
            assert_eq!(items.points > 0, sender.sends(Signal::Metrics), "{}", sender.service);
        }
        assert_eq!((record.duplicates(), record.refused), (0, 0));
        assert!(record.tokens.len() >= 3, "{} tokens were used", record.tokens.len());
        for resource in &record.resources {
            assert_eq!(resource["workspace.id"], workspace::ID);
            assert_eq!(resource["workspace.platform"], "gitpod");
            assert_eq!(resource["user.email"], "ada@example.com");
            assert!(resource.values().all(|value| !value.contains("forged")), "{resource:?}");
        }
    });
    assert_eq!(
        (&status["export"]["refused"], &status["spool"]["set_aside"]),
        (&0.into(), &0.into())
    );
}
