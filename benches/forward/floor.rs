//! The floor as a process: what is left of an agent that looks at nothing. It takes requests, writes and syncs them
//! together, answers, and sends many in one; with the agent's libraries, threads and sizes.
//!
//! What it costs is the machine's and the libraries' share of the agent's figure, in the same minutes: nothing is
//! checked, redacted, stamped, counted, retried or read again after a crash. It is this executable, started again with
//! [`MODE`].

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fs::File;
use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tagalong::export::Config;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use url::Url;

/// The first argument that makes this executable the floor; the port and the upstream's URL follow.
pub const MODE: &str = "floor";

/// The file starts again from its beginning behind so many bytes.
const FILE: u64 = 16 << 20;

struct Append {
    bytes: Bytes,
    done: oneshot::Sender<()>,
}

/// Serves until it is killed.
pub fn run(port: &str, upstream: &str) {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime")
    };
    let (to_send, sent) = mpsc::unbounded_channel();
    let url = Url::parse(&format!("{upstream}/v1/traces")).expect("a URL");
    std::thread::spawn(move || runtime().block_on(send(sent, url)));
    let address = format!("127.0.0.1:{port}");
    let taking = std::thread::Builder::new().name("spool".to_owned()).spawn(move || {
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime(), take(address, to_send))
    });
    taking.expect("a thread").join().expect("it serves until it is killed");
}

async fn take(address: String, to_send: mpsc::UnboundedSender<Bytes>) {
    let listener = TcpListener::bind(address)
        .await
        .expect("the port was free a moment ago");
    let (append, appends) = mpsc::unbounded_channel();
    tokio::task::spawn_local(commit(appends, to_send));
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        let append = append.clone();
        tokio::task::spawn_local(async move {
            let service = service_fn(|request| answer(request, append.clone()));
            let mut connection = hyper::server::conn::http1::Builder::new();
            let _ = connection
                .max_buf_size(128 << 10)
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    append: mpsc::UnboundedSender<Append>,
) -> Result<Response<Empty<Bytes>>, Infallible> {
    if let Ok(body) = request.into_body().collect().await {
        let (done, synced) = oneshot::channel();
        let _ = append.send(Append {
            bytes: body.to_bytes(),
            done,
        });
        let _ = synced.await;
    }
    let response = Response::builder().header("content-type", "application/x-protobuf");
    Ok(response.body(Empty::new()).expect("a constant response is valid"))
}

/// As the agent's committer: all who came in one turn share a sync.
async fn commit(mut appends: mpsc::UnboundedReceiver<Append>, to_send: mpsc::UnboundedSender<Bytes>) {
    let file: File = tempfile::tempfile().expect("a temporary file");
    let mut at = 0;
    while let Some(first) = appends.recv().await {
        let mut all = vec![first];
        loop {
            let before = all.len();
            tokio::task::yield_now().await;
            while let Ok(append) = appends.try_recv() {
                all.push(append);
            }
            if all.len() == before {
                break;
            }
        }
        let slices: Vec<IoSlice<'_>> = all.iter().map(|append| IoSlice::new(&append.bytes)).collect();
        at += rustix::io::pwritev(&file, &slices, at).expect("the disk takes the bytes") as u64;
        file.sync_data().expect("the disk takes the bytes");
        if at > FILE {
            at = 0;
        }
        for append in all {
            let _ = append.done.send(());
            let _ = to_send.send(append.bytes);
        }
    }
}

/// One request after the other, each of as many bytes as the agent's, if they come in time.
async fn send(mut sent: mpsc::UnboundedReceiver<Bytes>, url: Url) {
    let agent = Config::new(url);
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    while let Some(first) = sent.recv().await {
        let (mut bytes, mut all) = (first.len(), VecDeque::from([first]));
        while bytes < agent.batch_bytes {
            let Ok(Some(next)) = timeout(agent.batch_delay, sent.recv()).await else {
                break;
            };
            bytes += next.len();
            all.push_back(next);
        }
        let body = reqwest::Body::wrap(Joined(all));
        let request = client
            .post(agent.endpoint.clone())
            .header("content-type", "application/x-protobuf")
            .body(body);
        let _ = request.send().await;
    }
}

/// Some bodies as one.
struct Joined(VecDeque<Bytes>);

impl http_body::Body for Joined {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.iter().map(|bytes| bytes.len() as u64).sum())
    }
}
