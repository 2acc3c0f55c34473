//! When to look after a call that was sent and is not answered.
//!
//! A call that nobody took within [`ACK_WITHIN`] is sent again. One that was taken is asked after from
//! [`PROBE_AFTER`] on, ever more rarely, so that a handler that takes its time is not flooded with questions. What is
//! due when is decided here, without a clock of its own; attempt.rs does it.

use std::time::{Duration, Instant};

/// A call that was taken and not answered is asked after once it is this old.
pub(super) const PROBE_AFTER: Duration = Duration::from_millis(100);
/// A worker that is there takes a call, or says that it has no room, within this time.
pub(super) const ACK_WITHIN: Duration = Duration::from_millis(250);
/// A worker that is there answers a question within this time.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_millis(250);
/// A look that comes later than this after its time means that this side stood still.
pub(super) const STALL: Duration = Duration::from_millis(50);
/// The pause after the first answer; it doubles up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const MAX_PAUSE: Duration = Duration::from_secs(1);
/// The pause after "nobody listens" while workers are coming back from an outage.
const SETTLING_PAUSE: Duration = Duration::from_millis(50);

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing yet.
    Nothing,
    /// Nobody has taken the call, and it is time to find out who does not answer.
    Roll,
    /// Nobody has taken the call in time.
    Silence,
    /// The worker that has the call is to be asked for it.
    Probe,
    /// The worker did not answer the question.
    NoAnswer,
}

/// The watch over one attempt.
#[derive(Debug)]
pub(super) struct Vigil {
    sent: Instant,
    rolled: bool,
    /// It can go nowhere else, so only its end is waited for.
    patient: bool,
    /// When the question that is open was asked, and which message of the call it was.
    asked: Option<(u32, Instant)>,
    next: Instant,
    pause: Duration,
}

impl Vigil {
    /// Over a call that is sent now.
    pub(super) fn over_call(now: Instant, patient: bool) -> Vigil {
        let next = now + PROBE_AFTER;
        Vigil { sent: now, rolled: false, patient, asked: None, next, pause: FIRST_PAUSE }
    }

    /// Over a call that a worker took before the connection was lost: it is asked at once.
    pub(super) fn over_taken(now: Instant, patient: bool) -> Vigil {
        Vigil { next: now, rolled: true, ..Vigil::over_call(now, patient) }
    }

    /// When to look again, if nothing comes in before.
    pub(super) fn wake_at(&self, taken: bool) -> Option<Instant> {
        match (self.asked, taken) {
            (Some((_, at)), _) => Some(at + ANSWER_WITHIN),
            (None, true) => Some(self.next),
            (None, false) if !self.rolled => Some(self.sent + PROBE_AFTER),
            (None, false) => (!self.patient).then_some(self.sent + ACK_WITHIN),
        }
    }

    /// What is due now.
    pub(super) fn due(&mut self, now: Instant, taken: bool) -> Due {
        match (self.asked, taken) {
            (Some((_, at)), _) if now < at + ANSWER_WITHIN => Due::Nothing,
            (Some(_), _) => {
                self.asked = None;
                self.put_off(now, MAX_PAUSE);
                Due::NoAnswer
            }
            (None, true) if now >= self.next => Due::Probe,
            (None, true) => Due::Nothing,
            (None, false) if !self.patient && now >= self.sent + ACK_WITHIN => Due::Silence,
            (None, false) if !self.rolled && now >= self.sent + PROBE_AFTER => {
                self.rolled = true;
                Due::Roll
            }
            (None, false) => Due::Nothing,
        }
    }

    /// This side stood still for a while, its ears included: what it heard nothing of in that time says nothing.
    pub(super) fn excuse(&mut self, stall: Duration) {
        self.sent += stall;
        self.next += stall;
        if let Some((_, at)) = &mut self.asked {
            *at += stall;
        }
    }

    /// The call can go nowhere else from now on.
    pub(super) fn be_patient(&mut self) {
        self.patient = true;
    }

    /// The worker was asked, with this message of the call.
    pub(super) fn asked(&mut self, message: u32, now: Instant) {
        self.asked = Some((message, now));
    }

