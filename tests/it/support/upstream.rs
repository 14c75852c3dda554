//! An upstream that answers as a test tells it to, over OTLP/HTTP and OTLP/gRPC on one port.
//!
//! It decodes with the generated OTLP types, not with our own reader, so that both cannot be wrong together.

use std::{
    io::{Read, Write},
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use tagalong::{
    demo::serve::{Body, Server},
    otlp::status,
};
use tokio::sync::{Semaphore, watch};

/// One request, as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    pub path: String,
    pub headers: HeaderMap,
    /// Without compression and framing.
    pub body: Bytes,
}

/// What to answer.
#[derive(Clone, Debug)]
pub enum Say {
    Ok,
    Partial {
        rejected: u64,
        message: &'static str,
    },
    /// An answer of HTTP's alone, also to a gRPC call.
    Http {
        status: u16,
        headers: Vec<(&'static str, String)>,
        body: Bytes,
    },
    /// A `google.rpc.Status`: over gRPC by trailers, over HTTP as the body under `http`.
    Status {
        http: u16,
        code: i32,
        message: &'static str,
        retry: Option<Duration>,
    },
    /// The same as a gRPC answer that has headers only.
    TrailersOnly {
        code: i32,
    },
    /// The connection is cut.
    Cut,
    /// Nothing, ever.
    Hang,
    /// That, with the next permit.
    Held(Arc<Semaphore>, Box<Say>),
}

/// How a request came, and so its answer goes.
#[derive(Clone, Copy)]
enum Over {
    Http,
    Grpc { gzip: bool },
}

type Script = Box<dyn FnMut(&Seen) -> Say + Send>;

/// A running double. Dropping it stops it.
pub struct Upstream {
    server: Server,
    shared: Arc<Shared>,
}

struct Shared {
    script: Mutex<Script>,
    seen: Mutex<Vec<Seen>>,
    news: watch::Sender<usize>,
}

impl Seen {
    pub fn is_grpc(&self) -> bool {
        self.header("content-type")
            .is_some_and(|value| value.starts_with("application/grpc"))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub fn bearer(&self) -> Option<&str> {
        self.header("authorization")?.strip_prefix("Bearer ")
    }

    pub fn traces(&self) -> ExportTraceServiceRequest {
        ExportTraceServiceRequest::decode(self.body.clone()).expect("a request of traces")
    }

    pub fn span_names(&self) -> Vec<String> {
        let scopes = self
            .traces()
            .resource_spans
            .into_iter()
            .flat_map(|resource| resource.scope_spans);
        scopes.flat_map(|scope| scope.spans).map(|span| span.name).collect()
    }

    pub fn has_span(&self, name: &str) -> bool {
        self.span_names().iter().any(|found| found == name)
    }

    pub fn is_of(&self, signal: &str) -> bool {
        self.path.to_ascii_lowercase().contains(signal)
    }
}

impl Upstream {
    /// Answers each request as `script` says.
    pub async fn start(script: impl FnMut(&Seen) -> Say + Send + 'static) -> Upstream {
        let shared = Arc::new(Shared {
            script: Mutex::new(Box::new(script)),
            seen: Mutex::default(),
            news: watch::Sender::new(0),
        });
        let handler = shared.clone();
        let server = Server::start(move |request| {
            let shared = handler.clone();
            Box::pin(async move { shared.handle(request).await })
        })
        .await
        .expect("a port on loopback");
        Upstream { server, shared }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.server.address())
    }

    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Answers by another script from now on.
    pub fn script(&self, script: impl FnMut(&Seen) -> Say + Send + 'static) {
        *self.shared.script.lock().expect("unpoisoned") = Box::new(script);
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().expect("unpoisoned").clone()
    }

    /// Waits until what came is as wanted.
    pub async fn wait(&self, mut wanted: impl FnMut(&[Seen]) -> bool) {
        let mut news = self.shared.news.subscribe();
        let waiting = async {
            while !wanted(&self.shared.seen.lock().expect("unpoisoned")) {
                news.changed().await.expect("the double is alive");
            }
        };
        tokio::time::timeout(Duration::from_secs(60), waiting)
            .await
            .expect("it comes within a minute");
    }

    pub fn kill(&self) {
        self.server.kill();
    }

