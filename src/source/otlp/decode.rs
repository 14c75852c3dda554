//! Content encodings: gzip and zstd to plain bytes, never more of them than one request may have.
//!
//! The size of what comes out is bounded while it comes out, so that a few bytes that stand for gigabytes cost neither memory nor time.
//! What a sender says about the size in advance is taken as a hint for the reservation and believed in nothing else.

use std::io::{self, Read};

use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;

use super::{
    answer::Refusal,
    body::{Held, Limits},
};

/// How a body was compressed. R1 asks for the first two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Identity,
    Gzip,
    Zstd,
}

/// What every answer to an unknown encoding names (`grpc-accept-encoding`, `accept-encoding`).
pub(super) const ACCEPTED: &str = "identity, gzip, zstd";

/// Deflate cannot do better than 1032 to 1 (zlib, "Technical Details"): a hint beyond is a lie.
const BEST_RATIO: usize = 1032;

/// What is reserved where a zstd frame does not say its size; telemetry compresses about this well.
const USUAL_RATIO: usize = 8;

/// A decoder should have 8 MiB for a zstd window (RFC 8878 section 3.1.1.1.2); a frame that tells its size may use all of it as its window.
const MIN_WINDOW_LOG: u32 = 23;
const MAX_WINDOW_LOG: u32 = 27;

// === impl Encoding ===

impl Encoding {
    /// The value of `content-encoding` or `grpc-encoding`; `none` is what OTLP calls the absence of one.
    pub(super) fn parse(name: &[u8]) -> Option<Encoding> {
        match name.trim_ascii() {
            b"" | b"identity" | b"none" => Some(Encoding::Identity),
            b"gzip" | b"x-gzip" => Some(Encoding::Gzip),
            b"zstd" => Some(Encoding::Zstd),
            other if other.iter().any(u8::is_ascii_uppercase) => Encoding::parse(&other.to_ascii_lowercase()),
            _ => None,
        }
    }

    /// How many bytes will come out, as far as can be told before.
    fn expected(self, compressed: &[u8], limit: usize) -> usize {
        let told = match self {
            Encoding::Identity => compressed.len(),
            // The last four bytes are the size of the last member, modulo 2^32 (RFC 1952 section 2.3.1).
            Encoding::Gzip => compressed
                .last_chunk()
                .map_or(0, |size| u32::from_le_bytes(*size) as usize)
                .min(compressed.len().saturating_mul(BEST_RATIO)),
            Encoding::Zstd => zstd::zstd_safe::get_frame_content_size(compressed)
                .ok()
                .flatten()
                .map_or(compressed.len().saturating_mul(USUAL_RATIO), |size| {
                    usize::try_from(size).unwrap_or(usize::MAX)
                }),
        };
        told.clamp(compressed.len().min(limit), limit)
    }
}

/// The plain bytes of a body, with the reservation that they need.
pub(super) async fn decode(held: Held, encoding: Encoding, limits: &Limits) -> Result<Held, Refusal> {
    if encoding == Encoding::Identity || held.bytes.is_empty() {
        return Ok(held);
    }
    let Held { bytes, mut reserved } = held;
    let limit = limits.max_request_bytes;
    let mut step = encoding.expected(&bytes, limit);
    reserved.replace(limits, step).await?;
    let mut reader = open(encoding, &bytes, limit).map_err(|error| broken(encoding, &error))?;
    let mut plain = Vec::new();
    plain.reserve_exact(step);
    loop {
        // One byte beyond the step tells a body that ends there from one that goes on.
        let more = (step + 1).saturating_sub(plain.len()) as u64;
        reader
            .by_ref()
            .take(more)
            .read_to_end(&mut plain)
            .map_err(|error| broken(encoding, &error))?;
        if plain.len() <= step {
            break;
        }
        if step >= limit {
            return Err(Refusal::too_large(limit));
        }
        reserved.grow(limits, step + 1).await?;
        step = reserved.bytes;
    }
    Ok(Held {
        // What is long of it is kept, so without room for more.
        bytes: Bytes::from(plain.into_boxed_slice()),
        reserved,
    })
}

fn open(encoding: Encoding, compressed: &[u8], limit: usize) -> io::Result<Box<dyn Read + Send + '_>> {
    Ok(match encoding {
        Encoding::Identity => Box::new(compressed),
        Encoding::Gzip => Box::new(MultiGzDecoder::new(compressed)),
        Encoding::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(compressed)?;
            decoder.window_log_max(
                limit
                    .max(1)
                    .ilog2()
                    .saturating_add(1)
                    .clamp(MIN_WINDOW_LOG, MAX_WINDOW_LOG),
            )?;
            Box::new(decoder)
        }
    })
}

