package worker

import (
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/AssetsArt/nylon/sdk/go/internal/wire"
)

// ErrStreamClosed means that nobody takes any more of a stream.
var ErrStreamClosed = errors.New("nobody takes any more of the response")

// streamPatience is the longest silence of the gateway: its own limits for a slow client end a stream sooner, unless it is gone.
const streamPatience = 10 * time.Minute

// stream is a response that a handler is still writing. What it writes goes out in chunks as far as the gateway has room; then
// one chunk is gathered, and beyond that the handler waits. So between a handler and a slow client stand a window of
// chunks and one more, whatever the body's size.
type stream struct {
	size int
	// room has a token when something has changed.
	room chan struct{}

	mu            sync.Mutex
	buffer        []byte
	next, granted uint64
	// over: the end is sent, or nobody takes it any more.
	over bool
	why  error
}

// BeginStream sends the head of a response whose body follows.
func (c *Call) BeginStream() error {
	if !c.decided.CompareAndSwap(false, true) {
		return ErrOver
	}
	w := c.worker
	s := &stream{size: wire.PartSize(w.maxPayload()), room: make(chan struct{}, 1), granted: wire.Window}
	c.mu.Lock()
	c.stream = s
	// The stream takes the place of a body that was set before, and nobody is there to get the request's.
	c.ops = slices.DeleteFunc(c.ops, func(op wire.Op) bool {
		return op.Number == wire.SetRequestBody || op.Number == wire.SetResponseBody
	})
	reply := wire.Reply{ID: c.frame.ID, Outcome: wire.Streaming, Ops: c.ops, Shape: c.shape}
	c.mu.Unlock()
	// The response's own phases come while the handler goes on.
	c.leave()
	err := w.publish(c.reply, func(out []byte) ([]byte, error) { return reply.Append(out, w.ID) })
	if err != nil {
		s.close(ErrStreamClosed)
		failure := &wire.Failure{Kind: wire.Protocol, Message: "the response could not begin: " + err.Error()}
		c.answer(wire.Reply{Outcome: wire.Failed, Failure: failure})
		return failure
	}
	return nil
}

// WriteStream sends a part of the body, and returns once there is room for more.
func (c *Call) WriteStream(data []byte) error {
	s := c.begun()
	if s == nil {
		return ErrOver
	}
	for {
		s.mu.Lock()
		taken := min(s.size-len(s.buffer), len(data))
		if !s.over {
			s.buffer = append(s.buffer, data[:taken]...)
			data = data[taken:]
			s.pump(c)
		}
		over, why, full := s.over, s.why, len(s.buffer) >= s.size
		s.mu.Unlock()
		switch {
		case over:
			return why
		case !full && len(data) == 0:
			return nil
		case full:
			if err := s.wait(c); err != nil {
				return err
			}
		}
	}
}

// EndStream completes the body.
func (c *Call) EndStream() error {
	s := c.begun()
	if s == nil {
		return ErrOver
	}
	for {
		s.mu.Lock()
		if !s.over {
			s.pump(c)
		}
		if !s.over && len(s.buffer) == 0 {
			s.end(c, wire.Chunk{Which: wire.Stream, Part: wire.Part{Number: s.next}, End: true})
			s.mu.Unlock()
			return nil
		}
		over, why := s.over, s.why
		s.mu.Unlock()
		if over {
			return why
		}
		if err := s.wait(c); err != nil {
			return err
		}
	}
}

// streamOver ends what the handler has left open: it has failed, and the client must see a body that was broken off.
func (c *Call) streamOver(s *stream, failure *wire.Failure) {
	c.worker.counters.answered(failure, c.came)
	s.mu.Lock()
	if !s.over {
		if failure == nil {
			failure = &wire.Failure{Kind: wire.Raised, Message: "the handler left its stream without an end"}
		}
		s.end(c, wire.Chunk{Which: wire.Stream, Part: wire.Part{Number: s.next}, Failure: failure})
	}
	s.mu.Unlock()
	if !c.isOver() {
		// It has run; there is no reply that could be given again.
		c.worker.over(c.frame.ID, nil)
	}
}

func (c *Call) begun() *stream {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stream
}

// wait waits for room. The gateway repeats what room there is once a second, so that a long silence means that it is gone.
func (s *stream) wait(c *Call) error {
	timer := time.NewTimer(streamPatience)
	defer timer.Stop()
	select {
	case <-s.room:
		return nil
	case <-timer.C:
	case <-c.goes():
	}
	s.close(ErrStreamClosed)
	return ErrStreamClosed
}

// pump sends what there is room for. With the lock held.
func (s *stream) pump(c *Call) {
	for len(s.buffer) > 0 && s.next < s.granted {
		err := c.sendChunk(wire.Chunk{Which: wire.Stream, Part: wire.Part{Number: s.next, Data: s.buffer}})
		if err != nil {
			s.over, s.why = true, ErrStreamClosed
			return
		}
		s.next++
		s.buffer = s.buffer[:0]
	}
}

// end sends the last chunk. With the lock held.
func (s *stream) end(c *Call, last wire.Chunk) {
	s.over, s.why, s.buffer = true, ErrStreamClosed, nil
	if err := c.sendChunk(last); err != nil {
		// The gateway's own time for each wait ends the stream, and not well.
		c.worker.log.Warn("the end of a stream could not be sent", "call", c.frame.ID, "error", err)
	}
}

func (s *stream) close(why error) {
	s.mu.Lock()
	if !s.over {
		s.over, s.why, s.buffer = true, why, nil
	}
	s.mu.Unlock()
}

func (s *stream) credited(c *Call, credit wire.Credit) {
	if credit.Failure != nil {
		s.close(ErrStreamClosed)
		c.abandon()
	} else {
		s.mu.Lock()
		s.granted = wire.Room(s.granted, s.next, credit.UpTo)
		if !s.over {
			s.pump(c)
		}
		s.mu.Unlock()
	}
	select {
	case s.room <- struct{}{}:
	default:
	}
}