    pub async fn recover(&self) {
        self.server.recover().await.expect("the same port again");
    }
}

impl Shared {
    async fn handle(&self, request: Request<Incoming>) -> Option<Response<Body>> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.ok()?.to_bytes();
        let mut seen = Seen {
            path: parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
            headers: parts.headers,
            body: Bytes::new(),
        };
        seen.body = if seen.is_grpc() {
            let message = body.slice(5..);
            if body[0] == 1 { gunzip(&message) } else { message }
        } else if seen.header("content-encoding") == Some("gzip") {
            gunzip(&body)
        } else {
            body
        };
        let over = match seen.is_grpc() {
            true => Over::Grpc {
                gzip: seen.header("grpc-encoding") == Some("gzip"),
            },
            false => Over::Http,
        };
        let say = (self.script.lock().expect("unpoisoned"))(&seen);
        self.seen.lock().expect("unpoisoned").push(seen);
        self.news.send_modify(|count| *count += 1);
        match say {
            Say::Hang => std::future::pending().await,
            Say::Held(permits, say) => {
                permits.acquire().await.expect("it is open").forget();
                answer(*say, over)
            }
            say => answer(say, over),
        }
    }
}

fn answer(say: Say, over: Over) -> Option<Response<Body>> {
    Some(match say {
        Say::Ok => success(status::Response::default(), over),
        Say::Partial { rejected, message } => success(
            status::Response {
                rejected,
                message: message.to_owned(),
            },
            over,
        ),
        Say::Http { status, headers, body } => {
            let mut response = Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(name, value);
            }
            response.body(Full::new(body).boxed_unsync()).expect("a response")
        }
        Say::Status {
            http,
            code,
            message,
            retry,
        } => {
            let status = status::Status {
                code,
                message: message.to_owned(),
                retry_delay: retry,
                bad_request: None,
            };
            if let Over::Grpc { .. } = over {
                let mut trailers = trailers(code);
                trailers.insert("grpc-message", HeaderValue::from_static(message));
                let details = base64::Engine::encode(&base64::prelude::BASE64_STANDARD_NO_PAD, status.to_protobuf());
                trailers.insert("grpc-status-details-bin", details.parse().expect("a header"));
                framed(None, false, trailers)
            } else {
                let mut response = Response::builder()
                    .status(http)
                    .header("content-type", "application/x-protobuf");
                if let Some(retry) = retry {
                    response = response.header("retry-after", retry.as_secs());
                }
                response
                    .body(Full::new(status.to_protobuf().into()).boxed_unsync())
                    .expect("a response")
            }
        }
        Say::TrailersOnly { code } => Response::builder()
            .header("content-type", "application/grpc")
            .header("grpc-status", code)
            .body(Full::new(Bytes::new()).boxed_unsync())
            .expect("a response"),
        Say::Cut | Say::Hang | Say::Held(..) => return None,
    })
}

fn success(response: status::Response, over: Over) -> Response<Body> {
    let message = response.to_protobuf();
    if let Over::Grpc { gzip } = over {
        return framed(Some(message), gzip, trailers(0));
    }
    Response::builder()
        .header("content-type", "application/x-protobuf")
        .body(Full::new(message.into()).boxed_unsync())
        .expect("a response")
}

fn trailers(code: i32) -> HeaderMap {
    HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), HeaderValue::from(code))])
}

/// As gRPC's library for Go does it: an answer names the compression of its request, and an empty message has none.
fn framed(message: Option<Vec<u8>>, gzip: bool, trailers: HeaderMap) -> Response<Body> {
    let mut frame = Vec::new();
    if let Some(mut message) = message {
        let compressed = gzip && !message.is_empty();
        if compressed {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(&message).expect("compressed");
            message = encoder.finish().expect("compressed");
        }
        frame.push(u8::from(compressed));
        frame.extend_from_slice(&(message.len() as u32).to_be_bytes());
        frame.extend_from_slice(&message);
    }
    let mut response = Response::builder().header("content-type", "application/grpc");
    if gzip {
        response = response.header("grpc-encoding", "gzip");
    }
    let body = Full::new(Bytes::from(frame)).with_trailers(async { Some(Ok(trailers)) });
    response.body(body.boxed_unsync()).expect("a response")
}

fn gunzip(body: &[u8]) -> Bytes {
    let mut out = Vec::new();
    flate2::read::GzDecoder::new(body).read_to_end(&mut out).expect("gzip");
    out.into()
}
