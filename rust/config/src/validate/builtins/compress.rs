//! `Compress`: encodings with their levels, and media types.

use super::super::fields;
use crate::{
    plan::{Compress, Encoding, MediaPattern},
    raw,
    report::Report,
    source::Place,
};

/// What is worth it where the configuration says nothing: text in its many forms.
const TEXT: [&str; 13] = [
    "text/*",
    "application/json",
    "application/*+json",
    "application/x-ndjson",
    "application/javascript",
    "application/xml",
    "application/*+xml",
    "application/yaml",
    "application/wasm",
    "application/vnd.ms-fontobject",
    "image/svg+xml",
    "font/ttf",
    "font/otf",
];

pub(super) fn compress(written: &raw::Compress, report: &mut Report<'_>) -> Option<Compress> {
    let content_types: Vec<_> = match &written.content_types {
        Some(types) => types.0.iter().map(|text| fields::media(text, report)).collect(),
        None => TEXT.iter().map(|text| Some(MediaPattern::of(text))).collect(),
    };
    let levels = match &written.levels {
        Some(levels) => levels.clone(),
        None => super::super::absent(written.place, report)?,
    };
    Some(Compress {
        encodings: encodings(written, &levels, report)?,
        content_types: content_types.into_iter().collect::<Option<_>>()?,
        min_bytes: written.min_bytes?.value,
    })
}

fn encodings(
    written: &raw::Compress,
    levels: &raw::CompressLevels,
    report: &mut Report<'_>,
) -> Option<Vec<(Encoding, u32)>> {
    let level = |encoding| {
        let level = match encoding {
            raw::Encoding::Gzip => (Encoding::Gzip, levels.gzip?.value),
            raw::Encoding::Brotli => (Encoding::Brotli, levels.br?.value),
            raw::Encoding::Zstd => (Encoding::Zstd, levels.zstd?.value),
        };
        Some((level.0, u32::try_from(level.1).ok()?))
    };
    let Some(chosen) = &written.encodings else {
        if written.has("encodings") {
            return None;
        }
        return [raw::Encoding::Zstd, raw::Encoding::Brotli, raw::Encoding::Gzip]
            .map(level)
            .into_iter()
            .collect();
    };
    if chosen.is_empty() {
        report.error(written.place, "`encodings` lists none: there is nothing to compress with");
        return None;
    }
    let mut seen: Vec<(raw::Encoding, Place)> = Vec::new();
    for word in chosen {
        if let Some((_, first)) = seen.iter().find(|(known, _)| *known == word.value) {
            report.error(word.place, format!("this encoding is listed already, see {}", report.at(*first)));
        }
        seen.push((word.value, word.place));
    }
    seen.into_iter().map(|(encoding, _)| level(encoding)).collect()
}
