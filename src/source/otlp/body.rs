//! A request's body in memory, under the byte budget (promise 2) and under the size limit (R2, R3).
//!
//! Bytes are reserved before they are read wherever their number is known: from `Content-Length`, or from the prefix of a gRPC message.
//! A body of unknown length reserves in growing steps.
//! Nobody waits for budget while holding some, or two half-read bodies could wait for each other:
//! a larger reservation is asked for after the smaller one was given back, so that for the time of the wait
//! what was read so far (64 KiB at the first step) is not accounted for.

use std::{pin::pin, time::Duration};

use bytes::Bytes;
use http_body::Body;
use http_body_util::BodyExt;
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, timeout},
};

use super::answer::Refusal;
use crate::otlp::budget::Budget;

/// How long a request waits for budget before its sender is told to come again; longer while the disk is busy, as all here.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long a sender may pause in the middle of a body. It would hold budget that others wait for.
const STALL: Duration = Duration::from_secs(10);

/// How long a sender is waited for in the middle of a body in all its pauses together, and for how many bytes that came a
/// second longer. The limit of a usual SDK for the whole request is ten seconds.
const STALLS: Duration = Duration::from_secs(60);
const LEAST_RATE: usize = 64 * 1024;

/// The first reservation for a body of unknown length; each further one is sixteen times as large.
const FIRST_STEP: usize = 64 * 1024;
const STEP_FACTOR: usize = 16;

/// A gRPC message's prefix: one byte that says whether it is compressed, four of length (gRPC over HTTP/2, "Length-Prefixed-Message").
const PREFIX: usize = 5;

/// What a request may take.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    pub(super) budget: Budget,
    /// In bytes, for the body as it was sent and for what comes out of it.
    pub(super) max_request_bytes: usize,
}

/// A body, and the part of the budget that it uses until it is dropped.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) bytes: Bytes,
    pub(super) reserved: Reserved,
}

/// A part of the budget.
#[derive(Debug)]
pub(super) struct Reserved {
    permit: Option<OwnedSemaphorePermit>,
    pub(super) bytes: usize,
}

/// One gRPC message.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) held: Held,
    pub(super) compressed: bool,
}

// === impl Reserved ===

impl Reserved {
    pub(super) async fn new(limits: &Limits, bytes: usize) -> Result<Reserved, Refusal> {
        let mut reserved = Reserved { permit: None, bytes: 0 };
        reserved.replace(limits, bytes).await?;
        Ok(reserved)
    }

    /// Gives back what is held and takes `bytes`, at most what one request may need.
    pub(super) async fn replace(&mut self, limits: &Limits, bytes: usize) -> Result<(), Refusal> {
        self.permit = None;
        self.bytes = bytes.min(limits.max_request_bytes);
        let permit = timeout(PATIENCE, limits.budget.take(self.bytes)).await;
        let permit = permit.map_err(|_| Refusal::later("too many requests are being received at once"))?;
        self.permit = Some(permit);
        Ok(())
    }

    /// Gives back all but `bytes`.
    pub(super) fn keep(&mut self, bytes: usize) {
        self.bytes = self.bytes.min(bytes);
        if let Some(permit) = &mut self.permit {
            drop(permit.split(permit.num_permits().saturating_sub(bytes)));
        }
    }

    /// Replaces the reservation by larger ones until `needed` bytes fit.
    pub(super) async fn grow(&mut self, limits: &Limits, needed: usize) -> Result<(), Refusal> {
        while self.bytes < needed {
            let step = self.bytes.max(FIRST_STEP).saturating_mul(STEP_FACTOR);
            self.replace(limits, step).await?;
        }
        Ok(())
    }
}

// === impl Held ===

impl Held {
    /// A whole HTTP body. One that arrives in one piece is not copied.
    pub(super) async fn read<B: Body<Data = Bytes>>(body: B, limits: &Limits) -> Result<Held, Refusal> {
        let mut body = pin!(body);
        let declared = body
            .size_hint()
            .exact()
            .map(|exact| usize::try_from(exact).unwrap_or(usize::MAX));
        let limit = limits.max_request_bytes;
        if declared.is_some_and(|declared| declared > limit) {
            return Err(Refusal::too_large(limit));
        }
        let mut reserved = Reserved::new(limits, declared.unwrap_or(FIRST_STEP)).await?;
        let mut pace = Pace::default();
        let Some(first) = pace.piece(&mut body).await? else {
            return Ok(Held {
                bytes: Bytes::new(),
                reserved,
            });
        };
        let mut all = Gathered::new(first, declared.unwrap_or(0));
        loop {
            if all.len() > limit {
                return Err(Refusal::too_large(limit));
            }
            reserved.grow(limits, all.len()).await?;
            if body.is_end_stream() {
                break;
            }
            match pace.piece(&mut body).await? {
                Some(next) => all.push(next),
                None => break,
            }
        }
        Ok(Held {
            bytes: all.finish(),
            reserved,
        })
    }
}

