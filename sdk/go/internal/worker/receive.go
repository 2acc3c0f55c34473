package worker

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/AssetsArt/nylon/sdk/go/internal/wire"
)

// receiving looks at each message in the order in which they came. It never waits for a handler.
func (w *Worker) receiving() {
	defer w.owners.Done()
	for {
		var message *nats.Msg
		select {
		case message = <-w.incoming:
			w.looked(w.watch.look())
		default:
			select {
			case message = <-w.incoming:
				w.looked(w.watch.awake())
			case <-w.stopped:
				return
			}
		}
		if message.Sub != nil {
			w.receive(message, message.Subject == w.subjects.Own)
		} else if met, marked := w.marks.LoadAndDelete(message); marked {
			close(met.(chan struct{}))
		}
	}
}

func (w *Worker) receive(message *nats.Msg, own bool) {
	seen, err := wire.Peek(message.Data)
	if err == nil {
		err = w.dispatch(seen.Kind, message, own)
	}
	if err == nil {
		return
	}
	if count := w.counters.malformed.Add(1); count&(count-1) == 0 {
		w.log.Warn("a message is not a frame for a worker", "error", err, "times", count)
	}
	w.refuseMessage(seen.ID, message.Reply, err)
}

func (w *Worker) dispatch(kind wire.Kind, message *nats.Msg, own bool) error {
	switch {
	case kind == wire.KindCall:
		return w.receiveCall(message, own)
	case !own:
	case kind == wire.KindProbe:
		id, err := wire.DecodeProbe(message.Data)
		if err == nil {
			w.counters.probes.Add(1)
			w.tell(id, message.Reply)
		}
		return err
	case kind == wire.KindGrant:
		grant, err := wire.DecodeGrant(message.Data)
		if call := w.find(grant.ID); err == nil && call != nil {
			call.granted(grant.OK)
		}
		return err
	case kind == wire.KindBody:
		body, err := wire.DecodeBody(message.Data)
		if err != nil {
			return err
		}
		if call := w.find(body.ID); call != nil {
			call.bodyCame(body)
		}
		return nil
	case kind == wire.KindCredit:
		credit, err := wire.DecodeCredit(message.Data)
		if call := w.find(credit.ID); err == nil && call != nil {
			call.credited(credit)
		}
		return err
	case kind == wire.KindClose:
		session, err := wire.DecodeClose(message.Data)
		if err == nil {
			w.closeSession(session)
		}
		return err
	}
	return &wire.Malformed{What: "the kind", Why: fmt.Sprintf("a %.40q frame is not for this subject", kind)}
}

func (w *Worker) closeSession(session wire.SessionID) {
	w.mu.Lock()
	w.sessions.close(session)
	w.mu.Unlock()
}

func (w *Worker) find(id wire.CallID) *Call {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.here[id]
}

func (w *Worker) receiveCall(message *nats.Msg, own bool) error {
	frame, err := wire.DecodeCall(message.Data)
	if err != nil {
		return err
	}
	call := &Call{
		worker:  w,
		frame:   frame,
		reply:   message.Reply,
		came:    time.Now(),
		since:   w.watch.received(),
		mayOpen: !own || frame.Phase == wire.RequestFilter,
	}
	call.putOff(frame.Remaining)
	w.mu.Lock()
	_, running := w.here[frame.ID]
	_, ran := w.known.places[frame.ID]
	if running || ran {
		w.mu.Unlock()
		w.counters.duplicates.Add(1)
		w.tell(frame.ID, message.Reply)
		return nil
	}
	if w.slots >= w.Concurrency {
		w.mu.Unlock()
		w.counters.busy.Add(1)
		w.sign(wire.KindBusy, frame.ID, message.Reply)
		return nil
	}
	w.slots++
	w.here[frame.ID] = call
	shape, there := w.entries[frame.Entry]
	w.mu.Unlock()
	w.counters.calls.Add(1)
	if why := w.lacks(frame, shape, there); why != "" {
		if there {
			call.shape = &shape
		}
		call.fail(&wire.Failure{Kind: wire.UnknownEntry, Message: why})
		w.release()
		return nil
	}
	call.shape = &shape
	w.sign(wire.KindAck, frame.ID, message.Reply)
	select {
	case w.idle <- call:
	default:
		go w.running(call)
	}
	return nil
}

// running runs a call and then those that come while it has nothing to do. There are as many at most as calls at once.
func (w *Worker) running(call *Call) {
	for {
		call.live()
		select {
		case call = <-w.idle:
		case <-w.stopped:
			return
		}
	}
}

// lacks says why a call cannot run here. Another worker of the group may have its handler, and passing could open a door.
func (w *Worker) lacks(frame *wire.Call, shape wire.Shape, there bool) string {
	switch {
	case !there:
		return fmt.Sprintf("there is no entry %q on this worker; it has %s", frame.Entry, strings.Join(w.names(), ", "))
	case !shape.Has(frame.Phase):
		return fmt.Sprintf("entry %q has no handler for phase %d on this worker", frame.Entry, frame.Phase)
	}
	return ""
}

func (w *Worker) names() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	names := make([]string, 0, len(w.entries))
	for name := range w.entries {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (w *Worker) release() {
	w.mu.Lock()
	w.slots--
	w.mu.Unlock()
}
