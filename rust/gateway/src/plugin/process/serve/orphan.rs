//! No process outlives its gateway, whatever its handlers do.
//!
//! A gateway that is gone has closed the socket; the thread that reads it may be in the middle of a handler then, or the
//! plugin in its `initialize`. So a thread of its own waits for nothing but that, and for a moment in which the process
//! may end by itself.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Signal, getpid, kill_process};
use std::io;
use std::os::unix::net::UnixStream as StdStream;
use std::time::Duration;

/// The time for an end in good order.
const GRACE: Duration = Duration::from_secs(2);

/// Watches the other end of `socket`.
pub(super) fn watch(socket: &StdStream) -> io::Result<()> {
    let socket = socket.try_clone()?;
    let wait = move || {
        loop {
            // The end of the other side is told without being asked for.
            match poll(&mut [PollFd::new(&socket, PollFlags::empty())], None) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => break,
                Err(error) => return tracing::error!("cannot watch over the gateway's life: {error}"),
            }
        }
        std::thread::sleep(GRACE);
        let killed = kill_process(getpid(), Signal::KILL);
        tracing::error!("a plugin's process without its gateway cannot end itself: {killed:?}");
    };
    std::thread::Builder::new().name("nylon-orphan".to_owned()).spawn(wait).map(drop)
}