// === impl Message ===

impl Message {
    /// The one message of a unary call. An empty stream is refused, and so is a second message.
    pub(super) async fn read<B: Body<Data = Bytes>>(body: B, limits: &Limits) -> Result<Message, Refusal> {
        let mut body = pin!(body);
        let mut head = Gathered::default();
        let mut pace = Pace::default();
        while head.len() < PREFIX {
            let Some(next) = pace.piece(&mut body).await? else {
                return Err(Refusal::malformed("the call ended before its message was complete"));
            };
            head.push(next);
        }
        let head = head.finish();
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if head[0] > 1 {
            return Err(Refusal::malformed("the message's compression flag is neither 0 nor 1"));
        }
        if length > limits.max_request_bytes {
            return Err(Refusal::too_large(limits.max_request_bytes));
        }
        let reserved = Reserved::new(limits, length).await?;
        let mut all = Gathered::new(head.slice(PREFIX..), length);
        loop {
            if all.len() > length {
                return Err(Refusal::malformed("a unary call carries one message"));
            }
            if body.is_end_stream() {
                break;
            }
            match pace.piece(&mut body).await? {
                Some(next) => all.push(next),
                None => break,
            }
        }
        if all.len() < length {
            return Err(Refusal::malformed("the call ended before its message was complete"));
        }
        Ok(Message {
            held: Held {
                bytes: all.finish(),
                reserved,
            },
            compressed: head[0] == 1,
        })
    }
}

/// How fast a body comes.
#[derive(Default)]
struct Pace {
    waited: Duration,
    came: usize,
}

impl Pace {
    /// The next piece of data; trailers are of no interest.
    async fn piece<B: Body<Data = Bytes> + Unpin>(&mut self, body: &mut B) -> Result<Option<Bytes>, Refusal> {
        loop {
            let earned = Duration::from_secs((self.came / LEAST_RATE) as u64);
            let patience = (STALLS + earned).saturating_sub(self.waited).min(STALL);
            let asked = Instant::now();
            let frame = timeout(patience, body.frame()).await;
            // More than that is no pause of the sender's, but one of this thread's.
            self.waited += asked.elapsed().min(STALL);
            let frame =
                frame.map_err(|_| Refusal::later("the sender paused in the middle of its request, or is too slow"))?;
            match frame {
                None => return Ok(None),
                Some(Err(_)) => return Err(Refusal::malformed("the request broke off")),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if data.is_empty() => {}
                    Ok(data) => {
                        self.came += data.len();
                        return Ok(Some(data));
                    }
                    Err(_trailers) => {}
                },
            }
        }
    }
}

/// Pieces that become one; a single piece stays what it was.
#[derive(Default)]
struct Gathered {
    single: Bytes,
    joined: Vec<u8>,
    expected: usize,
}

impl Gathered {
    fn new(first: Bytes, expected: usize) -> Gathered {
        Gathered {
            single: first,
            joined: Vec::new(),
            expected,
        }
    }

    fn len(&self) -> usize {
        // One of the two is empty.
        self.single.len() + self.joined.len()
    }

    fn push(&mut self, next: Bytes) {
        if self.len() == 0 {
            self.single = next;
            return;
        }
        if self.joined.is_empty() {
            self.joined
                .reserve_exact(self.expected.max(self.single.len() + next.len()));
            self.joined.extend_from_slice(&self.single);
            self.single = Bytes::new();
        }
        self.joined.extend_from_slice(&next);
    }

    fn finish(self) -> Bytes {
        if self.joined.is_empty() {
            self.single
        } else {
            Bytes::from(self.joined.into_boxed_slice())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        pin::Pin,
        task::{Context, Poll},
    };

    use http::StatusCode;
    use http_body::Frame;
    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 1024 * 1024;

    /// A body of unknown length, which stops without an end if it is `stuck`.
    struct CutUp {
        left: std::vec::IntoIter<Vec<u8>>,
        stuck: bool,
    }

    impl Body for CutUp {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            match self.left.next() {
                None if self.stuck => Poll::Pending,
                next => Poll::Ready(next.map(|piece| Ok(Frame::data(Bytes::from(piece))))),
            }
        }
    }

    /// A body that comes in so many pieces, one each time.
    struct Drips {
        timer: tokio::time::Interval,
        bytes: usize,
        left: usize,
    }

    impl Drips {
        fn new(each: Duration, bytes: usize, pieces: usize) -> Drips {
            Drips {
                timer: tokio::time::interval_at(tokio::time::Instant::now() + each, each),
                bytes,
                left: pieces,
            }
        }
    }

