package sdk

import (
	"fmt"

	"github.com/AssetsArt/nylon/sdk/go/internal/abi"
)

// PhaseRequestFilter is the context of a RequestFilter. What the handler changes counts when it has returned with a
// decision; a panic, a time-out or a second decision discards all of it.
type PhaseRequestFilter struct{ ctx *phaseContext }

// PhaseResponseFilter is the context of a ResponseFilter.
type PhaseResponseFilter struct{ ctx *phaseContext }

// PhaseResponseBodyFilter is the context of a ResponseBodyFilter.
type PhaseResponseBodyFilter struct{ ctx *phaseContext }

// PhaseLogging is the context of Logging: everything can be read and nothing changed.
type PhaseLogging struct{ ctx *phaseContext }

// Request is the request, which can be changed until the service is called.
func (p *PhaseRequestFilter) Request() *Request { return &Request{p.ctx} }

// Request is the request as the service has got it.
func (p *PhaseResponseFilter) Request() *Request { return &Request{p.ctx} }

// Request is the request as the service has got it.
func (p *PhaseResponseBodyFilter) Request() *Request { return &Request{p.ctx} }

// Request is the request as the service has got it.
func (p *PhaseLogging) Request() *Request { return &Request{p.ctx} }

// Response is the draft that End sends and Next drops.
func (p *PhaseRequestFilter) Response() *Response { return &Response{p.ctx} }

// Response is the response on its way to the client.
func (p *PhaseResponseFilter) Response() *Response { return &Response{p.ctx} }

// Response is the response on its way to the client, with its body.
func (p *PhaseResponseBodyFilter) Response() *Response { return &Response{p.ctx} }

// Response is the response as it was sent.
func (p *PhaseLogging) Response() *Response { return &Response{p.ctx} }

// Next goes on to the next middleware, then to the service. It takes effect when the handler returns, and only the first
// decision counts: a second one panics with a DecisionError.
func (p *PhaseRequestFilter) Next() { p.ctx.decide(abi.Next) }

// Next goes on, as returning does.
func (p *PhaseResponseFilter) Next() { p.ctx.decide(abi.Next) }

// Next goes on, as returning does.
func (p *PhaseResponseBodyFilter) Next() { p.ctx.decide(abi.Next) }

// Next goes on, as returning does.
func (p *PhaseLogging) Next() { p.ctx.decide(abi.Next) }

// End stops here and sends the response. It takes effect when the handler returns.
func (p *PhaseRequestFilter) End() { p.ctx.decide(abi.End) }

// End sends the response as it is now; the remaining middlewares of this phase are skipped.
func (p *PhaseResponseFilter) End() { p.ctx.decide(abi.End) }

// End sends the response as it is now; the remaining middlewares of this phase are skipped.
func (p *PhaseResponseBodyFilter) End() { p.ctx.decide(abi.End) }

// End skips the remaining middlewares of this phase.
func (p *PhaseLogging) End() { p.ctx.decide(abi.End) }

// GetPayload is what the configuration gives this middleware as its payload, nil where it gives none or one that is not a
// map.
func (p *PhaseRequestFilter) GetPayload() map[string]any { return payloadMap(p.ctx) }

// GetPayload is what the configuration gives this middleware as its payload.
func (p *PhaseResponseFilter) GetPayload() map[string]any { return payloadMap(p.ctx) }

// GetPayload is what the configuration gives this middleware as its payload.
func (p *PhaseResponseBodyFilter) GetPayload() map[string]any { return payloadMap(p.ctx) }

// GetPayload is what the configuration gives this middleware as its payload.
func (p *PhaseLogging) GetPayload() map[string]any { return payloadMap(p.ctx) }

// DecodePayload decodes the middleware's payload into a value of your own, as encoding/json does. Without a payload the
// value stays as it is.
func (p *PhaseRequestFilter) DecodePayload(v any) error { return p.ctx.payload(v) }

// DecodePayload decodes the middleware's payload into a value of your own.
func (p *PhaseResponseFilter) DecodePayload(v any) error { return p.ctx.payload(v) }

// DecodePayload decodes the middleware's payload into a value of your own.
func (p *PhaseResponseBodyFilter) DecodePayload(v any) error { return p.ctx.payload(v) }

// DecodePayload decodes the middleware's payload into a value of your own.
func (p *PhaseLogging) DecodePayload(v any) error { return p.ctx.payload(v) }

// Attempt is 1, and more where a worker was lost and the call was sent again: the handler may have run before.
func (p *PhaseRequestFilter) Attempt() int { return int(p.ctx.number(abi.ReadAttempt)) }

// Attempt is 1, and more where a worker was lost and the call was sent again.
func (p *PhaseResponseFilter) Attempt() int { return int(p.ctx.number(abi.ReadAttempt)) }

// Attempt is 1, and more where a worker was lost and the call was sent again.
func (p *PhaseResponseBodyFilter) Attempt() int { return int(p.ctx.number(abi.ReadAttempt)) }

// Attempt is 1, and more where a worker was lost and the call was sent again.
func (p *PhaseLogging) Attempt() int { return int(p.ctx.number(abi.ReadAttempt)) }

// Fail ends the handler as a failure: the phase's policy decides, which means a 500 unless the configuration says
// otherwise. The text goes to the log. It does not return.
func (p *PhaseRequestFilter) Fail(text string) { fail(text) }

// Fail ends the handler as a failure; see PhaseRequestFilter.Fail.
func (p *PhaseResponseFilter) Fail(text string) { fail(text) }

// Fail ends the handler as a failure; see PhaseRequestFilter.Fail.
func (p *PhaseResponseBodyFilter) Fail(text string) { fail(text) }

// Fail ends the handler as a failure; see PhaseRequestFilter.Fail.
func (p *PhaseLogging) Fail(text string) { fail(text) }

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
	answer := p.ctx.read(abi.ReadResponseChunk, "")
	if len(answer) == 0 {
		panic(ErrContextClosed)
	}
	return answer[1:], answer[0] == 1
}

// SetChunk replaces the part of the body that the handler is called for; an empty one drops it.
func (p *PhaseResponseBodyFilter) SetChunk(data []byte) {
	p.needsChunks("setting a chunk")
	p.ctx.change(abi.SetResponseChunk, "", data)
}

func (p *PhaseResponseBodyFilter) needsChunks(what string) {
	if !p.ctx.byChunk {
		p.ctx.refuse(what, "only a ResponseBodyFilter registered with ByChunk has chunks")
	}
}

func payloadMap(ctx *phaseContext) map[string]any {
	var payload any
	if err := ctx.payload(&payload); err != nil {
		panic(fmt.Errorf("the payload: %w", err))
	}
	values, _ := payload.(map[string]any)
	return values
}

// failed is what Fail panics with, so that its text reaches the log without a stack.
type failed string

func (f failed) Error() string { return string(f) }

func fail(text string) { panic(failed(text)) }
