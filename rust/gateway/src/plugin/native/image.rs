//! The file of a library, read before any of its code runs.
//!
//! Loading a library runs its constructors, and a loader's message about a file that is none is poor. So what can be
//! told from the bytes is told from the bytes: whether it is a library for this machine, which symbols it lacks, and
//! what else decides how it may be loaded.

use super::fault::{Fault, Symbol};
use object::elf::{DT_RPATH, DT_RUNPATH, ET_DYN, FileHeader64, PT_LOAD, ProgramHeader64};
use object::read::elf::{ElfFile64, FileHeader, ProgramHeader};
use object::{Endianness, Object, ObjectSymbol};
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Bytes of the largest file that is taken for a library.
const LARGEST: u64 = 1 << 31;
/// What makes a file an ELF file.
const ELF_MAGIC: &[u8] = b"\x7fELF";

/// The device and the number of a file.
pub(super) type Inode = (u64, u64);

/// A library's file, and what its bytes tell.
pub(super) struct Image {
    pub(super) bytes: Vec<u8>,
    pub(super) inode: Inode,
    /// Written in Go: it brings a runtime with threads and signal handlers, and cannot be unloaded.
    pub(super) go: bool,
    /// It finds libraries of its own relative to its file, so that it works only from there.
    pub(super) bound_to_its_place: bool,
}

impl Image {
    /// Reads the file. An error says what it is instead of a library for this gateway.
    pub(super) fn read(path: &Path) -> Result<Image, Fault> {
        // Asked before it is opened: opening a pipe waits for somebody who writes.
        let metadata = std::fs::metadata(path).map_err(Fault::Unreadable)?;
        if !metadata.is_file() {
            return Err(Fault::NotALibrary("no regular file".to_owned()));
        }
        if metadata.len() > LARGEST {
            return Err(Fault::NotALibrary(format!("a file of {} bytes", metadata.len())));
        }
        let file = File::open(path).map_err(Fault::Unreadable)?;
        let metadata = file.metadata().map_err(Fault::Unreadable)?;
        let inode = (metadata.dev(), metadata.ino());
        let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or_default());
        file.take(LARGEST).read_to_end(&mut bytes).map_err(Fault::Unreadable)?;
        // Elsewhere libraries are no ELF files, and only the system's loader knows them.
        if cfg!(target_os = "linux") {
            inspect(bytes, inode)
        } else {
            Ok(Image { bytes, inode, go: false, bound_to_its_place: true })
        }
    }

    /// Tells two files apart.
    pub(super) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.bytes.hash(&mut hasher);
        hasher.finish()
    }
}

fn inspect(bytes: Vec<u8>, inode: Inode) -> Result<Image, Fault> {
    check_machine(&bytes)?;
    let broken = |error: object::read::Error| Fault::NotALibrary(format!("a damaged one ({error})"));
    let elf = ElfFile64::<Endianness>::parse(&*bytes).map_err(broken)?;
    if elf.elf_header().e_type(elf.endian()) != ET_DYN {
        let what = "a program or an object file: link it with `-shared`";
        return Err(Fault::NotALibrary(what.to_owned()));
    }
    // The loader would map it all the same, and the process die where it touches what is not there.
    let whole = |segment: &ProgramHeader64<Endianness>| {
        let end = segment.p_offset(elf.endian()).checked_add(segment.p_filesz(elf.endian()));
        segment.p_type(elf.endian()) != PT_LOAD || end.is_some_and(|end| end <= bytes.len() as u64)
    };
    if !elf.elf_program_headers().iter().all(whole) {
        return Err(Fault::NotALibrary("a part of one".to_owned()));
    }
    // Loading needs no table of sections; without it, nothing here tells what a library exports.
    if !elf.elf_section_table().is_empty() {
        let exported: Vec<&[u8]> = elf
            .dynamic_symbols()
            .filter(ObjectSymbol::is_definition)
            .filter_map(|symbol| symbol.name_bytes().ok())
            .collect();
        let lacks = |symbol: &Symbol| !exported.contains(&symbol.name().as_bytes());
        let missing: Vec<Symbol> = Symbol::REQUIRED.into_iter().filter(lacks).collect();
        if !missing.is_empty() {
            return Err(Fault::Missing(missing));
        }
    }
    let dynamic = elf.elf_dynamic_table().map_err(broken)?;
    let bound_to_its_place = dynamic
        .iter()
        .filter(|entry| entry.tag == DT_RPATH || entry.tag == DT_RUNPATH)
        .filter_map(|entry| dynamic.string(entry).ok())
        .any(|path| memchr::memmem::find(path, b"ORIGIN").is_some());
    let go = [".go.buildinfo", ".note.go.buildid"].iter().any(|name| elf.section_by_name(name).is_some());
    Ok(Image { inode, go, bound_to_its_place, bytes })
}

