package wire

// Op is one mutation: its number, and of its arguments those that the number has.
type Op struct {
	Number OpNumber
	// Name is a header's.
	Name string
	// Value is a header's value, a method, a path or a query.
	Value string
	// Status is for SetStatus.
	Status int
	// Body is for those that set one.
	Body []byte
	// Apart is the size of a body that has gone before the reply, in chunks; Body is empty then.
	Apart uint64
}

// OpNumber is a mutation's number on the wire.
type OpNumber uint8

// The mutations.
const (
	SetMethod OpNumber = 1 + iota
	SetPath
	SetQuery
	SetRequestHeader
	AddRequestHeader
	RemoveRequestHeader
	SetRequestBody
	SetStatus
	SetResponseHeader
	AddResponseHeader
	RemoveResponseHeader
	SetResponseBody
	SetChunk
)

// Body tells which body a mutation sets, if it sets one.
func (op *Op) which() (Which, bool) {
	switch op.Number {
	case SetRequestBody:
		return RequestBody, true
	case SetResponseBody:
		return ResponseBody, true
	case SetChunk:
		return ChunkBody, true
	}
	return "", false
}

func (w *writer) op(op *Op) {
	switch op.Number {
	case SetMethod, SetPath, SetQuery:
		w.start(op, 1)
		w.text(op.Value)
	case RemoveRequestHeader, RemoveResponseHeader:
		w.start(op, 1)
		w.text(op.Name)
	case SetStatus:
		w.start(op, 1)
		w.uint(uint64(op.Status))
	case SetRequestBody, SetResponseBody, SetChunk:
		w.start(op, 1)
		if op.Apart > 0 {
			w.uint(op.Apart)
		} else {
			w.bin(op.Body)
		}
	default:
		w.start(op, 2)
		w.text(op.Name)
		w.octets(op.Value)
	}
}

func (w *writer) start(op *Op, arguments int) {
	w.array(1 + arguments)
	w.uint(uint64(op.Number))
}

// Outcome is what became of a call.
type Outcome string

// The outcomes. A stream is an end whose body follows.
const (
	Next      Outcome = "next"
	End       Outcome = "end"
	Streaming Outcome = "stream"
	Failed    Outcome = "error"
)

// Reply is the result of a call.
type Reply struct {
	ID      CallID
	Outcome Outcome
	// Failure is why, where the outcome is Failed; mutations count for nothing then.
	Failure *Failure
	Ops     []Op
	// Shape is the entry's, for a gateway that has not seen the announcement.
	Shape *Shape
}

// Append appends the reply of this worker.
func (reply *Reply) Append(out []byte, worker string) ([]byte, error) {
	if len(reply.Ops) > MaxOps {
		return out, tooLarge("the number of mutations", MaxOps)
	}
	start := len(out)
	w, m := about(out, KindReply, reply.ID, worker)
	w.key(&m, "o").text(string(reply.Outcome))
	switch {
	case reply.Outcome == Failed:
		w.key(&m, "er").failure(reply.Failure)
	case len(reply.Ops) > 0:
		w.key(&m, "op").array(len(reply.Ops))
		for i := range reply.Ops {
			w.op(&reply.Ops[i])
		}
	}
	if reply.Shape != nil {
		w.key(&m, "x").shape(*reply.Shape)
	}
	out = w.finish(m)
	if len(out)-start > MaxFrame {
		return out[:start], tooLarge("a frame", MaxFrame)
	}
	return out, nil
}

// Large is a body that goes before its reply.
type Large struct {
	Which Which
	Body  []byte
}

// TakeApart takes out the bodies that are larger than inline. Of several for one place only the last one counts, and is kept.
func (reply *Reply) TakeApart(inline int) []Large {
	seen := map[Which]bool{}
	bodies, kept := []Large(nil), len(reply.Ops)
	for i := len(reply.Ops) - 1; i >= 0; i-- {
		op := reply.Ops[i]
		if which, sets := op.which(); sets {
			if seen[which] {
				continue
			}
			seen[which] = true
			if len(op.Body) > inline {
				bodies = append(bodies, Large{Which: which, Body: op.Body})
				op.Apart, op.Body = uint64(len(op.Body)), nil
			}
		}
		kept--
		reply.Ops[kept] = op
	}
	reply.Ops = reply.Ops[kept:]
	return bodies
}
