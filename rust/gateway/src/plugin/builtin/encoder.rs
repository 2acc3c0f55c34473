//! The encoders behind one call: bytes in, and all that they come to out, nothing kept back.

use brotli::CompressorWriter;
use flate2::Compression;
use flate2::write::GzEncoder;
use nylon_config::plan::Encoding;
use std::io::{self, Write};
use zstd::zstd_safe::CParameter;

/// Windows have at most 2^18 bytes, 256 KiB: more gains little in what is sent by chunk, and each response holds its own.
const LARGEST_WINDOW: u32 = 18;
/// The smallest that zstd knows.
const SMALLEST_WINDOW: u32 = 10;
/// Brotli takes its input through a buffer of this size.
const BROTLI_BUFFER: usize = 16 * 1024;

/// Encodes one body.
pub(super) struct Encoder {
    encoding: Encoding,
    level: u32,
    /// Of zstd. Brotli's is always the largest: with one of 64 KiB or less its encoder holds ten times as much.
    window: u32,
    /// `None` before the first chunk and after the last.
    running: Option<Running>,
}

enum Running {
    Gzip(GzEncoder<Vec<u8>>),
    // Large, and most responses have another.
    Brotli(Box<CompressorWriter<Vec<u8>>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl Encoder {
    pub(super) fn new(encoding: Encoding, level: u32) -> Encoder {
        Encoder { encoding, level, window: LARGEST_WINDOW, running: None }
    }

    pub(super) fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Before the first chunk: how long the body will be, where that is known. A small one needs no large window.
    pub(super) fn expect(&mut self, length: Option<u64>) {
        let bits = length.map_or(LARGEST_WINDOW, |length| u64::BITS - length.leading_zeros());
        self.window = bits.clamp(SMALLEST_WINDOW, LARGEST_WINDOW);
    }

    /// What `data` comes to. With the last of the body, the end of the encoding follows.
    pub(super) fn encode(&mut self, data: &[u8], last: bool) -> io::Result<Vec<u8>> {
        let mut running = match self.running.take() {
            Some(running) => running,
            None => self.start()?,
        };
        running.write().write_all(data)?;
        if last {
            return running.finish();
        }
        running.write().flush()?;
        let encoded = std::mem::take(running.output());
        self.running = Some(running);
        Ok(encoded)
    }

    fn start(&self) -> io::Result<Running> {
        Ok(match self.encoding {
            Encoding::Gzip => Running::Gzip(GzEncoder::new(Vec::new(), Compression::new(self.level))),
            Encoding::Brotli => {
                let encoder = CompressorWriter::new(Vec::new(), BROTLI_BUFFER, self.level, LARGEST_WINDOW);
                Running::Brotli(Box::new(encoder))
            }
            Encoding::Zstd => {
                let level = i32::try_from(self.level).unwrap_or(zstd::DEFAULT_COMPRESSION_LEVEL);
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), level)?;
                encoder.window_log(self.window)?;
                // Its tables are otherwise made for a window of megabytes: at level 9 they are five times as large.
                encoder.set_parameter(CParameter::HashLog(self.window - 1))?;
                encoder.set_parameter(CParameter::ChainLog(self.window - 1))?;
                Running::Zstd(encoder)
            }
        })
    }
}

impl Running {
    fn write(&mut self) -> &mut dyn Write {
        match self {
            Running::Gzip(encoder) => encoder,
            Running::Brotli(encoder) => encoder,
            Running::Zstd(encoder) => encoder,
        }
    }

    fn output(&mut self) -> &mut Vec<u8> {
        match self {
            Running::Gzip(encoder) => encoder.get_mut(),
            Running::Brotli(encoder) => encoder.get_mut(),
            Running::Zstd(encoder) => encoder.get_mut(),
        }
    }

    fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Running::Gzip(encoder) => encoder.finish(),
            Running::Brotli(encoder) => Ok(encoder.into_inner()),
            Running::Zstd(encoder) => encoder.finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn decoded(encoding: Encoding, bytes: &[u8]) -> Vec<u8> {
        let mut text = Vec::new();
        match encoding {
            // What is cut off is an error here: the start is what matters.
            Encoding::Gzip => drop(flate2::read::GzDecoder::new(bytes).read_to_end(&mut text)),
            Encoding::Brotli => drop(brotli::Decompressor::new(bytes, 4096).read_to_end(&mut text)),
            Encoding::Zstd => {
                drop(zstd::stream::read::Decoder::new(bytes).and_then(|mut it| it.read_to_end(&mut text)));
            }
        }
        text
    }

    #[test]
    fn each_chunk_can_be_read_before_the_next_is_there() {
        for encoding in [Encoding::Gzip, Encoding::Brotli, Encoding::Zstd] {
            let mut encoder = Encoder::new(encoding, 3);
            let (mut plain, mut sent) = (Vec::new(), Vec::new());
            for n in 0..20_u32 {
                let chunk = format!("data: event {n} {}\n\n", "x".repeat(n as usize * 50));
                plain.extend_from_slice(chunk.as_bytes());
                sent.extend(encoder.encode(chunk.as_bytes(), false).expect("encoded"));
                assert_eq!(decoded(encoding, &sent), plain, "{encoding:?}, chunk {n}");
            }
            sent.extend(encoder.encode(b"", true).expect("encoded"));
            assert_eq!(decoded(encoding, &sent), plain);
        }
    }

    #[test]
    fn a_body_longer_than_announced_is_still_whole() {
        let plain: Vec<u8> = (0..300_000_u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
        for encoding in [Encoding::Gzip, Encoding::Brotli, Encoding::Zstd] {
            let mut encoder = Encoder::new(encoding, 1);
            encoder.expect(Some(1500));
            let mut sent = encoder.encode(&plain[..700_000], false).expect("encoded");
            sent.extend(encoder.encode(&plain[700_000..], true).expect("encoded"));
            assert_eq!(decoded(encoding, &sent), plain, "{encoding:?}");
            assert!(sent.len() < plain.len());
        }
    }
}