    /// Whether this message of the call is the question that is open.
    pub(super) fn is_question(&self, message: u32) -> bool {
        self.asked.is_some_and(|(asked, _)| asked == message)
    }

    /// A worker says that it has the call.
    pub(super) fn taken(&mut self, message: u32, now: Instant) {
        if self.is_question(message) {
            self.asked = None;
            self.put_off(now, self.pause);
            self.pause = (self.pause * 2).min(MAX_PAUSE);
        } else {
            self.put_off(now, PROBE_AFTER);
        }
    }

    /// Nobody listens where the worker was asked, but it may be on its way back.
    pub(super) fn settle(&mut self, now: Instant) {
        self.asked = None;
        self.next = now + SETTLING_PAUSE;
    }

    fn put_off(&mut self, now: Instant, pause: Duration) {
        self.next = self.next.max(now + pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_call_that_nobody_takes_is_sent_again_after_everybody_was_asked() {
        let start = Instant::now();
        let mut vigil = Vigil::over_call(start, false);
        assert_eq!(vigil.wake_at(false), Some(start + ms(100)));
        assert_eq!(vigil.due(start + ms(99), false), Due::Nothing);
        assert_eq!(vigil.due(start + ms(100), false), Due::Roll);
        assert_eq!(vigil.due(start + ms(101), false), Due::Nothing);
        assert_eq!(vigil.wake_at(false), Some(start + ms(250)));
        assert_eq!(vigil.due(start + ms(250), false), Due::Silence);
        let mut patient = Vigil::over_call(start, true);
        assert_eq!(patient.due(start + ms(100), false), Due::Roll);
        assert_eq!((patient.due(start + ms(5000), false), patient.wake_at(false)), (Due::Nothing, None));
    }

    #[test]
    fn a_long_handler_is_asked_after_ever_more_rarely() {
        let start = Instant::now();
        let mut vigil = Vigil::over_call(start, false);
        let (mut now, mut asked) = (start, Vec::new());
        while now < start + ms(10_000) {
            now = vigil.wake_at(true).expect("a taken call is looked after");
            assert_eq!(vigil.due(now, true), Due::Probe);
            asked.push((now - start).as_millis());
            vigil.asked(7, now);
            assert_eq!(vigil.due(now + ms(1), true), Due::Nothing);
            vigil.taken(7, now + ms(1));
        }
        assert_eq!(asked[..5], [100, 301, 702, 1503, 2504]);
        assert!(asked.len() < 15, "{asked:?}");
    }

    #[test]
    fn a_question_without_an_answer_is_noticed_once() {
        let start = Instant::now();
        let mut vigil = Vigil::over_call(start, false);
        assert_eq!(vigil.due(start + ms(100), true), Due::Probe);
        vigil.asked(2, start + ms(100));
        assert!(vigil.is_question(2) && !vigil.is_question(1));
        assert_eq!(vigil.wake_at(true), Some(start + ms(350)));
        assert_eq!(vigil.due(start + ms(350), true), Due::NoAnswer);
        assert_eq!(vigil.due(start + ms(351), true), Due::Nothing);
    }

    #[test]
    fn a_stall_of_this_side_is_not_the_workers() {
        let start = Instant::now();
        let mut untaken = Vigil::over_call(start, false);
        untaken.excuse(ms(1000));
        assert_eq!(untaken.due(start + ms(1000), false), Due::Nothing);
        assert_eq!(untaken.due(start + ms(1250), false), Due::Silence);
        let mut asked = Vigil::over_call(start, false);
        asked.asked(2, start + ms(100));
        asked.excuse(ms(1000));
        assert_eq!(asked.due(start + ms(1100), true), Due::Nothing);
        assert_eq!(asked.due(start + ms(1350), true), Due::NoAnswer);
    }

    #[test]
    fn a_late_ack_gives_the_handler_its_time() {
        let start = Instant::now();
        let mut vigil = Vigil::over_call(start, false);
        vigil.taken(1, start + ms(240));
        assert_eq!(vigil.wake_at(true), Some(start + ms(340)));
    }
}
