//! One seat of a plugin: started, kept filled, emptied.
//!
//! A process whose socket ends is dead for the calls at that very moment; that it can be reaped comes after. One that
//! has served and died is followed at once, one that does not come so far after a pause that grows: so calls meet a
//! process again soon, and a plugin that cannot run costs nothing.

use super::Shared;
use super::child::Child;
use super::children::Vacancy;
use super::outbox::{Manner, Outbox};
use super::socket::{Came, Stream, framed};
use crate::plugin::remote::jittered;
use bytes::Bytes;
use nylon_wire::{Info, Kind, Refusal, Start, Stop, WireError};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout_at};

/// The pause before a process that did not come up, or not for long, is followed; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Service after which a death is not the process's own fault, so that it is followed at once.
const SOUND_AFTER: Duration = Duration::from_secs(1);
/// How often a process is looked at beside its socket, which something that it started may hold open.
const LOOK: Duration = Duration::from_millis(200);
/// How long a process whose socket has ended may take to be gone (writing a core, say) before it is killed.
const LEAVE: Duration = Duration::from_secs(2);
/// What there is for it at least to end after it was told to.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// When a host ends; none as long as it runs.
pub(super) type Ending = watch::Receiver<Option<Instant>>;

/// What the first process of a seat came to: what it runs, or why it cannot.
pub(super) type FirstStart = Result<Info, Unstarted>;

/// Why a process does not run its plugin.
#[derive(Clone, Debug)]
pub enum Unstarted {
    /// It says so itself, in words that stand alone.
    Refused(String),
    /// What became of it: `was killed by signal 11 (SIGSEGV) before it was ready`.
    Failed(String),
}

impl Unstarted {
    fn into_text(self) -> String {
        match self {
            Unstarted::Refused(why) => format!("cannot run it: {why}"),
            Unstarted::Failed(why) => why,
        }
    }
}

/// Keeps the seat filled until the host ends.
pub(super) async fn keep(
    shared: Arc<Shared>,
    seat: usize,
    mut ending: Ending,
    first: mpsc::Sender<FirstStart>,
) {
    let mut first = Some(first);
    let mut pause = FIRST_PAUSE;
    loop {
        let begun = Process::start(&shared, seat, &mut ending).await;
        let (why, served) = match begun {
            Begun::Ended => return,
            Begun::Failed(why) => {
                if let Some(first) = first.take() {
                    // Whoever waited for it may have given up.
                    let _ = first.send(Err(why));
                    return;
                }
                (why.into_text(), Duration::ZERO)
            }
            Begun::Up(mut process, info) => {
                shared.children.seated(seat, &process.child);
                if let Some(first) = first.take() {
                    let _ = first.send(Ok(*info));
                }
                let Some(why) = process.serve(&shared, seat, &mut ending).await else { return };
                (why, process.child.since.elapsed())
            }
        };
        let sound = served >= SOUND_AFTER;
        if sound {
            pause = FIRST_PAUSE;
        }
        let wait = if sound { Duration::ZERO } else { jittered(pause) };
        tracing::error!(plugin = %shared.name, "a process of the plugin {why}; the next one is started in {wait:.1?}");
        shared.restarts.fetch_add(1, Relaxed);
        let why = format!("the last one {why}");
        if !wait.is_zero() {
            pause = (pause * 2).min(LONGEST_PAUSE);
            shared.children.vacated(
                seat,
                None,
                Vacancy { why: why.clone(), until: Some(Instant::now() + wait) },
            );
            tokio::select! {
                () = sleep(wait) => {}
                _ = ending.changed() => return,
            }
        }
        shared.children.vacated(
            seat,
            None,
            Vacancy { why: format!("{why}, and the next one starts"), until: None },
        );
    }
}

/// What starting a process came to.
enum Begun {
    Up(Box<Process>, Box<Info>),
    Failed(Unstarted),
    /// The host has ended meanwhile.
    Ended,
}

