package wire

import "encoding/hex"

// Version is the protocol's version that this package writes. It reads every later one too.
const Version = 1

// CallID names one call: the same in every attempt, never used again.
type CallID [16]byte

func (id CallID) String() string { return hex.EncodeToString(id[:]) }

// SessionID names one session. Its first eight bytes name the gateway's connection.
type SessionID [16]byte

// Gateway is the part that names the gateway's connection.
func (id SessionID) Gateway() [8]byte { return [8]byte(id[:8]) }

// Kind is what a frame is.
type Kind string

// The kinds of frames.
const (
	KindCall    Kind = "call"
	KindReply   Kind = "reply"
	KindAck     Kind = "ack"
	KindBusy    Kind = "busy"
	KindRead    Kind = "read"
	KindBody    Kind = "body"
	KindChunk   Kind = "chunk"
	KindCredit  Kind = "credit"
	KindProbe   Kind = "probe"
	KindUnknown Kind = "unknown"
	KindClaim   Kind = "claim"
	KindGrant   Kind = "grant"
	KindClose   Kind = "close"
	KindInfo    Kind = "info"
	KindLeave   Kind = "leave"
)

// Envelope is the first look at a frame.
type Envelope struct {
	Kind Kind
	// ID is the call that the frame is about: zeroes where it is about none.
	ID CallID
}

// Peek reads kind, version and call, and looks no further than it must. What it could read is there beside an error too, so
// that a malformed call can be answered under its id.
func Peek(frame []byte) (Envelope, error) {
	r := reader{rest: frame}
	var seen Envelope
	kind, version := false, false
	r.fields("the frame", func(key string) bool {
		switch key {
		case "t":
			seen.Kind, kind = Kind(r.text("the kind (t)", MaxName)), true
		case "v":
			readVersion(&r)
			version = true
		case "id":
			r.exactly("the call id", seen.ID[:])
			r.done = kind && version
		default:
			// A frame about a call has its id among the first three keys.
			r.done = kind && version
			return r.done
		}
		return true
	})
	switch {
	case r.err != nil:
		return seen, r.err
	case !kind:
		return seen, &Malformed{What: "the frame", Why: "it has no kind (t)"}
	case !version:
		return seen, &Malformed{What: "the frame", Why: "it has no version (v)"}
	}
	return seen, nil
}

func readVersion(r *reader) {
	if r.uint("the version (v)") == 0 && r.err == nil {
		r.fail("the version (v)", "there is no version 0")
	}
}

// readFrame reads a frame of one kind: hands every key but t and v to field.
func readFrame(frame []byte, expected Kind, field func(r *reader, key string) bool) error {
	r := reader{rest: frame}
	kind, version := false, false
	r.fields("the frame", func(key string) bool {
		switch key {
		case "t":
			kind = true
			if found := Kind(r.text("the kind (t)", MaxName)); found != expected {
				r.fail("the kind (t)", "it is not "+string(expected))
			}
		case "v":
			version = true
			readVersion(&r)
		default:
			return field(&r, key)
		}
		return true
	})
	if err := r.finish(); err != nil {
		return err
	}
	if !kind || !version {
		return &Malformed{What: "the frame", Why: "it has no kind (t), or no version (v)"}
	}
	return nil
}
