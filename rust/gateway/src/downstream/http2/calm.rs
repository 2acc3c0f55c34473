//! How much a client may send that is neither a request nor its body.
//!
//! A PING, a change of settings or a window opened by one byte costs a client a few bytes and us a look, an answer or
//! both; a request that is taken back at once costs a whole exchange (CVE-2019-9512, CVE-2019-9515, CVE-2023-44487).
//! h2 bounds what such frames hold in memory, and by itself ends a connection that sends too many empty or tiny DATA
//! frames, continued fields, malformed messages or requests taken back before they were looked at. What is left is
//! counted here. Both counts fill up again with time and with honest use: so a client that only asks, reads and now
//! and then gives up never meets them, however long it stays.

use super::frames::Kind;
use std::cell::Cell;
use tokio::time::Instant;

/// Frames that are no part of a message, at once and each second beyond what exchanges account for.
const FRAMES: (u32, u32) = (2_000, 100);
/// Requests taken back, at once and each second beyond as many as were answered to the end.
const RESETS: (u32, u32) = (500, 50);
/// Frames that a request, and each piece of a response, may come with: windows opened for the stream and the
/// connection, a ping for the distance, a priority.
const WITH_EACH: u32 = 4;

/// What a client has left.
pub(super) struct Calm {
    frames: Allowance,
    resets: Allowance,
}

impl Calm {
    pub(super) fn new() -> Calm {
        Calm { frames: Allowance::new(FRAMES), resets: Allowance::new(RESETS) }
    }

    /// Counts a frame.
    ///
    /// # Errors
    /// What the client does too much of.
    pub(super) fn count(&self, kind: Kind) -> Result<(), &'static str> {
        match kind {
            Kind::Headers => self.frames.give(WITH_EACH),
            // h2 has bounds for these, or ends the connection at the first.
            Kind::Data | Kind::Continuation | Kind::PushPromise | Kind::GoAway => {}
            Kind::ResetStream if !self.resets.take() => return Err("too many requests taken back"),
            Kind::ResetStream => {}
            Kind::Settings | Kind::Other if !self.frames.take() => {
                return Err("too many frames of no message");
            }
            Kind::Settings | Kind::Other => {}
        }
        Ok(())
    }

    /// A piece of a response is on its way.
    pub(super) fn sent_piece(&self) {
        self.frames.give(WITH_EACH);
    }

    /// A request was answered to the end.
    pub(super) fn answered(&self) {
        self.resets.give(1);
    }
}

/// A number of things that may be done. It fills up again with time, which is looked at only once it is used up.
struct Allowance {
    left: Cell<u32>,
    filled: Cell<Instant>,
    most: u32,
    each_second: u32,
}

impl Allowance {
    fn new((most, each_second): (u32, u32)) -> Allowance {
        Allowance { left: Cell::new(most), filled: Cell::new(Instant::now()), most, each_second }
    }

    fn give(&self, more: u32) {
        self.left.set(self.left.get().saturating_add(more).min(self.most));
    }

    fn take(&self) -> bool {
        if self.left.get() == 0 {
            let now = Instant::now();
            let earned = (now - self.filled.get()).as_secs_f64() * f64::from(self.each_second);
            if earned < 1.0 {
                return false;
            }
            // A number that is too large becomes the largest.
            self.give(earned as u32);
            self.filled.set(now);
        }
        self.left.set(self.left.get() - 1);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn until_refused(calm: &Calm, kind: Kind) -> u32 {
        (0..1_000_000).take_while(|_| calm.count(kind).is_ok()).count() as u32
    }

    /// Lets so much time pass for an allowance.
    fn pass(allowance: &Allowance, time: Duration) {
        allowance.filled.set(allowance.filled.get().checked_sub(time).expect("a moment"));
    }

    #[test]
    fn what_is_used_up_comes_back_with_time() {
        let calm = Calm::new();
        assert!(until_refused(&calm, Kind::Other) >= FRAMES.0);
        pass(&calm.frames, Duration::from_secs(3));
        let more = until_refused(&calm, Kind::Settings);
        assert!((3 * FRAMES.1..FRAMES.0).contains(&more), "{more}");
        pass(&calm.frames, Duration::from_secs(60));
        let all = until_refused(&calm, Kind::Other);
        assert!((FRAMES.0..2 * FRAMES.0).contains(&all), "{all}");
        assert!(until_refused(&calm, Kind::ResetStream) >= RESETS.0);
    }

    #[test]
    fn an_honest_client_never_meets_a_limit() {
        let calm = Calm::new();
        for _ in 0..100_000 {
            assert!(calm.count(Kind::Headers).is_ok());
            for _ in 0..8 {
                assert!(calm.count(Kind::Other).is_ok());
            }
            calm.sent_piece();
            assert!(calm.count(Kind::ResetStream).is_ok());
            calm.answered();
        }
    }
}
