//! A file whose content is taken in again when it changes.
//!
//! A file that has become unreadable or wrong changes nothing: what it held before goes on, and the log says why.

use super::background::{Background, Task};
use crate::stamp::{LOOK_EVERY, Stamp};
use arc_swap::ArcSwap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// Reads what a file holds; an error is the whole text for the log.
pub(crate) type Reader<T> = fn(&Path) -> Result<T, String>;

/// What a file holds, as it was last right.
pub(crate) struct Watched<T> {
    value: ArcSwap<T>,
    task: OnceLock<Task>,
}

impl<T: Send + Sync + 'static> Watched<T> {
    /// Reads the file at `path` now, and again whenever it changes.
    ///
    /// # Errors
    /// What `read` says of it now.
    pub(crate) fn start(
        background: &Background,
        path: PathBuf,
        read: Reader<T>,
    ) -> Result<Arc<Watched<T>>, String> {
        // The stamp first: what changes between the two is seen at the next look.
        let mut known = Stamp::of(&path);
        let value = ArcSwap::from_pointee(read(&path)?);
        let watched = Arc::new(Watched { value, task: OnceLock::new() });
        let weak = Arc::downgrade(&watched);
        let task = background.spawn(async move {
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                let place = path.clone();
                let look = tokio::task::spawn_blocking(move || {
                    let now = Stamp::of(&place);
                    (now, (now != known).then(|| read(&place)))
                });
                let Ok((now, read)) = look.await else { continue };
                let Some(watched) = weak.upgrade() else { return };
                known = now;
                match read {
                    None => {}
                    Some(Ok(value)) => {
                        watched.value.store(Arc::new(value));
                        tracing::info!("took in `{}` again, since it has changed", path.display());
                    }
                    Some(Err(why)) => {
                        tracing::error!("what `{}` held before stays in use: {why}", path.display());
                    }
                }
            }
        });
        // It was made here, so nobody has set it.
        let _ = watched.task.set(task);
        Ok(watched)
    }

    /// What the file holds.
    pub(crate) fn get(&self) -> Arc<T> {
        self.value.load_full()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::time::{Duration, Instant};

    fn number(path: &Path) -> Result<u32, String> {
        fs::read_to_string(path)
            .map_err(|why| why.to_string())?
            .trim()
            .parse()
            .map_err(|_| "no number".into())
    }

    fn until(what: impl Fn() -> bool) {
        let end = Instant::now() + Duration::from_secs(30);
        while !what() {
            assert!(Instant::now() < end, "it never came");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn a_changed_file_is_taken_in_and_a_broken_one_is_not() {
        let background = Background::start().expect("a thread");
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("number");
        assert!(Watched::start(&background, path.clone(), number).is_err());
        fs::write(&path, "1").expect("write");
        let watched = Watched::start(&background, path.clone(), number).expect("a number");
        assert_eq!(*watched.get(), 1);
        fs::write(&path, "2").expect("write");
        until(|| *watched.get() == 2);
        fs::write(&path, "x").expect("write");
        std::thread::sleep(LOOK_EVERY * 2);
        fs::remove_file(&path).expect("remove");
        assert_eq!(*watched.get(), 2);
        let other = directory.path().join("other");
        fs::write(&other, "3").expect("write");
        fs::rename(&other, &path).expect("rename");
        until(|| *watched.get() == 3);
    }
}
