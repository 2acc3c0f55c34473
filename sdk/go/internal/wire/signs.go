package wire

import "time"

// Failure is what a reply says instead of a decision, and a gateway instead of a body.
type Failure struct {
	// Kind is one of those of docs/nats-protocol.md.
	Kind string
	// Message is for the gateway's log; no client sees it.
	Message string
}

func (f *Failure) Error() string { return f.Kind + ": " + f.Message }

// The kinds of failures that a worker tells.
const (
	Raised       = "raised"
	Undecided    = "undecided"
	UnknownEntry = "unknown_entry"
	TimedOut     = "timed_out"
	Unavailable  = "unavailable"
	Overloaded   = "overloaded"
	WorkerDied   = "worker_died"
	Protocol     = "protocol"
)

func (w *writer) failure(failure *Failure) {
	m := w.open()
	w.key(&m, "k").text(failure.Kind)
	w.key(&m, "m").text(shorten(failure.Message))
	w.close(m)
}

func (r *reader) failure() *Failure {
	failure := &Failure{}
	r.fields("the error", func(key string) bool {
		switch key {
		case "k":
			failure.Kind = r.text("the error's kind", MaxName)
		case "m":
			failure.Message = shorten(r.text("the error's text", MaxFrame))
		default:
			return false
		}
		return true
	})
	if failure.Kind == "" {
		r.fail("the error (er)", "it has no kind (k)")
	}
	return failure
}

// AppendSign appends a frame that says no more than which worker speaks of which call: ack, busy, unknown, claim.
func AppendSign(out []byte, kind Kind, id CallID, worker string) []byte {
	w, m := about(out, kind, id, worker)
	return w.finish(m)
}

// DecodeProbe reads a question whether a call is here.
func DecodeProbe(frame []byte) (CallID, error) {
	return readID(frame, KindProbe)
}

func readID(frame []byte, kind Kind) (id CallID, err error) {
	there := false
	err = readFrame(frame, kind, func(r *reader, key string) bool {
		if key != "id" {
			return false
		}
		r.exactly("the call id", id[:])
		there = true
		return true
	})
	return id, needed(err, there, "call id (id)")
}

func needed(err error, there bool, what string) error {
	if err == nil && !there {
		return &Malformed{What: "the frame", Why: "it has no " + what}
	}
	return err
}

// Grant is the answer to a claim. One that does not say yes says no.
type Grant struct {
	ID CallID
	OK bool
}

// DecodeGrant reads it.
func DecodeGrant(frame []byte) (grant Grant, err error) {
	there := false
	err = readFrame(frame, KindGrant, func(r *reader, key string) bool {
		switch key {
		case "id":
			r.exactly("the call id", grant.ID[:])
			there = true
		case "ok":
			grant.OK = r.bool("the answer to a claim")
		default:
			return false
		}
		return true
	})
	return grant, needed(err, there, "call id (id)")
}

// DecodeClose reads which session is over.
func DecodeClose(frame []byte) (session SessionID, err error) {
	there := false
	err = readFrame(frame, KindClose, func(r *reader, key string) bool {
		if key != "s" {
			return false
		}
		r.exactly("the session id", session[:])
		there = true
		return true
	})
	return session, needed(err, there, "session id (s)")
}

// Which says which body a frame is about.
type Which string

// The bodies.
const (
	RequestBody  Which = "q"
	ResponseBody Which = "r"
	ChunkBody    Which = "c"
	Stream       Which = "s"
)

// AppendRead appends a wish for a body, with room for its parts below up.
func AppendRead(out []byte, id CallID, worker string, which Which, up uint64) []byte {
	w, m := about(out, KindRead, id, worker)
	w.key(&m, "b").text(string(which))
	if up > 0 {
		w.key(&m, "up").uint(up)
	}
	return w.finish(m)
}

// Part is a body, or a part of one.
type Part struct {
	Number uint64
	// Total is the size of the whole body.
	Total uint64
	Data  []byte
}

// IsWhole: it is all of its body.
func (p Part) IsWhole() bool { return p.Number == 0 && p.Total == uint64(len(p.Data)) }

// BodyFrame is a body that was asked for, a part of it, or why there is none.
type BodyFrame struct {
	ID    CallID
	Which Which
	// Remaining is the time left for the reply once all of it is there.
	Remaining time.Duration
	Part      Part
	Failure   *Failure
}

// DecodeBody reads it.
func DecodeBody(frame []byte) (*BodyFrame, error) {
	body := &BodyFrame{Which: RequestBody}
	id, total, data := false, false, false
	err := readFrame(frame, KindBody, func(r *reader, key string) bool {
		switch key {
		case "id":
			r.exactly("the call id", body.ID[:])
			id = true
		case "b":
			body.Which = r.which()
			if body.Which != RequestBody && body.Which != ResponseBody {
				r.fail("which body", "a gateway has q and r")
			}
		case "ms":
			body.Remaining = r.milliseconds("the time left")
		case "n":
			body.Part.Number = r.uint("the part's number")
		case "to":
			body.Part.Total, total = r.uint("the body's size"), true
		case "d":
			body.Part.Data, data = r.bytes("the body", MaxFrame), true
		case "er":
			body.Failure = r.failure()
		default:
			return false
		}
		return true
	})
	if !total {
		body.Part.Total = uint64(len(body.Part.Data))
	}
	return body, needed(needed(err, id, "call id (id)"), data || body.Failure != nil, "body (d), nor an error (er)")
}

func (r *reader) which() Which {
	switch which := Which(r.text("which body", MaxName)); which {
	case RequestBody, ResponseBody, ChunkBody, Stream:
		return which
	}
	r.fail("which body", "it is q, r, c or s")
	return ""
}

// Chunk is a part of a body that a handler made.
type Chunk struct {
	Which Which
	Part
	// End ends a stream, and Failure breaks it off.
	End     bool
	Failure *Failure
}

// AppendChunk appends it.
func AppendChunk(out []byte, id CallID, worker string, chunk Chunk) []byte {
	w, m := about(out, KindChunk, id, worker)
	w.key(&m, "b").text(string(chunk.Which))
	w.key(&m, "n").uint(chunk.Number)
	if chunk.Which != Stream {
		w.key(&m, "to").uint(chunk.Total)
	}
	if len(chunk.Data) > 0 {
		w.key(&m, "d").bin(chunk.Data)
	}
	switch {
	case chunk.Failure != nil:
		w.key(&m, "er").failure(chunk.Failure)
	case chunk.End:
		w.key(&m, "end").bool(true)
	}
	return w.finish(m)
}

// Credit says how far the chunks of a body may go, or that the gateway takes no more of it.
type Credit struct {
	ID      CallID
	Which   Which
	UpTo    uint64
	Failure *Failure
}

// DecodeCredit reads it.
func DecodeCredit(frame []byte) (credit Credit, err error) {
	id, which, says := false, false, false
	err = readFrame(frame, KindCredit, func(r *reader, key string) bool {
		switch key {
		case "id":
			r.exactly("the call id", credit.ID[:])
			id = true
		case "b":
			credit.Which, which = r.which(), true
		case "up":
			credit.UpTo, says = r.uint("the room for chunks"), true
		case "er":
			credit.Failure, says = r.failure(), true
		default:
			return false
		}
		return true
	})
	err = needed(needed(err, id, "call id (id)"), which, "body (b)")
	return credit, needed(err, says, "room (up), nor an error (er)")
}
