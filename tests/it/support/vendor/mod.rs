//! Services that give tokens to workloads, each as its vendor documents it: one file a vendor, named with the document.
//!
//! A double refuses what the document does not allow, so a request that is answered is one that the vendor would take.
//! Any of them can be told to misbehave in the ways that the real ones have been seen to.

pub mod azure_devops;
pub mod azure_metadata;
pub mod github_actions;
pub mod google;
pub mod issuer;
pub mod okta;
pub mod ona;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use base64::Engine;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Stands in every secret that a double knows or gives: none of it may turn up in an error or a log.
pub const CANARY: &str = "canary";

/// One request, taken apart.
#[derive(Clone, Debug, Default)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub query: BTreeMap<String, String>,
    /// Lower-case names.
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

/// What a vendor answers.
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
}

/// What goes wrong.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Mood {
    /// As documented.
    #[default]
    Well,
    /// Nothing but a status.
    Status(u16),
    /// A status with `Retry-After`.
    Busy(u16, String),
    /// A captive portal's page, with 200.
    Page,
    /// Somewhere else, with 307: a client that follows sends everything again.
    Redirects(String),
    /// A megabyte.
    Endless,
    /// Takes the request and says nothing.
    Silent,
    /// JSON with a text of its own, and no token.
    Chatty,
    /// The documented answer with members replaced or, with null, taken out.
    But(Value),
}

type Vendor = dyn Fn(&Request) -> Reply + Send + Sync;

/// A vendor's service on loopback.
pub struct Service {
    pub origin: String,
    asked: Arc<Mutex<Vec<Request>>>,
    mood: Arc<Mutex<Mood>>,
    task: tokio::task::JoinHandle<()>,
}