/// A process that runs.
struct Process {
    running: Running,
    stream: Stream,
    outbox: Arc<Outbox>,
    child: Arc<Child>,
}

impl Process {
    async fn start(shared: &Shared, seat: usize, ending: &mut Ending) -> Begun {
        let failed = |why| Begun::Failed(Unstarted::Failed(why));
        let spawned = spawn(shared);
        let (mut running, mut stream, outbox) = match spawned {
            Ok((running, socket)) => match Stream::over(socket, Manner::AtOnce) {
                Ok((stream, outbox)) => (running, stream, Arc::new(outbox)),
                Err(error) => return failed(format!("cannot be spoken to: {error}")),
            },
            Err(error) => {
                let program = shared.program.first().map(|word| word.to_string_lossy()).unwrap_or_default();
                return failed(format!("cannot be started as {program}: {error}"));
            }
        };
        let pid = running.process.id();
        tokio::select! {
            announced = announcement(shared, seat, &mut stream, &outbox, &mut running) => match announced {
                Ok(info) => {
                    let child = Arc::new(Child::new(info.worker.clone(), pid, outbox.clone()));
                    Begun::Up(Box::new(Process { running, stream, outbox, child }), Box::new(info))
                }
                Err(why) => Begun::Failed(why),
            },
            _ = ending.changed() => Begun::Ended,
        }
    }

    /// Hands frames to the calls until the process or the host ends. The reason, if it was the process.
    async fn serve(&mut self, shared: &Shared, seat: usize, ending: &mut Ending) -> Option<String> {
        let broken = tokio::select! {
            broken = receive(&mut self.stream, &self.outbox, &self.child, &mut self.running) => Some(broken),
            _ = ending.changed() => None,
        };
        let leaving = if broken.is_none() { "it is being ended" } else { "it has just died" };
        let vacancy = Vacancy { why: leaving.to_owned(), until: None };
        shared.children.vacated(seat, Some(&self.child), vacancy);
        let Some(broken) = broken else {
            let until = ending.borrow_and_update().unwrap_or_else(Instant::now);
            self.retire(until).await;
            self.child.end();
            return None;
        };
        self.child.end();
        let end = self.running.ended(broken.is_some()).await;
        Some(match broken {
            Some(why) => format!("sent something that makes no sense ({why}) and was ended"),
            None => end,
        })
    }

    /// Asks the process to end, and ends it when its time is up.
    async fn retire(&mut self, until: Instant) {
        let until = until.max(Instant::now() + LAST_WORDS);
        let remaining = until.saturating_duration_since(Instant::now());
        if let Ok(stop) = framed(|buffer| Stop { remaining }.encode(buffer)) {
            // One that is gone needs no telling.
            let _ = self.outbox.send(stop);
        }
        let leave = async {
            self.stream.finish(&self.outbox).await;
            // What it still says is for nobody.
            while let Ok(Came::Frame(_)) = self.stream.next(&self.outbox).await {}
        };
        if timeout_at(until.into(), leave).await.is_err() {
            self.running.kill();
        }
        let status = self.running.ended(false).await;
        tracing::debug!("a plugin's process {status}");
    }
}

/// Reads frames until nothing comes any more, or something that makes no sense.
async fn receive(
    stream: &mut Stream,
    outbox: &Outbox,
    child: &Child,
    running: &mut Running,
) -> Option<WireError> {
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            came = stream.next(outbox) => match came {
                Ok(Came::Frame(frame)) => {
                    if let Err(why) = child.receive(frame) {
                        return Some(why);
                    }
                }
                Ok(Came::Ended) => return None,
                Err(why) => return Some(why),
            },
            _ = look.tick() => {
                if running.status().is_some() {
                    return None;
                }
            }
        }
    }
}

