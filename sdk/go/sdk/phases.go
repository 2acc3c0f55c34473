package sdk

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/AssetsArt/nylon/sdk/go/internal/abi"
)

// Context is what the contexts of all phases have in common.
type Context interface {
	// Request is the request, which can be changed in a RequestFilter: later the service has been called.
	Request() *Request
	// Response is the response: in a RequestFilter a draft that End sends and Next drops, later the one that is on its way to
	// the client, and in Logging the one that was sent.
	Response() *Response
	// Next goes on: to the next middleware, then to the service. In the other phases than RequestFilter returning means the
	// same. A decision takes effect when the handler returns, and only the first one counts: a second one panics with a
	// DecisionError.
	Next()
	// End stops here and sends the response as it is; the remaining middlewares of the phase are skipped.
	End()
	// Fail ends the handler as a failure: the phase's policy decides, which means a 500 unless the configuration says
	// otherwise. The text goes to the log. It does not return.
	Fail(text string)
	// GetPayload is what the configuration gives this middleware as its payload; nil where it gives none, or one that is not
	// a map.
	GetPayload() map[string]any
	// DecodePayload decodes the payload into a value of your own, as encoding/json does. Without a payload the value stays as
	// it is.
	DecodePayload(v any) error
	// Attempt is 1, and more where a worker was lost and the call was sent again: the handler may have run before.
	Attempt() int
	// Context is done when the phase is over: when the handler has returned, when its time is up, or when the client is gone.
	// Give it to whatever the handler waits for.
	Context() context.Context
}

// PhaseRequestFilter is the context of a RequestFilter. What the handler changes counts when it has returned with a
// decision; a panic, a time-out or a second decision discards all of it.
type PhaseRequestFilter struct{ *phaseContext }

// PhaseResponseFilter is the context of a ResponseFilter.
type PhaseResponseFilter struct{ *phaseContext }

// PhaseResponseBodyFilter is the context of a ResponseBodyFilter.
type PhaseResponseBodyFilter struct{ *phaseContext }

// PhaseLogging is the context of Logging: everything can be read and nothing changed.
type PhaseLogging struct{ *phaseContext }

// Request is the request, which can be changed in a RequestFilter.
func (c *phaseContext) Request() *Request { return &Request{c} }

// Response is the response: the draft, the one on its way, or the one that was sent.
func (c *phaseContext) Response() *Response { return &Response{c} }

// Next goes on; see Context.
func (c *phaseContext) Next() { c.decide(abi.Next) }

// End stops here and sends the response; see Context.
func (c *phaseContext) End() { c.decide(abi.End) }

// Fail ends the handler as a failure; see Context.
func (c *phaseContext) Fail(text string) { panic(failed(text)) }

// failed is what Fail panics with, so that its text reaches the log without a stack.
type failed string

func (f failed) Error() string { return string(f) }

// GetPayload is what the configuration gives this middleware as its payload; see Context.
func (c *phaseContext) GetPayload() map[string]any {
	var payload any
	if err := c.DecodePayload(&payload); err != nil {
		panic(fmt.Errorf("the payload: %w", err))
	}
	values, _ := payload.(map[string]any)
	return values
}

// DecodePayload decodes the payload into a value of your own; see Context.
func (c *phaseContext) DecodePayload(v any) error {
	text := c.read(abi.GetPayload, "")
	if len(text) == 0 {
		return nil
	}
	return json.Unmarshal(text, v)
}

// Attempt is 1, and more where the call was sent again; see Context.
func (c *phaseContext) Attempt() int { return int(c.number(abi.ReadAttempt)) }

// Context is done when the phase is over; see Context.
func (c *phaseContext) Context() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waits == nil {
		var cancel context.CancelFunc
		c.waits, cancel = context.WithCancel(context.Background())
		if c.closed {
			cancel()
		} else {
			c.host.whenClosed(cancel)
			c.cancel = cancel
		}
	}
	return c.waits
}

// SetResponseHeader is Response().SetHeader, in a shorter form that older plugins use.
func (p *PhaseResponseFilter) SetResponseHeader(name, value string) {
	p.Response().SetHeader(name, value)
}

// RemoveResponseHeader is Response().RemoveHeader, in a shorter form that older plugins use.
func (p *PhaseResponseFilter) RemoveResponseHeader(name string) { p.Response().RemoveHeader(name) }

// Chunk is the part of the body that a handler registered with ByChunk is called for, and whether it is the last one,
// which may be empty.
func (p *PhaseResponseBodyFilter) Chunk() (data []byte, last bool) {
	p.needsChunks("reading a chunk")
	answer := p.read(abi.ReadResponseChunk, "")
	if len(answer) == 0 {
		panic(ErrContextClosed)
	}
	return answer[1:], answer[0] == 1
}

// SetChunk replaces the part of the body that the handler is called for; an empty one drops it.
func (p *PhaseResponseBodyFilter) SetChunk(data []byte) {
	p.needsChunks("setting a chunk")
	p.change(abi.SetResponseChunk, "", data)
}

func (p *PhaseResponseBodyFilter) needsChunks(what string) {
	if !p.byChunk {
		p.refuse(what, "only a ResponseBodyFilter registered with ByChunk has chunks")
	}
}
