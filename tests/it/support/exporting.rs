//! An exporter with its spool and its identity, in one place: what the stories about export start from.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, KeyValue, any_value::Value},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use prost::Message;
use tagalong::{
    export::{Config, Export, Protocol, Status, status},
    identity::{Principal, Receiver, Store, clock::Clock, secret::Secret},
    spool::{self, Books, Owner, Spool},
    workspace::Trust,
};
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

/// Long enough for every story; reached only when one fails.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Rig {
    pub spool: Spool,
    pub owner: Owner,
    pub store: Arc<Store>,
    pub identity: Receiver,
    /// Deleted with the rig.
    _dir: tempfile::TempDir,
}

pub struct Running {
    pub status: watch::Receiver<Status>,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

pub fn person(subject: &str) -> Principal {
    Principal {
        issuer: "https://issuer.example".to_owned(),
        subject: subject.to_owned(),
        attributes: vec![("user.id".to_owned(), subject.to_owned())],
        trust: Trust::Verified,
    }
}

pub fn token(text: &str) -> Option<Secret> {
    Some(Secret::new(text.to_owned()))
}

/// A request of traces with one resource and one span a name.
pub fn spans<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> Bytes {
    let spans = names
        .into_iter()
        .map(|name| Span {
            trace_id: vec![1; 16],
            span_id: vec![2; 8],
            name: name.as_ref().to_owned(),
            ..Span::default()
        })
        .collect();
    let claimed = KeyValue {
        key: "user.id".to_owned(),
        value: Some(AnyValue {
            value: Some(Value::StringValue("somebody else".to_owned())),
        }),
        ..KeyValue::default()
    };
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource {
                attributes: vec![claimed],
                ..Resource::default()
            }),
            scope_spans: vec![ScopeSpans {
                spans,
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    }
    .encode_to_vec()
    .into()
}

/// The defaults, but quicker to send.
pub fn config(endpoint: &str, protocol: Protocol) -> Config {
    Config {
        protocol,
        batch_delay: Duration::from_millis(20),
        ..Config::new(endpoint.parse().expect("a URL"))
    }
}

impl Rig {
    /// With one person whose first token is `first`.
    pub fn new() -> Rig {
        let dir = tempfile::tempdir().expect("a directory");
        let spool = Spool::open(spool::Config {
            dir: dir.path().to_owned(),
            max_bytes: 1 << 30,
            keep_bytes: 64 << 20,
            max_age: Duration::from_secs(3600),
            session: "session".to_owned(),
            place: "place".to_owned(),
        })
        .expect("a spool");
        let (store, identity) = Store::new("test", Clock::System);
        store.rotate(person("ada"), token("first"), None);
        Rig {
            spool,
            owner: Owner(person("ada").fingerprint()),
            store: Arc::new(store),
            identity,
            _dir: dir,
        }
    }

    pub async fn append(&self, lane: &'static str, items: u64, bytes: Bytes) {
        self.spool
            .append(&self.owner, lane, items, bytes)
            .await
            .expect("appended");
    }

    /// One record a span, all under few syncs.
    pub async fn append_spans<S: AsRef<str>>(&self, names: impl IntoIterator<Item = S>) {
        let mut appends = JoinSet::new();
        for name in names {
            let (spool, owner, bytes) = (self.spool.clone(), self.owner.clone(), spans([name]));
            appends.spawn(async move { spool.append(&owner, "traces", 1, bytes).await.expect("appended") });
        }
        appends.join_all().await;
    }

    pub fn run(&self, config: Config) -> Running {
        let export = Export::build(config).expect("an exporter");
        let shutdown = CancellationToken::new();
        Running {
            status: export.status(),
            shutdown: shutdown.clone(),
            task: tokio::spawn(export.run(self.spool.clone(), self.identity.clone(), shutdown)),
        }
    }

    pub fn books(&self, lane: &str) -> Books {
        let books: BTreeMap<String, Books> = self.spool.stats().books;
        let books = books.get(lane).cloned().unwrap_or_default();
        let known = books.delivered + books.rejected + books.set_aside + books.expired + books.pending;
        assert_eq!(books.accepted, known, "the books balance: {books:?}");
        books
    }
}

impl Running {
    /// Waits until the status is as wanted.
    pub async fn until(&mut self, wanted: impl FnMut(&Status) -> bool) -> Status {
        let waiting = self.status.wait_for(wanted);
        tokio::time::timeout(PATIENCE, waiting)
            .await
            .expect("it comes within a minute")
            .expect("the exporter runs")
            .clone()
    }

    /// Waits until upstream's trouble makes the exporter pause.
    pub async fn until_paused(&mut self) -> Status {
        self.until(|status| matches!(status.state, status::State::Paused { .. }))
            .await
    }

    /// Drains, and returns when the exporter does.
    pub async fn drain(self) {
        self.shutdown.cancel();
        tokio::time::timeout(PATIENCE, self.task)
            .await
            .expect("it ends")
            .expect("it does not panic");
    }
}