    impl Body for Drips {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            if self.left == 0 {
                return Poll::Ready(None);
            }
            std::task::ready!(self.timer.poll_tick(context));
            self.left -= 1;
            Poll::Ready(Some(Ok(Frame::data(vec![1; self.bytes].into()))))
        }
    }

    fn pieces(all: Vec<Vec<u8>>) -> CutUp {
        CutUp {
            left: all.into_iter(),
            stuck: false,
        }
    }

    fn limits(budget: u32) -> Limits {
        Limits {
            budget: Budget::new(budget),
            max_request_bytes: LIMIT,
        }
    }

    /// Time is paused, so that waiting costs none.
    fn wait<T>(future: impl Future<Output = T>) -> T {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().start_paused(true).build();
        runtime.expect("a runtime").block_on(future)
    }

    #[test]
    fn a_body_in_one_piece_is_not_copied() {
        let whole = Bytes::from(vec![7; 1000]);
        let body = http_body_util::Full::new(whole.clone());
        let held = wait(Held::read(body, &limits(1 << 20))).expect("a body");
        assert_eq!(held.bytes.as_ptr(), whole.as_ptr());
        assert_eq!(held.reserved.bytes, 1000);
    }

    #[test]
    fn who_waits_too_long_for_budget_is_told_to_come_again() {
        wait(async {
            let limits = limits(1000);
            let others = limits.budget.take(1000).await;
            let refused = Held::read(http_body_util::Full::new(Bytes::from_static(b"x")), &limits).await;
            assert_eq!(refused.expect_err("no budget").http, StatusCode::SERVICE_UNAVAILABLE);
            drop(others);
            let taken = Held::read(http_body_util::Full::new(Bytes::from_static(b"x")), &limits).await;
            assert!(taken.is_ok());
        });
    }

    #[test]
    fn a_sender_that_stops_in_the_middle_does_not_keep_its_budget() {
        wait(async {
            let limits = limits(1000);
            let stuck = CutUp {
                left: vec![vec![1; 10]].into_iter(),
                stuck: true,
            };
            let refused = Held::read(stuck, &limits).await.expect_err("half a body");
            assert!(refused.retryable());
            let all = timeout(PATIENCE, limits.budget.take(1000)).await;
            assert!(all.is_ok(), "all of the budget is back");
        });
    }

    #[test]
    fn a_sender_that_drips_does_not_keep_its_budget() {
        for bytes in [0, 1] {
            wait(async {
                let limits = || Limits {
                    max_request_bytes: 64 << 20,
                    ..limits(1000)
                };
                let drips = || Drips::new(Duration::from_secs(9), bytes, usize::MAX);
                let within = Duration::from_secs(90);
                let body = timeout(within, Held::read(drips(), &limits())).await;
                let message = timeout(within, Message::read(drips(), &limits())).await;
                let body = body.expect("it is given up").expect_err("it drips");
                let message = message.expect("it is given up").expect_err("it drips");
                assert!(body.retryable() && message.retryable());
            });
        }
    }

    #[test]
    fn a_slow_sender_that_goes_on_is_waited_for() {
        wait(async {
            let limits = Limits {
                max_request_bytes: 64 << 20,
                ..limits(1000)
            };
            let slow = Drips::new(Duration::from_millis(900), 64 * 1024, 1024);
            let held = Held::read(slow, &limits).await.expect("a body");
            assert_eq!(held.bytes.len(), 64 << 20);
        });
    }

    #[test]
    fn bodies_of_unknown_length_that_outgrow_the_budget_do_not_wait_for_each_other() {
        wait(async {
            let limits = limits(200_000);
            let large = || Held::read(pieces(vec![vec![1; 50_000]; 10]), &limits);
            let (one, other) = tokio::join!(async { large().await.map(|held| held.bytes.len()) }, async {
                large().await.map(|held| held.bytes.len())
            });
            assert_eq!((one, other), (Ok(500_000), Ok(500_000)));
        });
    }

    proptest! {
        #[test]
        fn a_body_is_the_same_however_it_is_cut(body in prop::collection::vec(any::<u8>(), 0..400), cut in 1_usize..50) {
            let cut_up = pieces(body.chunks(cut).map(<[u8]>::to_vec).collect());
            let held = wait(Held::read(cut_up, &limits(1 << 20))).expect("a body");
            prop_assert_eq!(&held.bytes[..], &body[..]);
        }

        #[test]
        fn a_message_is_the_same_however_it_is_cut(message in prop::collection::vec(any::<u8>(), 0..400), cut in 1_usize..50) {
            let framed = [&[1][..], &(message.len() as u32).to_be_bytes(), &message].concat();
            let cut_up = pieces(framed.chunks(cut).map(<[u8]>::to_vec).collect());
            let read = wait(Message::read(cut_up, &limits(1 << 20))).expect("a message");
            prop_assert_eq!(&read.held.bytes[..], &message[..]);
            prop_assert!(read.compressed);
        }
    }
}
