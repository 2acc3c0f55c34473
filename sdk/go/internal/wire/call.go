package wire

import (
	"math"
	"time"

	"github.com/tinylib/msgp/msgp"
)

// The phases by their numbers.
const (
	RequestFilter uint8 = 1 + iota
	ResponseFilter
	ResponseBodyFilter
	Logging
)

// Body is what a call says of a body.
type Body struct {
	// Bytes is the body, where Here says so.
	Bytes []byte
	// Here: it came with the call.
	Here bool
	// Held: the gateway has it, and sends it when it is asked for; Size is how large it is.
	Held bool
	Size int64
}

// Call asks for one phase of one middleware. Its sections are not looked into before Exchange is called, so that a copy, or a
// call that there is no room for, costs next to nothing.
type Call struct {
	ID      CallID
	Session SessionID
	// Attempt is 1 for the first try.
	Attempt uint32
	Plugin  string
	Entry   string
	Phase   uint8
	// Remaining is the time left for the reply when the call was sent.
	Remaining time.Duration
	// Claim: the worker must claim the call before it runs it.
	Claim       bool
	Traceparent string
	// Payload is the middleware's, a MessagePack value; empty where there is none.
	Payload []byte
	// State is the session's, a MessagePack map; empty where there is none.
	State        []byte
	RequestBody  Body
	ResponseBody Body
	// Streaming: the call is for one chunk of the response body.
	Streaming bool

	facts, request, response, chunk, sent []byte
}

// maxMilliseconds is the longest time that a call may say it has: a clock must be able to hold it.
const maxMilliseconds = 24 * 3600 * 1000

func (r *reader) milliseconds(what string) time.Duration {
	return time.Duration(min(r.uint(what), maxMilliseconds)) * time.Millisecond
}

// DecodeCall reads a call's envelope and finds its sections.
func DecodeCall(frame []byte) (*Call, error) {
	call := &Call{Attempt: 1}
	var id, session, plugin, entry, phase, remaining bool
	err := readFrame(frame, KindCall, func(r *reader, key string) bool {
		switch key {
		case "id":
			r.exactly("the call id", call.ID[:])
			id = true
		case "s":
			r.exactly("the session id", call.Session[:])
			session = true
		case "a":
			call.Attempt = r.uint32("the attempt")
		case "pl":
			call.Plugin, plugin = r.text("the plugin's name", MaxName), true
		case "e":
			call.Entry, entry = r.text("the entry's name", MaxName), true
		case "p":
			number := r.uint("the phase")
			if number < 1 || number > 4 {
				r.fail("the phase", "it is 1 to 4")
			}
			call.Phase, phase = uint8(number), true
		case "ms":
			call.Remaining, remaining = r.milliseconds("the time left"), true
		case "cl":
			call.Claim = r.bool("the wish for a claim")
		case "tp":
			call.Traceparent = r.octets("the trace context", maxTraceparent)
		case "py":
			call.Payload = r.bytes("the payload", maxPayload)
		case "st":
			call.State = r.bytes("ctx.state", maxState)
		case "f":
			call.facts = r.skip()
		case "q":
			call.request = r.skip()
		case "qb":
			call.RequestBody = r.body("the request body")
		case "r":
			call.response = r.skip()
		case "rb":
			call.ResponseBody = r.body("the response body")
		case "c":
			call.chunk = r.skip()
			call.Streaming = true
		case "sn":
			call.sent = r.skip()
		default:
			return false
		}
		return true
	})
	if err != nil {
		return nil, err
	}
	for _, part := range []struct {
		there bool
		name  string
	}{
		{id, "call id (id)"},
		{session, "session id (s)"},
		{plugin, "plugin (pl)"},
		{entry, "entry (e)"},
		{phase, "phase (p)"},
		{remaining, "time left (ms)"},
		{call.facts != nil, "facts (f)"},
		{call.request != nil, "request head (q)"},
	} {
		if !part.there {
			return nil, &Malformed{What: "the call", Why: "it has no " + part.name}
		}
	}
	return call, nil
}

func (r *reader) body(what string) Body {
	switch r.kind() {
	case msgp.NilType:
		r.skip()
		return Body{}
	case msgp.BinType, msgp.StrType:
		return Body{Bytes: r.bytes(what, MaxFrame), Here: true}
	default:
		size := r.uint(what)
		if size > math.MaxInt64 {
			r.fail(what, "the number is too large")
		}
		return Body{Held: true, Size: int64(size)}
	}
}