/// Whether the file is for machines like this one.
fn check_machine(bytes: &[u8]) -> Result<(), Fault> {
    if !bytes.starts_with(ELF_MAGIC) {
        return Err(Fault::NotALibrary(kind_of(bytes).to_owned()));
    }
    if bytes.len() < size_of::<FileHeader64<Endianness>>() {
        return Err(Fault::NotALibrary("a part of one".to_owned()));
    }
    let found = Machine::of_header(bytes);
    let own = Machine::own();
    if found != own {
        return Err(Fault::OtherMachine { found: found.to_string(), own: own.to_string() });
    }
    Ok(())
}

/// What an ELF file is built for.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Machine {
    number: u16,
    wide: bool,
    little: bool,
}

/// The numbers of machines in ELF headers, what Rust calls them, and what people do.
const MACHINES: [(u16, &[&str], &str); 8] = [
    (3, &["x86"], "x86"),
    (21, &["powerpc64"], "POWER"),
    (22, &["s390x"], "s390x"),
    (40, &["arm"], "ARM"),
    (62, &["x86_64"], "x86-64"),
    (183, &["aarch64"], "ARM64"),
    (243, &["riscv32", "riscv64"], "RISC-V"),
    (258, &["loongarch64"], "LoongArch"),
];

impl Machine {
    /// Of a header that is there as a whole: class and byte order are its fifth and sixth byte, the machine follows at 18.
    fn of_header(bytes: &[u8]) -> Machine {
        let little = bytes[5] == 1;
        let number = [bytes[18], bytes[19]];
        let number = if little { u16::from_le_bytes(number) } else { u16::from_be_bytes(number) };
        Machine { number, wide: bytes[4] == 2, little }
    }

    fn own() -> Machine {
        let known = MACHINES.iter().find(|(_, names, _)| names.contains(&std::env::consts::ARCH));
        Machine {
            number: known.map_or(0, |(number, ..)| *number),
            wide: cfg!(target_pointer_width = "64"),
            little: cfg!(target_endian = "little"),
        }
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match MACHINES.iter().find(|(number, ..)| *number == self.number) {
            Some((.., name)) => f.write_str(name)?,
            None => write!(f, "machine number {}", self.number)?,
        }
        f.write_str(if self.wide { " (64 bits" } else { " (32 bits" })?;
        f.write_str(if self.little { ")" } else { ", big-endian)" })
    }
}

/// What a file is that is no ELF file.
fn kind_of(bytes: &[u8]) -> &'static str {
    const MACH: [&[u8]; 4] =
        [b"\xcf\xfa\xed\xfe", b"\xce\xfa\xed\xfe", b"\xca\xfe\xba\xbe", b"\xfe\xed\xfa\xcf"];
    match bytes {
        [] => "an empty file",
        _ if bytes.starts_with(b"!<arch>") => "an archive (a static library): link it with `-shared`",
        _ if bytes.starts_with(b"#!") => "a script",
        _ if bytes.starts_with(b"MZ") => "a program or library for Windows",
        _ if bytes.starts_with(b"\0asm") => "a WebAssembly module",
        _ if MACH.iter().any(|magic| bytes.starts_with(magic)) => "a program or library for macOS",
        _ => "something else (it does not begin like an ELF file)",
    }
}
