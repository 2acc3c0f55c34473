//! Who may run a call that must not run twice.
//!
//! A worker claims a call that was sent with `cl`, and one that it had received before a stall of its own. The first
//! claim wins. What was granted is never taken back from a worker that runs: a later claim of it is granted again,
//! since the grant may have been lost.

use nylon_wire::Text;

/// The claims of one call.
#[derive(Debug)]
pub(super) struct Claims {
    /// The call was sent with `cl`: nobody runs it without a grant.
    exclusive: bool,
    granted: Option<Text>,
}

impl Claims {
    pub(super) fn new(exclusive: bool) -> Claims {
        Claims { exclusive, granted: None }
    }

    /// Whether the call is sent with `cl`.
    pub(super) fn is_exclusive(&self) -> bool {
        self.exclusive
    }

    /// Whether `claimer` may run the call. `holder` is the worker that acknowledged the latest attempt: without
    /// `cl` it runs the call unasked, so a worker that comes late is refused.
    pub(super) fn decide(&mut self, claimer: &Text, holder: Option<&Text>) -> bool {
        if let Some(granted) = &self.granted {
            return granted == claimer;
        }
        if !self.exclusive && holder.is_some_and(|holder| holder != claimer) {
            return false;
        }
        self.granted = Some(claimer.clone());
        true
    }

    /// The call goes to another worker, because the one that had it is lost. One that must not run twice stays
    /// with whoever was granted it.
    pub(super) fn move_on(&mut self) {
        if !self.exclusive {
            self.granted = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(name: u8) -> Text {
        Text::from(format!("w{name}").as_str())
    }

    #[test]
    fn a_worker_that_was_stopped_is_refused_what_another_has_taken_meanwhile() {
        let mut claims = Claims::new(false);
        assert!(!claims.decide(&text(1), Some(&text(2))));
        assert!(claims.decide(&text(2), Some(&text(2))));
        let mut untouched = Claims::new(false);
        assert!(untouched.decide(&text(1), None), "nobody else has it");
        assert!(untouched.decide(&text(1), None), "the grant may have been lost");
        assert!(!untouched.decide(&text(2), None));
        untouched.move_on();
        assert!(untouched.decide(&text(2), None), "the first one is lost");
    }

    proptest! {
        #[test]
        fn at_most_one_worker_runs_a_call_that_must_not_run_twice(
            steps in prop::collection::vec((0u8..4, prop::option::of(0u8..4), any::<bool>()), 0..40),
        ) {
            let mut claims = Claims::new(true);
            let mut granted = std::collections::HashSet::new();
            for (claimer, holder, moved) in steps {
                if moved {
                    claims.move_on();
                }
                if claims.decide(&text(claimer), holder.map(text).as_ref()) {
                    granted.insert(claimer);
                }
            }
            prop_assert!(granted.len() <= 1);
        }
    }
}
