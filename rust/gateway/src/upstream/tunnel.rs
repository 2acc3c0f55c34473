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
use tokio::time::{Instant, sleep_until};

const BUFFER: usize = 16 * 1024;

/// Joins both sides once they have switched. The worker counts the tunnel as an open connection, and ends it when
/// the thread stops.
pub(super) fn open(worker: &Rc<Worker>, client: Upgrade, service: OnUpgrade, seat: Seat, silence: Duration) {
    let guard = worker.connection();
    tokio::task::spawn_local(async move {
        let joined = async {
            let (client, service) = futures_util::future::try_join(client.connection, service).await?;
            Ok::<_, hyper::Error>(join(TokioIo::new(client), TokioIo::new(service), silence).await)
        };
        match joined.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!("upgraded connection: {error}"),
            Err(error) => tracing::debug!("upgrade: {error}"),
        }
        drop((guard, seat));
    });
}

async fn join<A, B>(client: A, service: B, silence: Duration) -> io::Result<()>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (mut client_in, mut client_out) = tokio::io::split(client);
    let (mut service_in, mut service_out) = tokio::io::split(service);
    let active = Cell::new(Instant::now());
    let both = futures_util::future::try_join(
        copy(&mut client_in, &mut service_out, &active),
        copy(&mut service_in, &mut client_out, &active),
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

async fn copy(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    active: &Cell<Instant>,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let length = from.read(&mut buffer).await?;
        active.set(Instant::now());
        if length == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..length]).await?;
        active.set(Instant::now());
    }
}
