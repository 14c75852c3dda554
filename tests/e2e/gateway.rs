//! Every program to an OpenTelemetry Collector that verifies tokens and writes what they say over what senders say.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};
use tagalong::{
    demo::issuer::{self, Issuer},
    otlp::Signal,
};

use super::{
    collector::Collector,
    output::{self, Arrived},
    sender::{COUNT, Sender},
    workspace::{self, Workspace},
};

/// Spans in the one request that is too large for a Collector.
const LARGE: usize = 1000;
const AUDIENCE: &str = "https://gateway.example.com";

#[tokio::test(flavor = "multi_thread")]
async fn every_item_arrives_once_under_the_name_that_the_gateway_verified() {
    let issuer = workspace::issuer().await;
    let collector = Collector::start(&issuer.url(), AUDIENCE);
    let senders = Sender::all();
    // Half of them by an agent that exports over HTTP, half by one that does so over gRPC.
    let agents = [
        ("http/protobuf", &collector.endpoints.http),
        ("grpc", &collector.endpoints.grpc),
    ];
    let agents = agents.map(|(protocol, endpoint)| {
        let settings = [
            ("TAGALONG_EXPORT_ENDPOINT", &*format!("http://{endpoint}")),
            ("TAGALONG_EXPORT_PROTOCOL", protocol),
            ("TAGALONG_IDENTITY_AUDIENCE", AUDIENCE),
        ];
        let workspace = Workspace::new(&issuer.url(), &settings);
        let endpoints = workspace.up();
        (workspace, endpoints)
    });
    let both = |number: usize| &agents[number % agents.len()];
    let running: Vec<_> = senders
        .iter()
        .enumerate()
        .map(|(number, sender)| sender.start(&both(number).0, &both(number).1))
        .collect();
    let mut direct = revoke(&issuer, &collector, agents.each_ref().map(|(workspace, _)| workspace)).await;
    for (_, endpoints) in &agents {
        send_large(&endpoints.http).await;
    }
    for program in running {
        program.finish();
    }
    // Past the agent, with the developer's own token: the gateway does not believe what it is told there either.
    let bearer = format!("Bearer {}", agents[0].0.tagalong(&["token"]).trim());
    assert_eq!(forge(&collector, Some(&bearer)).await, 200);
    direct += 1;
    let elsewhere = format!("Bearer {}", issuer.mint("https://elsewhere.example.com"));
    let expired = format!("Bearer {}", issuer.mint_with(AUDIENCE, Duration::ZERO));
    for refused in [Some(elsewhere.as_str()), Some(&expired), Some("Bearer forged"), None] {
        assert_eq!(forge(&collector, refused).await, 401);
    }

    for (number, (workspace, _)) in agents.iter().enumerate() {
        let theirs: Vec<_> = senders.iter().skip(number).step_by(agents.len()).collect();
        // The large request may still be on its way: it is taken apart until its parts are small enough.
        let status = workspace.wait(|status| status["spool"]["bytes"] == 0);
        balanced(&status, &theirs);
        // It drains before it stops, or says that it could not.
        workspace.tagalong(&["down", "--timeout", "20s"]);
    }
    let written = collector.stop();

    assert!(!written.contains("forged"));
    let services = output::read(&written);
    for sender in &senders {
        let arrived = services.get(&sender.service).expect(&sender.service);
        arrived_once(sender, arrived);
    }
    assert_eq!(services["direct"].spans.len(), direct);
    assert_eq!(services["large"].spans.len(), agents.len() * LARGE);
    assert!(
        services.contains_key("tagalong"),
        "the agent's own telemetry is there too"
    );
    named(&services);
    assert!(issuer.minted() >= 3, "{} tokens were minted", issuer.minted());
}

/// One request of 8 MiB. This Collector takes 4.
async fn send_large(endpoint: &str) {
    let spans: Vec<_> = (1..=LARGE)
        .map(|number| {
            let text = json!({ "stringValue": "x".repeat(8192) });
            json!({
                "traceId": format!("{number:032x}"),
                "spanId": format!("{number:016x}"),
                "attributes": [{ "key": "text", "value": text }],
            })
        })
        .collect();
    let service = json!({ "key": "service.name", "value": { "stringValue": "large" } });
    let request = json!({ "resourceSpans": [{
        "resource": { "attributes": [service] },
        "scopeSpans": [{ "spans": spans }],
    }]});
    assert_eq!(post(endpoint, &request, None).await, 200);
}

