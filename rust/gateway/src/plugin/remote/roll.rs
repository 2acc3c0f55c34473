//! How a group's workers are followed: what they say unasked, and what they answer.
//!
//! Everybody is asked (`$SRV.INFO`) at connect, then every [`ASK_EVERY`], and at once when a call to the group was
//! not taken in time: who is frozen cannot be seen from the call, since the queue group does not tell whom it
//! picked. Who does not answer within [`ANSWER_WITHIN`] is suspect; a suspect is asked every second on its own
//! subject, where the server says if it is gone. Not answering for [`FORGET_AFTER`] takes a worker out.

use super::ledger::NOBODY;
use super::life::Life;
use super::vigil::{ANSWER_WITHIN, STALL};
use super::workers::Group;
use async_nats::{Message, StatusCode};
use bytes::Bytes;
use futures_util::StreamExt;
use nylon_wire::{CallId, Envelope, Info, Kind, Leave, Probe};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until};

/// How often a group's workers are asked what they are.
pub(super) const ASK_EVERY: Duration = Duration::from_secs(5);
/// How often one that does not answer is asked, on its own subject.
const ASK_SUSPECTS_EVERY: Duration = Duration::from_secs(1);
/// How often all are asked at most.
const ASK_AT_MOST_EVERY: Duration = Duration::from_millis(100);
/// How long a worker may stay silent: three questions, and a little.
pub(super) const FORGET_AFTER: Duration = Duration::from_secs(16);

/// Keeps a group up to date for as long as the connection and the group live.
pub(super) async fn watch(life: Arc<Life>, group: Weak<Group>) -> Result<(), async_nats::Error> {
    let Some((subjects, ask)) = group.upgrade().map(|group| (group.subjects.clone(), group.ask.clone()))
    else {
        return Ok(());
    };
    let inbox = life.client.new_inbox();
    let mut announcements = life.client.subscribe(subjects.workers.clone()).await?;
    let mut answers = life.client.subscribe(format!("{inbox}.*")).await?;
    if let Some(group) = group.upgrade() {
        group.pardon();
    }
    let question = question();
    let mut tick = every(ASK_EVERY);
    let mut suspect_tick = every(ASK_SUSPECTS_EVERY);
    let mut last_asked: Option<Instant> = None;
    let mut open_roll: Option<(u32, Instant)> = None;
    loop {
        let wanted = async {
            ask.notified().await;
            if let Some(asked) = last_asked {
                sleep_until(asked + ASK_AT_MOST_EVERY).await;
            }
        };
        let due = async {
            match open_roll {
                Some((_, until)) => sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        let happened = tokio::select! {
            Some(message) = announcements.next() => Happened::Announced(message),
            Some(message) = answers.next() => Happened::Answered(message),
            () = due => Happened::RollOver,
            () = wanted => Happened::Ask,
            _ = tick.tick() => Happened::Ask,
            _ = suspect_tick.tick() => Happened::AskSuspects,
        };
        let Some(group) = group.upgrade() else { return Ok(()) };
        match happened {
            Happened::Announced(message) => announced(&group, &message),
            Happened::Answered(message) => answered(&group, &message, inbox.len() + 1),
            Happened::RollOver => {
                if let Some((roll, until)) = open_roll.take() {
                    let late = until.elapsed();
                    if late > STALL {
                        // This side stood still: the answers are still to be read.
                        open_roll = Some((roll, until + late + STALL));
                    } else {
                        group.end_roll(roll, life.is_settling());
                    }
                }
            }
            Happened::Ask => {
                group.forget(FORGET_AFTER);
                let roll = group.call_roll();
                last_asked = Some(Instant::now());
                // One that is open already ends in its own time.
                open_roll = open_roll.or(Some((roll, Instant::now() + ANSWER_WITHIN)));
                life.client.publish_with_reply(subjects.info(), format!("{inbox}.0"), Bytes::new()).await?;
            }
            Happened::AskSuspects => {
                for suspect in group.suspects() {
                    let reply_to = format!("{inbox}.{}", suspect.number);
                    let subject = suspect.subject.clone();
                    life.client.publish_with_reply(subject, reply_to, question.clone()).await?;
                }
            }
        }
    }
}

/// What a watch wakes up for.
enum Happened {
    Announced(Message),
    Answered(Message),
    RollOver,
    Ask,
    AskSuspects,
}

fn every(period: Duration) -> Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Asks one worker after a call that never was, which it answers with `unknown`.
fn question() -> Bytes {
    let mut frame = Vec::new();
    let probe = Probe { id: CallId([0; 16]) };
    probe.encode(&mut frame).expect("a probe is far below every limit");
    frame.into()
}

fn announced(group: &Group, message: &Message) {
    let done = match Envelope::peek(&message.payload).map(|seen| seen.kind) {
        Ok(Kind::Info) => Info::decode(&message.payload).map(|info| group.joined(info)),
        Ok(Kind::Leave) => Leave::decode(&message.payload).map(|leave| group.left(leave.worker.as_str())),
        // A later version's announcement of something else.
        Ok(_) | Err(nylon_wire::WireError::Kind { .. }) => Ok(()),
        Err(why) => Err(why),
    };
    if let Err(why) = done {
        group.counters.misbehaved(NOBODY, "a malformed announcement", &why);
    }
}

/// An answer of a NATS micro service (one that is not a Nylon worker has none of our keys), of a worker that was
/// asked on its own subject, or of the server for one that is gone.
fn answered(group: &Group, message: &Message, prefix: usize) {
    let number = message.subject.as_str().get(prefix..).and_then(|number| number.parse().ok()).unwrap_or(0);
    if number != 0 {
        let Some(peer) = group.numbered(number) else { return };
        match message.status {
            Some(StatusCode::NO_RESPONDERS) => group.gone(&peer),
            _ => group.heard(&peer),
        }
        return;
    }
    let Ok(info) = serde_json::from_slice::<serde_json::Value>(&message.payload) else { return };
    let Some(metadata) = info.get("metadata").and_then(|metadata| metadata.as_object()) else { return };
    let pairs = metadata.iter().filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)));
    if let Ok(info) = Info::from_metadata(pairs) {
        group.joined(info);
    }
}
