//! OTLP/JSON bodies to protobuf, within the byte budget (promise 2) and the size limit (R3).
//!
//! Text and protobuf are in memory together, so both are reserved. What comes out is bounded while it is written:
//! a list of numbers can take four times the bytes of its text. Long texts are transcoded off the runtime's workers,
//! which others wait for.

use bytes::Bytes;
use tokio::task;

use super::{
    answer::Refusal,
    body::{Held, Limits, Reserved},
};
use crate::otlp::{
    Signal,
    check::Malformed,
    json::{self, GROWTH},
};

/// From here on a text takes a millisecond or more, which is too long for a worker.
const LONG: usize = 256 * 1024;

/// The body as protobuf, with the reservation that it needs.
pub(super) async fn transcode(signal: Signal, held: Held, limits: &Limits) -> Result<Held, Refusal> {
    let Held {
        bytes: text,
        mut reserved,
    } = held;
    let limit = limits.max_request_bytes;
    // Keys and quotes are most of a usual text, so this is enough and to spare.
    let mut room = text.len().min(limit);
    loop {
        reserved.replace(limits, text.len() + room).await?;
        let written;
        (written, reserved) = write(signal, text.clone(), room, reserved).await;
        if let Some(bytes) = written.map_err(|error| Refusal::malformed(error.0))? {
            reserved.keep(bytes.len());
            return Ok(Held { bytes, reserved });
        }
        if room >= limit {
            return Err(Refusal::too_large(limit));
        }
        room = room.saturating_mul(GROWTH).min(limit);
    }
}

/// The reservation goes along: a thread finishes its text also where its sender hangs up.
async fn write(
    signal: Signal,
    text: Bytes,
    room: usize,
    reserved: Reserved,
) -> (Result<Option<Bytes>, Malformed>, Reserved) {
    let is_long = text.len() >= LONG;
    let write = move || (json::to_protobuf_within(signal, &text, room), reserved);
    if !is_long {
        return write();
    }
    let written = task::spawn_blocking(write).await;
    written.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

#[cfg(test)]
mod tests {
    use std::{pin::Pin, task::Poll};

    use http::StatusCode;

    use super::*;
    use crate::otlp::budget::Budget;

    /// A request of one histogram with so many buckets.
    fn buckets(count: usize) -> String {
        let zeros = vec!["0"; count].join(",");
        format!(
            r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"histogram":{{"dataPoints":[{{"bucketCounts":[{zeros}]}}]}}}}]}}]}}]}}"#
        )
    }

    async fn transcoded(text: &str, limits: &Limits) -> Result<Held, Refusal> {
        let body = http_body_util::Full::new(Bytes::copy_from_slice(text.as_bytes()));
        let held = Held::read(body, limits).await?;
        transcode(Signal::Metrics, held, limits).await
    }

    fn limits(max_request_bytes: usize) -> Limits {
        Limits {
            budget: Budget::new(16 << 20),
            max_request_bytes,
        }
    }

    #[tokio::test]
    async fn promise_2_what_grows_four_times_is_reserved_four_times() {
        for count in [1000, 500_000] {
            let limits = limits(16 << 20);
            let held = transcoded(&buckets(count), &limits).await.expect("a request");
            assert!((8 * count..8 * count + 100).contains(&held.bytes.len()));
            let rest = (16 << 20) - held.bytes.len();
            let free = |bytes| {
                let budget = limits.budget.clone();
                async move {
                    tokio::time::timeout(std::time::Duration::from_millis(1), budget.take(bytes))
                        .await
                        .is_ok()
                }
            };
            assert!(free(rest).await && !free(rest + 1).await);
        }
    }

    /// Polls once.
    async fn waits<F: Future>(mut future: Pin<&mut F>) -> bool {
        std::future::poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_pending())).await
    }

    #[test]
    fn promise_2_who_hangs_up_holds_budget_until_the_text_is_out_of_memory() {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().max_blocking_threads(1).build();
        runtime.expect("a runtime").block_on(async {
            let limits = limits(16 << 20);
            let (go_on, wait) = std::sync::mpsc::channel::<()>();
            let busy = task::spawn_blocking(move || wait.recv());
            let text = buckets(500_000);
            let mut begun = Box::pin(transcoded(&text, &limits));
            assert!(waits(begun.as_mut()).await);
            drop(begun);
            let mut all = std::pin::pin!(limits.budget.take(16 << 20));
            assert!(
                waits(all.as_mut()).await,
                "the text is there until a thread has seen it"
            );
            go_on.send(()).expect("it waits");
            drop(all.await);
            busy.await.expect("a thread").expect("told");
        });
    }

    #[tokio::test]
    async fn r3_a_text_within_the_limit_that_becomes_a_request_beyond_it_is_too_large() {
        for count in [10_000, 500_000] {
            let text = buckets(count);
            let refused = transcoded(&text, &limits(text.len() + 1000)).await;
            assert_eq!(
                refused.map(|_| ()).map_err(|refusal| refusal.http),
                Err(StatusCode::PAYLOAD_TOO_LARGE)
            );
            assert!(transcoded(&text, &limits(4 * text.len())).await.is_ok());
        }
    }

    #[tokio::test]
    async fn a_long_text_that_is_no_request_is_refused_as_a_short_one_is() {
        let text = buckets(500_000).replace("histogram", "gauge");
        let refused = transcoded(&text[..text.len() - 1], &limits(16 << 20)).await;
        assert_eq!(
            refused.map(|_| ()).map_err(|refusal| refusal.http),
            Err(StatusCode::BAD_REQUEST)
        );
    }
}
