package worker

import (
	"time"

	"github.com/nats-io/nats.go"

	"github.com/AssetsArt/nylon/sdk/go/internal/wire"
)

// Stop leaves the group, finishes what runs, and only then lets the connection go. What is not finished within the drain time, or
// when cut is closed, is given up.
func (w *Worker) Stop(cut <-chan struct{}) {
	deadline := time.Now().Add(w.DrainTimeout)
	w.mu.Lock()
	serving := w.serving
	w.mu.Unlock()
	if serving && w.conn.IsConnected() {
		// No answer to $SRV.INFO may come after leave: it would bring the worker back.
		for _, subscription := range w.service {
			w.drained(subscription.Unsubscribe())
		}
		w.drained(w.publish(w.subjects.Announce, func(out []byte) ([]byte, error) {
			return wire.AppendLeave(out, w.ID, w.Group), nil
		}))
		w.drain(w.calls)
		w.finish(deadline, cut)
		w.drain(w.own)
		// What was on its way to the own subject has come with the drain: of a gateway that did not know yet, or the next phase of
		// an exchange.
	}
	w.finish(deadline, cut)
	if w.conn.IsConnected() {
		w.drained(w.conn.FlushTimeout(2 * time.Second))
	}
	w.halt()
	w.conn.Close()
	w.owners.Wait()
}

// drain gives a subscription up, and returns when all that had come for it has been looked at.
func (w *Worker) drain(subscription *nats.Subscription) {
	w.drained(subscription.Drain())
	w.drained(w.conn.FlushTimeout(2 * time.Second))
	w.passed()
}

// drained says that the broker was away on the way out: the connection that closes tells it the same.
func (w *Worker) drained(err error) {
	if err != nil {
		w.log.Warn("draining without the broker", "error", err)
	}
}

// finish waits until nothing runs and no session is open.
func (w *Worker) finish(deadline time.Time, cut <-chan struct{}) {
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		w.mu.Lock()
		running, open := w.slots, len(w.sessions.open)
		w.mu.Unlock()
		if running == 0 && open == 0 {
			return
		}
		select {
		case <-ticker.C:
			if time.Now().Before(deadline) {
				continue
			}
			w.log.Warn("the drain time is over", "calls", running, "sessions", open, "given", w.DrainTimeout)
		case <-cut:
			w.log.Warn("asked to stop at once", "calls", running, "sessions", open)
		}
		w.giveUp()
		return
	}
}

func (w *Worker) giveUp() {
	w.mu.Lock()
	calls := make([]*Call, 0, len(w.here))
	for _, call := range w.here {
		calls = append(calls, call)
	}
	w.sessions = sessions{}
	w.mu.Unlock()
	for _, call := range calls {
		call.giveUp(&wire.Failure{Kind: wire.Unavailable, Message: "the worker stops, and its drain time is over"})
	}
}
