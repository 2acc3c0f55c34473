//! What a worker says of itself: when it starts and after each reconnect (a frame on the group's announce
//! subject), when it is asked (the same in words, in the metadata of its NATS micro service, where
//! `nats micro info` shows it), and when it leaves.

use crate::envelope::{Kind, Text, read_frame, read_map, required};
use crate::error::WireError;
use crate::limits::{MAX_ENTRIES, MAX_NAME};
use crate::reader::Reader;
use crate::writer::Writer;
use bytes::Bytes;
use nylon_core::{Phase, PhaseMask};

/// What an entry's handlers want.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EntryShape {
    /// The phases it has handlers for.
    pub phases: PhaseMask,
    /// Its `request_filter` wants the request body (`body=True`).
    pub request_body: bool,
    /// Its `response_body_filter` is called by chunk (`stream=True`).
    pub stream: bool,
    /// Its `response_body_filter` is called without the body, and asks for it where it wants it. Not over NATS.
    pub on_demand: bool,
    /// It has a `setup` function, so a session's later phases must come to the worker that has its closures.
    pub session: bool,
}

impl EntryShape {
    /// The words for [`Info::metadata`], such as `request_filter logging session`.
    fn words(self) -> String {
        let flags = [(self.request_body, "body"), (self.stream, "stream"), (self.session, "session")];
        let phases = Phase::ALL.into_iter().filter(|&phase| self.phases.contains(phase));
        let words: Vec<_> = phases
            .map(Phase::name)
            .chain(flags.into_iter().filter_map(|(set, word)| set.then_some(word)))
            .collect();
        words.join(" ")
    }

    fn from_words(words: &str) -> EntryShape {
        let mut shape = EntryShape::default();
        for word in words.split_whitespace() {
            match word {
                "body" => shape.request_body = true,
                "stream" => shape.stream = true,
                "session" => shape.session = true,
                _ => shape.phases = Phase::from_name(word).map_or(shape.phases, |p| shape.phases.with(p)),
            }
        }
        shape
    }
}

/// One entry of a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryInfo {
    /// Its name.
    pub name: String,
    /// What its handlers want.
    pub shape: EntryShape,
}

/// A worker's description of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// The worker's id: a subject token.
    pub worker: Text,
    /// Its queue group.
    pub group: Text,
    /// The version of Nylon that it runs.
    pub software: Text,
    /// Calls that it runs at once.
    pub concurrency: u32,
    /// Its entries.
    pub entries: Vec<EntryInfo>,
}

