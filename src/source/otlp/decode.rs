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
    let mut reader = open(encoding, &bytes, limit).map_err(|_| broken(encoding))?;
    let mut plain = Vec::new();
    plain.reserve_exact(step);
    loop {
        // One byte beyond the step tells a body that ends there from one that goes on.
        let more = (step + 1).saturating_sub(plain.len()) as u64;
        reader
            .by_ref()
            .take(more)
            .read_to_end(&mut plain)
            .map_err(|_| broken(encoding))?;
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
        bytes: Bytes::from(plain),
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

fn broken(encoding: Encoding) -> Refusal {
    Refusal::malformed(match encoding {
        Encoding::Identity => "the request cannot be read",
        Encoding::Gzip => "the request says that it is gzip, but is not",
        Encoding::Zstd => "the request says that it is zstd, but is not",
    })
}
