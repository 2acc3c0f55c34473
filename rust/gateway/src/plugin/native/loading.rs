//! A library's code in this process.
//!
//! A library is loaded from a copy that only this process has, in memory. So whoever overwrites the file while the
//! gateway runs (`cp`, a deployment, a linker) does not pull code from under calls that are running; the system's
//! loader, which knows libraries by name and by inode, loads a changed one beside the old; and a plugin that uses the
//! same file as another has data of its own. Only a library that finds others relative to its own place is loaded from
//! there.

use super::fault::Fault;
use super::image::{Image, Inode};
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use std::ffi::c_void;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How often a file that is loaded from its place may be there beside its successors.
const SPELLINGS: usize = 100;

/// The libraries that this process has open.
static OPEN: Mutex<Vec<Open>> = Mutex::new(Vec::new());
/// The copies of libraries that were closed and that the loader keeps all the same.
static LINGERING: Mutex<Vec<Name>> = Mutex::new(Vec::new());

/// A library in this process, for as long as it is wanted, or for ever where it cannot be unloaded.
pub(super) struct Loaded {
    /// `None` once it is closed.
    library: Option<Library>,
    handle: usize,
    name: Name,
    stays: bool,
}

/// A library that is open.
struct Open {
    handle: usize,
    /// The file, where it was loaded from its place.
    inode: Option<Inode>,
}

/// What the loader knows a library by.
#[derive(Default)]
struct Name {
    path: PathBuf,
    /// The copy that it was loaded from. Its number is part of the path, so it stays open for as long as the loader
    /// has the library: under the same path the loader would give back this one.
    copy: Option<OwnedFd>,
}

impl Loaded {
    /// Loads the library at `path`, which `image` was read from: runs its constructors.
    pub(super) fn open(path: &Path, image: &Image) -> Result<Loaded, Fault> {
        if !image.bound_to_its_place
            && let Ok(copy) = copy(path, image)
        {
            let alias = PathBuf::from(format!("/proc/self/fd/{}", copy.as_raw_fd()));
            match Loaded::named(Name { path: alias, copy: Some(copy) }, image, None) {
                Ok(loaded) => return Ok(loaded),
                // Where /proc is missing, or memory must not be executed, the loader has the last word on the file.
                Err(error) => tracing::debug!("{} is loaded from its place: {error}", path.display()),
            }
        }
        if locked(&OPEN).iter().any(|open| open.inode == Some(image.inode)) {
            return Err(Fault::LoadedAlready);
        }
        Loaded::named(unused_name(path).ok_or(Fault::LoadedAlready)?, image, Some(image.inode))
    }

    fn named(name: Name, image: &Image, inode: Option<Inode>) -> Result<Loaded, Fault> {
        // SAFETY: the constructors of a library that the configuration names run here, which is what it is named for.
        let library = unsafe { Library::open(Some(&name.path), RTLD_NOW | RTLD_LOCAL) };
        let raw = library.map_err(|error| refusal(&error, &name.path))?.into_raw();
        // SAFETY: the handle comes from the line above and is used nowhere else.
        let library = unsafe { Library::from_raw(raw) };
        let handle = raw as usize;
        let mut open = locked(&OPEN);
        if open.iter().any(|known| known.handle == handle) {
            return Err(Fault::LoadedAlready);
        }
        open.push(Open { handle, inode });
        Ok(Loaded { library: Some(library), handle, name, stays: image.go })
    }

    /// Whether it was loaded from its file's place, where the process can have it but once.
    pub(super) fn is_in_its_place(&self) -> bool {
        self.name.copy.is_none()
    }

    /// The address of a symbol.
    pub(super) fn address(&self, symbol: &str) -> Option<*mut c_void> {
        // SAFETY: only the address is taken here; who calls it knows its type.
        let found = unsafe { self.library.as_ref()?.get::<*mut c_void>(symbol) };
        found.ok().map(|symbol| symbol.as_raw_ptr()).filter(|address| !address.is_null())
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        let name = std::mem::take(&mut self.name);
        if self.stays {
            // Still open for the loader, and never to be closed.
            std::mem::forget((self.library.take(), name));
            return;
        }
        locked(&OPEN).retain(|open| open.handle != self.handle);
        drop(self.library.take());
        let mut lingering = std::mem::take(&mut *locked(&LINGERING));
        lingering.push(name);
        lingering.retain(|name| is_known(&name.path));
        locked(&LINGERING).append(&mut lingering);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether the loader has a library by this name. One that was closed may stay: linked to (`-z nodelete`), or because
/// threads have yet to run destructors of it.
fn is_known(name: &Path) -> bool {
    // SAFETY: with this flag nothing is loaded, and so nothing runs.
    unsafe { Library::open(Some(name), libc::RTLD_NOLOAD | RTLD_NOW) }.is_ok()
}

/// A copy of the library in memory, named after it, that nobody can change.
#[cfg(target_os = "linux")]
fn copy(path: &Path, image: &Image) -> std::io::Result<OwnedFd> {
    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
    use std::io::Write;
    use std::os::unix::ffi::OsStrExt;
    let name = path.file_name().map_or_else(Vec::new, |name| name.as_bytes().to_vec());
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Older kernels do not know that flag; there all such files can be executed.
    let made = memfd_create(&*name, flags | MemfdFlags::EXEC).or_else(|_| memfd_create(&*name, flags))?;
    let mut file = std::fs::File::from(made);
    file.write_all(&image.bytes)?;
    fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(OwnedFd::from(file))
}

/// Other systems have no such files.
#[cfg(not(target_os = "linux"))]
fn copy(_: &Path, _: &Image) -> std::io::Result<OwnedFd> {
    Err(std::io::ErrorKind::Unsupported.into())
}

/// The path, spelt as no library of this process is: by the same name the loader would give back the one that it has,
/// whatever the file holds now. `None`: by its inode it gives back the same one under each name.
fn unused_name(path: &Path) -> Option<Name> {
    let (directory, file) = (path.parent()?, path.file_name()?);
    let mut spelt = directory.as_os_str().to_owned();
    for _ in 0..SPELLINGS {
        let mut name = spelt.clone();
        name.push("/");
        name.push(file);
        let path = PathBuf::from(name);
        if !is_known(&path) {
            return Some(Name { path, copy: None });
        }
        spelt.push("/.");
    }
    None
}

/// What the loader's message means.
fn refusal(error: &libloading::Error, name: &Path) -> Fault {
    let text = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
    let own = name.display().to_string();
    let text = text.strip_prefix(&format!("{own}: ")).unwrap_or(&text).to_owned();
    if let Some(symbol) = text.strip_prefix("undefined symbol: ") {
        // A version may follow: `name, version NAME`.
        return Fault::Undefined(symbol.split(',').next().unwrap_or(symbol).to_owned());
    }
    if let Some(version) = text.split_once("version `").and_then(|(_, rest)| rest.split_once("' not found")) {
        return Fault::TooNew(version.0.to_owned());
    }
    match text.split_once(": cannot open shared object file") {
        Some((needed, _)) if needed != own => Fault::Dependency(needed.to_owned()),
        _ => Fault::Refused(text),
    }
}
