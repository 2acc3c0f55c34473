package worker

import (
	"sync/atomic"
	"time"
)

// moment is a point of the worker's clock, in nanoseconds; 0 is before everything.
type moment int64

// started is before the first moment.
var started = time.Now().Add(-time.Second)

// suspended is how much further the clock is that goes on while the machine is suspended: that is the longest kind of standing
// still. The other one costs no system call, and sees every other kind.
var suspended atomic.Int64

// now is a point of the worker's clock.
func now() moment { return moment(int64(time.Since(started)) + suspended.Load()) }

func (m moment) since(earlier moment) time.Duration { return time.Duration(m - earlier) }

const (
	// stall is the distance between two marks that counts as standing still. A gateway waits 250 ms for an
	// acknowledgement; what is on its way counts for it too, hence less.
	stall = 200 * time.Millisecond
	// tick is how often the clock is looked at.
	tick = 50 * time.Millisecond
)

// watch notices that the process stood still: stopped, suspended, or without a processor for long. For its gateway it was dead
// then, and its calls went to other workers. So a mark is left at each tick and each message, and whoever is about to begin
// a call looks at the distance from the last one: what had come before a gap must be claimed first.
type watch struct {
	beat    atomic.Int64
	resumed atomic.Int64
	// catching: messages of before the last stall may still be in the socket, or in a queue.
	catching atomic.Bool
}

func (w *watch) start() {
	suspended.Store(sinceBoot() - int64(time.Since(started)))
	w.beat.Store(int64(now()))
}

// awake is look after a wait, in which the machine may have been suspended.
func (w *watch) awake() (time.Duration, bool) {
	suspended.Store(sinceBoot() - int64(time.Since(started)))
	return w.look()
}

// look leaves a mark. It gives how long the process stood still, if it did.
func (w *watch) look() (time.Duration, bool) {
	at := now()
	gap := at.since(moment(w.beat.Load()))
	if gap <= stall {
		w.beat.Store(int64(at))
		return 0, false
	}
	// In this order: whoever sees the new mark sees the stall too.
	w.resumed.Store(int64(at))
	w.catching.Store(true)
	w.beat.Store(int64(at))
	return gap, true
}

// received is since when a message that is read now has surely been here.
func (w *watch) received() moment {
	if w.catching.Load() {
		return 0
	}
	return moment(w.beat.Load())
}

// stalledSince tells whether there was a stall since, noticed or not yet.
func (w *watch) stalledSince(since moment) bool {
	return since < moment(w.resumed.Load()) || now().since(moment(w.beat.Load())) > stall
}

// caughtUp: all that was sent before the stall that ended at resumed has been received. Not so if there was another one.
func (w *watch) caughtUp(resumed int64) bool {
	if w.resumed.Load() != resumed {
		return false
	}
	w.catching.Store(false)
	if w.resumed.Load() != resumed {
		w.catching.Store(true)
		return false
	}
	return true
}
