package sdk

import (
	"context"
	"encoding/binary"
	"errors"
	"strconv"
	"sync"

	"github.com/AssetsArt/nylon/sdk/go/internal/abi"
)

// phaseContext is a handler's view of one phase. The rules of docs/phases.md live here, once for all hosts: which phase
// may do what, the first decision wins, and nothing can be used after the phase.
type phaseContext struct {
	host    backend
	phase   uint8
	byChunk bool

	mu          sync.Mutex
	decision    uint32 // abi.Next, abi.End, abi.SetResponseStreamHeader, or 0
	closed      bool
	typed       bool // the handler has set a content-type itself
	streamEnded bool
	streamGone  bool
	waits       context.Context // for Context, once it was asked for
	cancel      context.CancelFunc
}

// decide takes the handler's decision, which takes effect when it has returned.
func (c *phaseContext) decide(decision uint32) {
	if err := c.tryDecide(decision); err != nil {
		panic(err)
	}
}

func (c *phaseContext) tryDecide(decision uint32) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.host.closed() {
		return ErrContextClosed
	}
	if c.decision != 0 {
		return &DecisionError{First: decisionNames[c.decision]}
	}
	c.decision = decision
	return nil
}

var decisionNames = map[uint32]string{abi.Next: "next", abi.End: "end", abi.SetResponseStreamHeader: "stream"}

// finish closes the context and tells what the handler came to: err is nil where it has returned.
func (c *phaseContext) finish(err error) outcome {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.cancel != nil {
		c.cancel()
	}
	streams := c.decision == abi.SetResponseStreamHeader
	switch {
	case streams && (c.streamGone || errors.Is(err, ErrStreamClosed)):
		// The client left: that is no failure of the handler, and nobody is there to be told.
		return outcome{method: abi.SetResponseStreamEnd}
	case err != nil:
		return outcome{method: abi.Fail, kind: kindOf(err), text: err.Error()}
	case streams && c.streamEnded:
		return outcome{method: abi.SetResponseStreamEnd}
	case streams:
		return outcome{method: abi.Fail, kind: "raised", text: "the handler returned without End on its stream"}
	case c.decision != 0:
		return outcome{method: c.decision}
	case c.phase == abi.RequestFilter:
		return outcome{method: abi.Fail, kind: "undecided", text: "the handler returned without Next or End"}
	default:
		return outcome{method: abi.Next}
	}
}

// check refuses a context whose phase is over.
func (c *phaseContext) check() {
	c.mu.Lock()
	closed := c.closed
	c.mu.Unlock()
	if closed {
		panic(ErrContextClosed)
	}
}

func (c *phaseContext) read(method uint32, name string) []byte {
	c.check()
	value, err := c.host.read(method, name)
	if err != nil {
		panic(err)
	}
	return value
}

func (c *phaseContext) text(method uint32) string { return string(c.read(method, "")) }

func (c *phaseContext) number(method uint32) int64 {
	text := c.read(method, "")
	if len(text) == 0 {
		return 0
	}
	number, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil {
		panic(err)
	}
	return number
}

func (c *phaseContext) fields(method uint32) []field {
	c.check()
	fields, err := c.host.fields(method)
	if err != nil {
		panic(err)
	}
	return fields
}

// change makes a mutation, once it is known to be possible.
func (c *phaseContext) change(method uint32, name string, value []byte) {
	c.mu.Lock()
	closed, streams := c.closed, c.decision == abi.SetResponseStreamHeader
	c.mu.Unlock()
	switch {
	case closed:
		panic(ErrContextClosed)
	case streams:
		what, why := "changing request or response", "the stream has begun, and its head is sent"
		panic(&PhaseError{What: what, Phase: abi.PhaseNames[c.phase], Why: why})
	}
	if err := c.host.write(method, name, value); err != nil {
		panic(err)
	}
}

// changeRequest makes a mutation of the request.
func (c *phaseContext) changeRequest(method uint32, name string, value []byte) {
	if c.phase != abi.RequestFilter {
		c.refuse("changing the request", "the service has been called already")
	}
	c.change(method, name, value)
}

// changeResponse makes a mutation of the response.
func (c *phaseContext) changeResponse(method uint32, name string, value []byte) {
	switch {
	case c.phase == abi.Logging:
		c.refuse("changing the response", "the client has it already")
	case c.byChunk:
		c.refuse("changing the response", "the head is sent already; with ByChunk use SetChunk")
	}
	c.change(method, name, value)
}

func (c *phaseContext) refuse(what, why string) {
	c.check()
	panic(&PhaseError{What: what, Phase: abi.PhaseNames[c.phase], Why: why})
}

func (c *phaseContext) setStatus(status uint16) {
	if status < 200 || status > 599 {
		panic(&InvalidValueError{What: "status", Value: strconv.Itoa(int(status)), Why: "a final status is 200 to 599"})
	}
	c.changeResponse(abi.SetResponseStatus, "", binary.BigEndian.AppendUint16(nil, status))
}
