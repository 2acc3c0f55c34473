//! What is left of a connection when it no longer speaks HTTP: bytes both ways, until one side ends or both are
//! silent for too long.

use super::balance::Seat;
use crate::downstream::Upgrade;
use crate::worker::Worker;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, sleep_until, timeout};

const BUFFER: usize = 16 * 1024;

/// Joins both sides once they have switched. The worker counts the tunnel as an open connection, and ends it when
/// the thread stops.
pub(super) fn open(worker: &Rc<Worker>, client: Upgrade, service: OnUpgrade, seat: Seat, silence: Duration) {
    let guard = worker.connection();
    tokio::task::spawn_local(async move {
        match join(client, service, silence).await {
            Ok(()) => {}
            Err(error) => tracing::debug!("upgraded connection: {error}"),
        }
        drop((guard, seat));
    });
}

async fn join(mut client: Upgrade, service: OnUpgrade, silence: Duration) -> io::Result<()> {
    let upgraded = futures_util::future::try_join(&mut client.connection, service).await;
    let (to_client, to_service) = upgraded.map_err(io::Error::other)?;
    let (mut client_in, mut client_out) = tokio::io::split(TokioIo::new(to_client));
    let (mut service_in, mut service_out) = tokio::io::split(TokioIo::new(to_service));
    let active = Cell::new(Instant::now());
    let moved = || active.set(Instant::now());
    let both = futures_util::future::try_join(
        copy(&mut client_in, &mut service_out, silence, moved),
        copy(&mut service_in, &mut client_out, silence, || {
            moved();
            client.sent_piece();
        }),
    );
    let silent = async {
        loop {
            let until = active.get() + silence;
            if until <= Instant::now() {
                return;
            }
            sleep_until(until).await;
        }
    };
    tokio::select! {
        copied = both => copied.map(drop),
        () = silent => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Copies until `from` ends; `moved` is called where a piece came and where it went.
async fn copy(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    silence: Duration,
    moved: impl Fn(),
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let length = from.read(&mut buffer).await?;
        moved();
        if length == 0 {
            return to.shutdown().await;
        }
        // Whoever goes on talking but takes nothing is as good as silent.
        timeout(silence, to.write_all(&buffer[..length])).await??;
        moved();
    }
}