/// Tells a process what to run and waits for what it says.
async fn announcement(
    shared: &Shared,
    seat: usize,
    stream: &mut Stream,
    outbox: &Outbox,
    running: &mut Running,
) -> Result<Info, Unstarted> {
    let start = Start { recipe: Bytes::from((shared.recipe)(seat)) };
    let frame = framed(|buffer| start.encode(buffer));
    let frame = frame.map_err(|why| Unstarted::Failed(format!("cannot be told what to run: {why}")))?;
    // If it is gone already, its end says why.
    let _ = outbox.send(frame);
    let mut look = interval(LOOK);
    let came = loop {
        tokio::select! {
            came = stream.next(outbox) => break came,
            _ = look.tick() => {
                if running.status().is_some() {
                    break Ok(Came::Ended);
                }
            }
        }
    };
    let frame = match came {
        Ok(Came::Frame(frame)) => frame,
        Ok(Came::Ended) => {
            let end = running.ended(false).await;
            return Err(Unstarted::Failed(format!("{end} before it was ready")));
        }
        Err(why) => return Err(senseless(&why)),
    };
    let kind = nylon_wire::Envelope::peek(&frame).map_err(|why| senseless(&why))?.kind;
    if kind == Kind::Refusal {
        let refusal = Refusal::decode(&frame).map_err(|why| senseless(&why))?;
        return Err(Unstarted::Refused(refusal.why));
    }
    let info = Info::decode(&frame).map_err(|why| senseless(&why))?;
    shared.agrees(&info).map_err(Unstarted::Failed)?;
    Ok(info)
}

fn senseless(why: &WireError) -> Unstarted {
    Unstarted::Failed(format!("announced something that makes no sense: {why}"))
}

/// A process of the system, which is ended and reaped whatever becomes of its owner.
struct Running {
    process: std::process::Child,
    status: Option<Option<ExitStatus>>,
}

fn spawn(shared: &Shared) -> io::Result<(Running, StdStream)> {
    let (ours, its) = StdStream::pair()?;
    let [program, arguments @ ..] = &shared.program[..] else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "there is no program"));
    };
    let mut command = Command::new(program);
    // A group of its own: a terminal's Ctrl-C is for the gateway, which ends it when its last call is over.
    command.args(arguments).stdin(Stdio::from(OwnedFd::from(its))).process_group(0);
    Ok((Running { process: command.spawn()?, status: None }, ours))
}

impl Running {
    /// How it ended, where it has: nothing where somebody else has reaped it.
    fn status(&mut self) -> Option<Option<ExitStatus>> {
        if self.status.is_none() {
            self.status = match self.process.try_wait() {
                Ok(None) => None,
                Ok(Some(status)) => Some(Some(status)),
                Err(_) => Some(None),
            };
        }
        self.status
    }

    fn kill(&mut self) {
        // One that is gone needs no signal.
        let _ = self.process.kill();
    }

    /// Waits for its end, and says how it ended.
    async fn ended(&mut self, at_once: bool) -> String {
        let until = Instant::now() + if at_once { Duration::ZERO } else { LEAVE };
        let mut killed = false;
        loop {
            if let Some(status) = self.status() {
                return match status {
                    Some(_) if killed => "hung at its end and was killed".to_owned(),
                    status => describe(status),
                };
            }
            if Instant::now() >= until && !killed {
                self.kill();
                killed = true;
            }
            sleep(Duration::from_millis(2)).await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.status().is_none() {
            self.kill();
            // A process that was killed can be reaped, unless the system holds it in a call.
            let reaped = self.process.wait();
            tracing::debug!("a plugin's process was ended: {reaped:?}");
        }
    }
}

fn describe(status: Option<ExitStatus>) -> String {
    let Some(status) = status else { return "ended".to_owned() };
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with code {code}"),
        // `signal: 11 (SIGSEGV) (core dumped)`
        (None, Some(_)) => format!("was killed by {}", status.to_string().replacen("signal: ", "signal ", 1)),
        (None, None) => format!("ended: {status}"),
    }
}
