package worker

import (
	"errors"
	"fmt"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/AssetsArt/nylon/sdk/go/internal/wire"
)

// keptScratch is the size of a buffer that is kept for the next frame.
const keptScratch = 64 << 10

// scratch is where a frame is written before its size is known; the connection copies it.
var scratch = sync.Pool{New: func() any { return new([]byte) }}

// publish writes a frame and sends it. A message that is larger than the server's max_payload is refused here, since the server
// would cut the connection.
func (w *Worker) publish(subject string, frame func(out []byte) ([]byte, error)) error {
	buffer := scratch.Get().(*[]byte)
	defer scratch.Put(buffer)
	out, err := frame((*buffer)[:0])
	if cap(out) <= keptScratch {
		*buffer = out
	}
	if err != nil {
		return err
	}
	return w.send(subject, out)
}

func (w *Worker) send(subject string, frame []byte) error {
	if subject == "" {
		return nil
	}
	err := w.conn.Publish(subject, frame)
	if err != nil && !errors.Is(err, nats.ErrMaxPayload) {
		w.counters.dropped.Add(1)
	}
	return err
}

// sign says something about a call beside its reply. One that cannot be sent is counted, and asked for again.
func (w *Worker) sign(kind wire.Kind, id wire.CallID, subject string) {
	_ = w.publish(subject, func(out []byte) ([]byte, error) { return wire.AppendSign(out, kind, id, w.ID), nil })
}

// tell answers what is known of a call: that it is here, what was replied, or that there is nothing to tell (any more).
func (w *Worker) tell(id wire.CallID, subject string) {
	w.mu.Lock()
	_, running := w.here[id]
	kept, _ := w.known.look(id)
	reply := append([]byte(nil), kept...)
	w.mu.Unlock()
	switch {
	case running:
		w.sign(wire.KindAck, id, subject)
	case len(reply) > 0 && !errors.Is(w.send(subject, reply), nats.ErrMaxPayload):
		w.counters.repeated.Add(1)
	default:
		w.sign(wire.KindUnknown, id, subject)
	}
}

// refuseMessage answers something that is no call, so that nobody waits for it. What is known of a call of that id stays.
func (w *Worker) refuseMessage(id wire.CallID, subject string, why error) {
	failure := &wire.Failure{Kind: wire.Protocol, Message: fmt.Sprintf("the worker cannot read the call: %v", why)}
	reply := wire.Reply{ID: id, Outcome: wire.Failed, Failure: failure}
	_ = w.publish(subject, func(out []byte) ([]byte, error) { return reply.Append(out, w.ID) })
}

// ended notes that a call is over, with the reply that is given again to whoever asks.
func (w *Worker) over(id wire.CallID, reply []byte) {
	w.mu.Lock()
	delete(w.here, id)
	w.known.end(id, reply, now())
	w.mu.Unlock()
}

// forget drops a call that has not run here, and may come again.
func (w *Worker) forget(id wire.CallID) {
	w.mu.Lock()
	delete(w.here, id)
	w.mu.Unlock()
}

// answer sends a call's reply and keeps it: also one that there is no room for on the way out, since it will be asked for.
func (c *Call) answer(reply wire.Reply) {
	w := c.worker
	reply.ID, reply.Shape = c.frame.ID, c.shape
	w.counters.answered(reply.Failure, c.came)
	send := func() error {
		return w.publish(c.reply, func(out []byte) ([]byte, error) {
			out, err := reply.Append(out, w.ID)
			if err != nil {
				return out, err
			}
			if limit := w.maxPayload(); len(out) > limit {
				return out, fmt.Errorf("the reply is over the broker's max_payload of %d bytes: set fewer headers", limit)
			}
			w.over(c.frame.ID, out)
			return out, nil
		})
	}
	err := send()
	if err == nil || c.isOver() {
		return
	}
	failure := &wire.Failure{Kind: wire.Protocol, Message: fmt.Sprintf("the reply cannot be sent: %v", err)}
	w.counters.answered(failure, c.came)
	reply.Outcome, reply.Failure, reply.Ops = wire.Failed, failure, nil
	// An error's text is cut to what always fits.
	if err := send(); err != nil && !c.isOver() {
		w.log.Error("an error reply could not be sent", "call", c.frame.ID, "error", err)
		w.over(c.frame.ID, nil)
	}
}

func (c *Call) isOver() bool { return c.worker.find(c.frame.ID) != c }