impl Info {
    /// Appends the frame to `out`; on an error `out` is as it was.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        if self.entries.len() > MAX_ENTRIES {
            return Err(WireError::TooLarge { what: "the number of entries", limit: MAX_ENTRIES });
        }
        if self.entries.iter().any(|entry| entry.name.len() > MAX_NAME) {
            return Err(WireError::TooLarge { what: "an entry's name", limit: MAX_NAME });
        }
        let (mut writer, mut map) = Writer::frame(out, Kind::Info);
        writer.key(&mut map, "w").text(self.worker.as_str());
        writer.key(&mut map, "g").text(self.group.as_str());
        writer.key(&mut map, "sw").text(self.software.as_str());
        writer.key(&mut map, "c").uint(self.concurrency.into());
        writer.key(&mut map, "en").array(self.entries.len());
        for entry in &self.entries {
            writer.array(2);
            writer.text(&entry.name);
            write_shape(&mut writer, entry.shape);
        }
        writer.finish(map)
    }

    /// Reads the frame.
    pub fn decode(frame: &Bytes) -> Result<Info, WireError> {
        let (mut worker, mut group, mut software) = (None, None, Text::default());
        let (mut concurrency, mut entries) = (0, Vec::new());
        read_frame(frame, Kind::Info, |key, reader| {
            match key {
                b"w" => worker = Some(Text::read(reader, "the worker's id")?),
                b"g" => group = Some(Text::read(reader, "the group")?),
                b"sw" => software = Text::read(reader, "the worker's version")?,
                b"c" => concurrency = reader.small("the concurrency")?,
                b"en" => entries = read_entries(reader)?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        let (worker, group) = (required(worker, "worker (w)")?, required(group, "group (g)")?);
        Ok(Info { worker, group, software, concurrency, entries })
    }

    /// The same in words, for the metadata of a NATS micro service.
    pub fn metadata(&self) -> Vec<(String, String)> {
        let own = [
            ("nylon.protocol", crate::VERSION.to_string()),
            ("nylon.worker", self.worker.as_str().to_owned()),
            ("nylon.group", self.group.as_str().to_owned()),
            ("nylon.version", self.software.as_str().to_owned()),
            ("nylon.concurrency", self.concurrency.to_string()),
        ];
        let entries =
            self.entries.iter().map(|entry| (format!("nylon.entry.{}", entry.name), entry.shape.words()));
        own.into_iter().map(|(key, value)| (key.to_owned(), value)).chain(entries).collect()
    }

    /// Reads what [`Info::metadata`] wrote, keys in any order; other keys are skipped.
    pub fn from_metadata<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Info, WireError> {
        let (mut worker, mut group, mut software) = (None, None, Text::default());
        let (mut concurrency, mut entries) = (0, Vec::new());
        for (key, value) in pairs {
            let Some(key) = key.strip_prefix("nylon.") else { continue };
            if key.len() > MAX_NAME + "entry.".len() || value.len() > MAX_NAME {
                return Err(WireError::TooLarge { what: "a worker's metadata", limit: MAX_NAME });
            }
            match key {
                "worker" => worker = Some(Text::from(value)),
                "group" => group = Some(Text::from(value)),
                "version" => software = Text::from(value),
                "concurrency" => concurrency = value.parse().unwrap_or(0),
                _ => {
                    if let Some(name) = key.strip_prefix("entry.") {
                        let shape = EntryShape::from_words(value);
                        entries.push(EntryInfo { name: name.to_owned(), shape });
                    }
                }
            }
        }
        if entries.len() > MAX_ENTRIES {
            return Err(WireError::TooLarge { what: "the number of entries", limit: MAX_ENTRIES });
        }
        let (worker, group) =
            (required(worker, "worker (nylon.worker)")?, required(group, "group (nylon.group)")?);
        Ok(Info { worker, group, software, concurrency, entries })
    }
}

fn read_entries(reader: &mut Reader<'_>) -> Result<Vec<EntryInfo>, WireError> {
    let count = reader.array("the entries", MAX_ENTRIES)?;
    let mut entries = Vec::with_capacity(count);
    for _ in 0..count {
        if reader.array("an entry", 2)? != 2 {
            return Err(WireError::Type { what: "an entry", expected: "an array of two" });
        }
        let name = reader.text("an entry's name", MAX_NAME)?.to_owned();
        entries.push(EntryInfo { name, shape: read_shape(reader)? });
    }
    Ok(entries)
}

pub(crate) fn write_shape(writer: &mut Writer<'_>, shape: EntryShape) {
    let mut map = writer.open();
    writer.key(&mut map, "p").uint(shape.phases.bits().into());
    for (key, set) in
        [("b", shape.request_body), ("c", shape.stream), ("d", shape.on_demand), ("s", shape.session)]
    {
        if set {
            writer.key(&mut map, key).boolean(true);
        }
    }
    writer.close(map);
}

pub(crate) fn read_shape(reader: &mut Reader<'_>) -> Result<EntryShape, WireError> {
    let mut shape = EntryShape::default();
    read_map(reader, "an entry's shape", |key, reader| {
        match key {
            b"p" => shape.phases = PhaseMask::from_bits(reader.uint("the phases")? as u8),
            b"b" => shape.request_body = reader.boolean("the body's need")?,
            b"c" => shape.stream = reader.boolean("the form of the body")?,
            b"d" => shape.on_demand = reader.boolean("the body's being asked for")?,
            b"s" => shape.session = reader.boolean("the session's need")?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(shape)
}

/// The worker takes no new sessions; those it has go on until it is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leave {
    /// The worker.
    pub worker: Text,
    /// Its group.
    pub group: Text,
}

impl Leave {
    /// Appends the frame to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        let (mut writer, mut map) = Writer::frame(out, Kind::Leave);
        writer.key(&mut map, "w").text(self.worker.as_str());
        writer.key(&mut map, "g").text(self.group.as_str());
        writer.finish(map)
    }

    /// Reads the frame.
    pub fn decode(frame: &Bytes) -> Result<Leave, WireError> {
        let (mut worker, mut group) = (None, None);
        read_frame(frame, Kind::Leave, |key, reader| {
            match key {
                b"w" => worker = Some(Text::read(reader, "the worker's id")?),
                b"g" => group = Some(Text::read(reader, "the group")?),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(Leave { worker: required(worker, "worker (w)")?, group: required(group, "group (g)")? })
    }
}