fn broken(encoding: Encoding, error: &io::Error) -> Refusal {
    let is_cut_off = error.kind() == io::ErrorKind::UnexpectedEof;
    Refusal::malformed(match (encoding, is_cut_off) {
        (Encoding::Identity, _) => "the request cannot be read",
        (Encoding::Gzip, true) => "the request's gzip ends too early: it was cut off",
        (Encoding::Gzip, false) => "the request says that it is gzip, but is not",
        (Encoding::Zstd, true) => "the request's zstd ends too early: it was cut off",
        (Encoding::Zstd, false) => "the request says that it is zstd, but is not",
    })
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, time::Duration};

    use http::StatusCode;
    use proptest::prelude::*;

    use super::*;
    use crate::otlp::budget::Budget;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).expect("memory");
        encoder.finish().expect("memory")
    }

    fn plain(compressed: Vec<u8>, encoding: Encoding, limit: usize) -> Result<Bytes, Refusal> {
        let limits = Limits {
            budget: Budget::new(1 << 20),
            max_request_bytes: limit,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        runtime.expect("a runtime").block_on(async {
            let body = http_body_util::Full::new(Bytes::from(compressed));
            let held = Held::read(body, &limits).await?;
            Ok(decode(held, encoding, &limits).await?.bytes)
        })
    }

    #[test]
    fn names_of_encodings_are_read_without_regard_to_case() {
        for (name, encoding) in [
            ("", Some(Encoding::Identity)),
            ("identity", Some(Encoding::Identity)),
            ("none", Some(Encoding::Identity)),
            (" GZip ", Some(Encoding::Gzip)),
            ("zstd", Some(Encoding::Zstd)),
            ("deflate", None),
            ("gzip, gzip", None),
        ] {
            assert_eq!(Encoding::parse(name.as_bytes()), encoding, "{name}");
        }
    }

    #[test]
    fn exactly_the_limit_fits_and_one_byte_more_does_not() {
        for limit in [999, 1000] {
            for (encoding, body) in [
                (Encoding::Gzip, gzip(&[7; 1000])),
                (Encoding::Zstd, zstd::encode_all(&[7; 1000][..], 1).expect("memory")),
            ] {
                let result = plain(body, encoding, limit);
                let expected = (limit == 999).then_some(StatusCode::PAYLOAD_TOO_LARGE);
                assert_eq!(
                    result.err().map(|refusal| refusal.http),
                    expected,
                    "{encoding:?} {limit}"
                );
            }
        }
    }

    #[test]
    fn a_size_that_is_understated_is_found_out_and_the_bytes_are_all_there() {
        let mut two = gzip(&vec![7; 300_000]);
        two.extend(gzip(b"the second member is what the trailer speaks of"));
        let all = plain(two, Encoding::Gzip, 1 << 20).expect("two members");
        assert_eq!(all.len(), 300_000 + 47);
    }

    #[test]
    fn what_comes_behind_an_empty_member_or_frame_is_not_lost() {
        let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 1).expect("memory");
        let skippable = b"\x50\x2a\x4d\x18\x03\0\0\0abc".to_vec();
        for (body, encoding) in [
            ([gzip(b"one, "), gzip(b""), gzip(b"two")].concat(), Encoding::Gzip),
            ([zstd(b"one, "), zstd(b""), zstd(b"two")].concat(), Encoding::Zstd),
            (
                [skippable.clone(), zstd(b"one, "), skippable, zstd(b"two")].concat(),
                Encoding::Zstd,
            ),
        ] {
            assert_eq!(
                plain(body, encoding, 4000).as_deref(),
                Ok(&b"one, two"[..]),
                "{encoding:?}"
            );
        }
    }

    #[test]
    fn what_was_cut_off_is_not_called_something_else() {
        let said = |body: &[u8], encoding| {
            let refusal = plain(body.to_vec(), encoding, 4000).expect_err("it cannot be read");
            refusal.status(Duration::ZERO).message
        };
        let body = b"a batch of telemetry, over and over".repeat(20);
        let (gzip, zstd) = (gzip(&body), zstd::encode_all(&body[..], 1).expect("memory"));
        for length in [12, gzip.len() / 2, gzip.len() - 1] {
            let said = said(&gzip[..length], Encoding::Gzip);
            assert_eq!(said, "the request's gzip ends too early: it was cut off", "{length}");
        }
        for length in [12, zstd.len() / 2, zstd.len() - 1] {
            let said = said(&zstd[..length], Encoding::Zstd);
            assert_eq!(said, "the request's zstd ends too early: it was cut off", "{length}");
        }
        assert!(said(&body, Encoding::Gzip).ends_with("gzip, but is not"));
        assert!(said(&body, Encoding::Zstd).ends_with("zstd, but is not"));
    }

    proptest! {
        #[test]
        fn what_was_compressed_comes_back(body in prop::collection::vec(any::<u8>(), 1..2000)) {
            prop_assert_eq!(&plain(gzip(&body), Encoding::Gzip, 4000).expect("gzip")[..], &body[..]);
            let compressed = zstd::encode_all(&body[..], 1).expect("memory");
            prop_assert_eq!(&plain(compressed, Encoding::Zstd, 4000).expect("zstd")[..], &body[..]);
        }

        #[test]
        fn garbage_is_refused_and_never_panics(garbage in prop::collection::vec(any::<u8>(), 1..200)) {
            let _ = plain(garbage.clone(), Encoding::Gzip, 4000);
            let _ = plain(garbage, Encoding::Zstd, 4000);
        }
    }
}