/// Makes every token that there is worthless until each agent had one refused, and so sent something again.
/// Returns how many requests it took to tell the gateway, which looks for a new key when a token names one.
async fn revoke(issuer: &Issuer, collector: &Collector, agents: [&Workspace; 2]) -> usize {
    let export = |status: &Value, name: &str| status["export"][name].as_u64().unwrap();
    let refused =
        |status: &Value| export(status, "unauthenticated_current") + export(status, "unauthenticated_stale") > 0;
    let mut requests = 0;
    for agent in agents {
        let mut status = agent.wait(|status| export(status, "delivered") > 100);
        while !refused(&status) {
            issuer.revoke_all().unwrap();
            let fresh = format!("Bearer {}", issuer.mint(AUDIENCE));
            assert_eq!(forge(collector, Some(&fresh)).await, 200);
            requests += 1;
            let delivered = export(&status, "delivered");
            status = agent.wait(|status| export(status, "delivered") > delivered);
        }
    }
    requests
}

fn arrived_once(sender: &Sender, arrived: &Arrived) {
    let service = &sender.service;
    assert_eq!(arrived.spans.len() as u64, sender.spans(), "{service}");
    assert_eq!(arrived.logs, sender.logs(), "{service}");
    let mut spans = arrived.spans.clone();
    spans.sort_unstable();
    spans.dedup();
    assert_eq!(spans.len(), arrived.spans.len(), "{service}: spans came twice");
    if sender.counts() {
        let all: Vec<u64> = (0..COUNT).collect();
        for numbers in [&arrived.span_numbers, &arrived.log_numbers] {
            let mut numbers = numbers.clone();
            numbers.sort_unstable();
            assert_eq!(numbers, all, "{service}");
        }
        assert_eq!(arrived.steps, COUNT as f64, "{service}");
    } else if sender.sends(Signal::Metrics) {
        assert_eq!(arrived.points, COUNT, "{service}");
    }
}

fn named(services: &BTreeMap<String, Arrived>) {
    let person = issuer::Config::default();
    let resources = services.values().flat_map(|arrived| &arrived.resources);
    for resource in resources {
        assert_eq!(resource["user.id"], person.user_id);
        assert_eq!(resource["user.email"], person.email);
        assert_eq!(resource["user.full_name"], person.name);
        assert_eq!(resource["workspace.id"], workspace::ID);
        assert!(resource["gateway.issuer"].starts_with("http://127.0.0.1:"));
    }
}

/// Nothing was refused on either side, and what senders were told to be accepted is what they sent.
fn balanced(status: &Value, senders: &[&Sender]) {
    for (signal, sent) in [
        (
            "traces",
            LARGE as u64 + senders.iter().map(|sender| sender.spans()).sum::<u64>(),
        ),
        ("logs", senders.iter().map(|sender| sender.logs()).sum()),
    ] {
        let books = &status["spool"]["books"][signal];
        let accepted = books["accepted"].as_u64().unwrap();
        // The agent's own spans are in the books too.
        assert!((sent..sent + 50).contains(&accepted), "{signal}: {sent} sent, {books}");
        assert_eq!(
            (&books["rejected"], &books["set_aside"]),
            (&0.into(), &0.into()),
            "{signal}"
        );
    }
}

/// One span in another's name; returns the HTTP status.
async fn forge(collector: &Collector, bearer: Option<&str>) -> u16 {
    let attribute = |key: &str, value: &str| json!({ "key": key, "value": { "stringValue": value } });
    let request = json!({ "resourceSpans": [{
        "resource": { "attributes": [
            attribute("service.name", "direct"),
            attribute("user.id", "forged"),
            attribute("user.email", "forged@example.com"),
            attribute("user.full_name", "forged"),
            attribute("workspace.id", "forged"),
        ]},
        "scopeSpans": [{ "spans": [{ "traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174" }] }],
    }]});
    post(&collector.endpoints.http, &request, bearer).await
}

async fn post(endpoint: &str, request: &Value, bearer: Option<&str>) -> u16 {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut post = client
        .post(format!("http://{endpoint}/v1/traces"))
        .header("content-type", "application/json")
        .body(request.to_string());
    if let Some(bearer) = bearer {
        post = post.header("authorization", bearer);
    }
    post.send().await.unwrap().status().as_u16()
}
