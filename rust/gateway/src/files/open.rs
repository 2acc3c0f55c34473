//! From a path to an open file below a root, and never above.
//!
//! The kernel itself resolves the names below the root's directory and refuses what would leave it, be it by `..` or by a
//! symbolic link, also while somebody changes the directory. Where it cannot (before Linux 5.6, other systems), the path is
//! resolved first and looked at. The root is looked up anew for each file, so a deployment may swap it.

use super::NoFile;
use super::path::Name;
use nylon_config::plan::StaticFiles;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// What is there.
pub(super) enum Found {
    File(Opened),
    Directory,
}

/// A file that is open.
pub(super) struct Opened {
    pub(super) file: Arc<File>,
    pub(super) size: u64,
    pub(super) modified: Option<SystemTime>,
}

/// The longest that a file system may take for one file.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// Without blocking: a FIFO would wait for its writer.
const READ: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

/// Opens what the names lead to, on this thread where nothing has to be waited for.
pub(super) async fn open(settings: &Arc<StaticFiles>, names: &[Name]) -> Result<Found, NoFile> {
    let below: PathBuf = names.iter().collect();
    if let Some(found) = known(&settings.root, &below) {
        return found;
    }
    let root = settings.root.clone();
    let opening = tokio::task::spawn_blocking(move || blocking(&root, &below));
    match tokio::time::timeout(PATIENCE, opening).await {
        Ok(Ok(found)) => found,
        Ok(Err(failed)) => Err(NoFile::Io(io::Error::other(failed))),
        Err(_) => Err(NoFile::Io(io::ErrorKind::TimedOut.into())),
    }
}

/// What the system can tell without waiting.
#[cfg(target_os = "linux")]
fn known(root: &Path, below: &Path) -> Option<Result<Found, NoFile>> {
    match beneath(root, below, rustix::fs::ResolveFlags::CACHED) {
        Err(Errno::AGAIN | Errno::NOSYS | Errno::INVAL | Errno::PERM) => None,
        other => Some(told(other.map_err(io::Error::from), below)),
    }
}

#[cfg(not(target_os = "linux"))]
fn known(_: &Path, _: &Path) -> Option<Result<Found, NoFile>> {
    None
}

#[cfg(target_os = "linux")]
fn blocking(root: &Path, below: &Path) -> Result<Found, NoFile> {
    match beneath(root, below, rustix::fs::ResolveFlags::empty()) {
        // No such call, or one that a sandbox does not know.
        Err(Errno::NOSYS | Errno::PERM) => told(resolved(root, below), below),
        other => told(other.map_err(io::Error::from), below),
    }
}

#[cfg(not(target_os = "linux"))]
fn blocking(root: &Path, below: &Path) -> Result<Found, NoFile> {
    told(resolved(root, below), below)
}

#[cfg(target_os = "linux")]
fn beneath(root: &Path, below: &Path, how: rustix::fs::ResolveFlags) -> Result<File, Errno> {
    use rustix::fs::{CWD, ResolveFlags, openat2};
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat2(CWD, root, directory, Mode::empty(), how)?;
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | how;
    openat2(root, below, READ, Mode::empty(), within).map(File::from)
}

/// The same by resolving the whole path and opening what came of it, which has no link in it any more.
fn resolved(root: &Path, below: &Path) -> io::Result<File> {
    let root = root.canonicalize()?;
    let path = root.join(below).canonicalize()?;
    if !path.starts_with(&root) {
        return Err(io::ErrorKind::NotFound.into());
    }
    let flags = i32::try_from((READ | OFlags::NOFOLLOW).bits()).map_err(io::Error::other)?;
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

/// What was opened, or why nothing was.
fn told(opened: io::Result<File>, below: &Path) -> Result<Found, NoFile> {
    let file = opened.map_err(|error| refused(error, below))?;
    let stat = rustix::fs::fstat(&file).map_err(io::Error::from)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            let metadata = file.metadata()?;
            let modified = metadata.modified().ok();
            Ok(Found::File(Opened { size: metadata.len(), modified, file: Arc::new(file) }))
        }
        FileType::Directory => Ok(Found::Directory),
        _ => Err(NoFile::NotFound),
    }
}

fn refused(error: io::Error, below: &Path) -> NoFile {
    let known = error.raw_os_error().map(Errno::from_raw_os_error);
    match known {
        Some(Errno::ACCESS) => {
            tracing::warn!(
                "the file {} cannot be read by this process: it is answered as if it were not there",
                below.display()
            );
            NoFile::NotFound
        }
        // XDEV: it would lead out of the root. NXIO: a FIFO or a socket.
        Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV | Errno::NAMETOOLONG | Errno::NXIO) => {
            NoFile::NotFound
        }
        _ if error.kind() == io::ErrorKind::NotFound => NoFile::NotFound,
        _ => NoFile::Io(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn is_file(found: Result<Found, NoFile>) -> bool {
        match found {
            Ok(Found::File(_)) => true,
            Ok(Found::Directory) | Err(NoFile::NotFound) => false,
            Err(NoFile::Io(error)) => panic!("{error}"),
        }
    }

    #[test]
    fn links_lead_anywhere_below_the_root_and_nowhere_else() {
        let directory = tempfile::tempdir().expect("a directory");
        let root = directory.path().join("root");
        std::fs::create_dir_all(root.join("deep")).expect("made");
        std::fs::write(directory.path().join("secret"), "s").expect("written");
        std::fs::write(root.join("deep/file"), "f").expect("written");
        symlink("../../secret", root.join("deep/out")).expect("linked");
        symlink(directory.path().join("secret"), root.join("absolute")).expect("linked");
        symlink("..", root.join("up")).expect("linked");
        symlink("deep/file", root.join("within")).expect("linked");
        rustix::fs::mkfifoat(rustix::fs::CWD, root.join("fifo"), Mode::RWXU).expect("made");
        for (below, served) in [
            ("deep/file", true),
            ("within", true),
            ("deep/out", false),
            ("absolute", false),
            ("up/secret", false),
            ("up/root/deep/file", false),
            ("deep", false),
            ("fifo", false),
            ("deep/file/more", false),
            ("missing", false),
        ] {
            let below = Path::new(below);
            assert_eq!(is_file(blocking(&root, below)), served, "{}", below.display());
            if below != Path::new("up/root/deep/file") {
                assert_eq!(
                    is_file(told(resolved(&root, below), below)),
                    served,
                    "resolved: {}",
                    below.display()
                );
            }
        }
    }
}