impl Service {
    pub async fn start(vendor: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Service {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let origin = format!("http://{}", listener.local_addr().expect("an address"));
        let (asked, mood) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Mood::Well)));
        let (seen, moods, vendor): (_, _, Arc<Vendor>) = (asked.clone(), mood.clone(), Arc::new(vendor));
        let task = tokio::spawn(async move {
            // Connections that are kept waiting stay open until the service ends.
            let mut waiting = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                let mood = moods.lock().expect("nobody panicked").clone();
                waiting.extend(serve(stream, &seen, &mood, &*vendor).await);
            }
        });
        Service {
            origin,
            asked,
            mood,
            task,
        }
    }

    pub fn set(&self, mood: Mood) {
        *self.mood.lock().expect("nobody panicked") = mood;
    }

    /// Every request so far.
    pub fn asked(&self) -> Vec<Request> {
        self.asked.lock().expect("nobody panicked").clone()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Request {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    pub fn parameter(&self, name: &str) -> &str {
        self.query.get(name).map_or("", String::as_str)
    }

    /// A form's fields; a field that is sent twice shows as both (RFC 6749 section 3.2 forbids it).
    pub fn form(&self) -> BTreeMap<String, String> {
        let mut fields: BTreeMap<String, String> = BTreeMap::new();
        for (name, value) in url::form_urlencoded::parse(self.body.as_bytes()).into_owned() {
            fields
                .entry(name)
                .and_modify(|already| already.push_str(&format!(" AND {value}")))
                .or_insert(value);
        }
        fields
    }

    fn read(bytes: &[u8]) -> Option<Request> {
        let mut slots = [httparse::EMPTY_HEADER; 64];
        let mut head = httparse::Request::new(&mut slots);
        let httparse::Status::Complete(length) = head.parse(bytes).ok()? else {
            return None;
        };
        let headers: BTreeMap<String, String> = head
            .headers
            .iter()
            .map(|header| {
                let value = String::from_utf8_lossy(header.value).into_owned();
                (header.name.to_ascii_lowercase(), value)
            })
            .collect();
        let announced = headers.get("content-length").map_or(0, |n| n.parse().unwrap_or(0));
        let body = bytes.get(length..length + announced)?;
        let url = url::Url::parse("http://x").ok()?.join(head.path?).ok()?;
        Some(Request {
            method: head.method?.to_owned(),
            path: url.path().to_owned(),
            query: url.query_pairs().into_owned().collect(),
            headers,
            body: String::from_utf8_lossy(body).into_owned(),
        })
    }
}

impl Reply {
    pub fn json(status: u16, body: &Value) -> Reply {
        Reply {
            status,
            headers: vec![("Content-Type", "application/json".to_owned())],
            body: body.to_string(),
        }
    }

    pub fn text(status: u16, body: impl Into<String>) -> Reply {
        Reply {
            status,
            headers: Vec::new(),
            body: body.into(),
        }
    }
}

/// Answers one request; gives the connection back where it is to be kept waiting.
async fn serve(mut stream: TcpStream, seen: &Mutex<Vec<Request>>, mood: &Mood, vendor: &Vendor) -> Option<TcpStream> {
    let mut bytes = Vec::new();
    let request = loop {
        match Request::read(&bytes) {
            Some(request) => break request,
            None if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 => return None,
            None => {}
        }
    };
    let documented = vendor(&request);
    seen.lock().expect("nobody panicked").push(request);
    let reply = match mood {
        Mood::Well => documented,
        Mood::Status(status) => Reply::text(*status, format!("{CANARY}-body")),
        Mood::Busy(status, pause) => Reply {
            headers: vec![("Retry-After", pause.clone())],
            ..Reply::text(*status, format!("{CANARY}-body"))
        },
        Mood::Page => Reply {
            status: 200,
            headers: vec![("Content-Type", "text/html".to_owned())],
            body: format!("<html><{CANARY}-page></html>"),
        },
        Mood::Redirects(place) => Reply {
            status: 307,
            headers: vec![("Location", place.clone())],
            body: String::new(),
        },
        Mood::Endless => Reply::text(200, "x".repeat(1 << 20)),
        Mood::Silent => return Some(stream),
        Mood::Chatty => Reply::json(200, &json!({ "message": format!("{CANARY}-message") })),
        Mood::But(members) => Reply {
            body: replaced(&documented.body, members),
            ..documented
        },
    };
    let mut head = format!(
        "HTTP/1.1 {} x\r\nContent-Length: {}\r\n",
        reply.status,
        reply.body.len()
    );
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    // The client may have hung up over the size.
    let _ = stream
        .write_all((head + "Connection: close\r\n\r\n" + &reply.body).as_bytes())
        .await;
    let _ = stream.shutdown().await;
    None
}

fn replaced(body: &str, members: &Value) -> String {
    let mut object: Value = serde_json::from_str(body).expect("a documented answer in JSON");
    for (name, value) in members.as_object().expect("members") {
        let object = object.as_object_mut().expect("an object");
        match value {
            Value::Null => object.remove(name),
            value => object.insert(name.clone(), value.clone()),
        };
    }
    object.to_string()
}

/// `Retry-After` in both of its forms, and the seconds that each comes to. What asks for days gets minutes.
pub fn pauses() -> [(Mood, std::ops::RangeInclusive<u64>); 4] {
    let date =
        |seconds| httpdate::fmt_http_date(std::time::SystemTime::now() + std::time::Duration::from_secs(seconds));
    [
        (Mood::Busy(429, "77".to_owned()), 77..=77),
        // A second is lost in the rounding; what a busy machine takes until it asks counts, too.
        (Mood::Busy(503, date(240)), 100..=240),
        (Mood::Busy(503, "86400".to_owned()), 300..=300),
        (Mood::Busy(429, date(864_000)), 300..=300),
    ]
}

/// An unsigned token with these claims, from now on for an hour, unlike any other.
pub fn token(claims: Value) -> String {
    let encode = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970");
    let mut payload = json!({
        "iat": since.as_secs(), "exp": since.as_secs() + 3600, "jti": format!("{CANARY}-{}", since.as_nanos()),
    });
    for (name, value) in claims.as_object().expect("claims") {
        payload[name] = value.clone();
    }
    let signature = encode(&format!("{CANARY}-signature"));
    format!(
        "{}.{}.{signature}",
        encode(r#"{"alg":"RS256"}"#),
        encode(&payload.to_string())
    )
}

/// The claims of a token of ours.
pub fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).expect("three parts");
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(payload)
        .expect("base64url");
    serde_json::from_slice(&bytes).expect("JSON")
}
