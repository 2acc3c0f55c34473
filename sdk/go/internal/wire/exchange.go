package wire

import (
	"net/netip"
	"strings"
	"time"
)

// Field is one line of a head: its name in lower case, its value's bytes as they came.
type Field struct{ Name, Value string }

// Exchange is what a handler sees of a request and its response.
type Exchange struct {
	RequestID  [16]byte
	Scheme     string
	Host       string
	ClientIP   netip.Addr
	ReceivedAt time.Time
	Params     []Field

	Method  string
	Path    string
	Query   string
	Version int
	Request []Field

	Status   int
	Response []Field

	// Chunk and Last are what a response_body_filter by chunk is called for.
	Chunk []byte
	Last  bool

	// SentBytes, Duration and Error are what became of it, in logging.
	SentBytes uint64
	Duration  time.Duration
	Error     string
}

// Exchange reads and checks the sections of a call.
func (call *Call) Exchange() (*Exchange, error) {
	x := &Exchange{Version: 11, Status: 200}
	for _, section := range []struct {
		bytes []byte
		read  func(r *reader)
	}{
		{call.facts, x.readFacts},
		{call.request, x.readRequest},
		{call.response, x.readResponse},
		{call.chunk, x.readChunk},
		{call.sent, x.readSent},
	} {
		if section.bytes == nil {
			continue
		}
		r := &reader{rest: section.bytes}
		section.read(r)
		if err := r.finish(); err != nil {
			return nil, err
		}
	}
	return x, nil
}

func (x *Exchange) readFacts(r *reader) {
	id, scheme, host, ip := false, false, false, false
	r.fields("the facts", func(key string) bool {
		switch key {
		case "id":
			r.exactly("the request id", x.RequestID[:])
			id = true
		case "sc":
			x.Scheme = r.text("the scheme", MaxName)
			scheme = x.Scheme == "http" || x.Scheme == "https"
		case "h":
			x.Host = r.text("the host", MaxTarget)
			host = true
		case "ip":
			x.ClientIP, ip = netip.AddrFromSlice(r.bytes("the client's address", 16))
		case "at":
			x.ReceivedAt = time.Unix(0, int64(r.uint("the time of arrival")&(1<<63-1)))
		case "pm":
			x.Params = r.pairs("the path parameters", maxParams, MaxTarget, true)
		default:
			return false
		}
		return true
	})
	if !id || !scheme || !host || !ip {
		r.fail("the facts (f)", "they have an id, a scheme (http or https), a host and a client's address")
	}
}

func (x *Exchange) readRequest(r *reader) {
	r.fields("the request head", func(key string) bool {
		switch key {
		case "m":
			x.Method = r.text("the method", MaxMethod)
		case "p":
			x.Path = r.text("the path", MaxTarget)
		case "q":
			x.Query = r.text("the query", MaxTarget)
		case "ver":
			x.Version = int(r.uint32("the HTTP version"))
		case "h":
			x.Request = r.head()
		default:
			return false
		}
		return true
	})
	if !IsToken(x.Method) || !IsPath(x.Path) || !IsQuery(x.Query) {
		r.fail("the request head (q)", "it has a method, and a path and query that are percent-encoded")
	}
}

func (x *Exchange) readResponse(r *reader) {
	x.Status = 0
	r.fields("the response head", func(key string) bool {
		switch key {
		case "s":
			x.Status = int(r.uint32("the status"))
		case "h":
			x.Response = r.head()
		default:
			return false
		}
		return true
	})
	if x.Status < 100 || x.Status > 999 {
		r.fail("the response head (r)", "it has a status of 100 to 999")
	}
}

func (x *Exchange) readChunk(r *reader) {
	r.fields("the chunk", func(key string) bool {
		switch key {
		case "d":
			x.Chunk = r.bytes("the chunk", MaxFrame)
		case "end":
			x.Last = r.bool("the end of the stream")
		default:
			return false
		}
		return true
	})
}

func (x *Exchange) readSent(r *reader) {
	r.fields("what was sent", func(key string) bool {
		switch key {
		case "b":
			x.SentBytes = r.uint("the bytes sent")
		case "d":
			x.Duration = time.Duration(r.uint("the duration") & (1<<63 - 1))
		case "e":
			x.Error = r.text("the exchange's error", MaxMessage)
		default:
			return false
		}
		return true
	})
}

// head is the header fields of a head.
func (r *reader) head() []Field {
	fields := r.pairs("the headers", MaxHeaders, MaxFrame, false)
	for i, field := range fields {
		if !IsToken(field.Name) || !IsValue(field.Value) {
			r.fail("a header", "its name is a token, and its value holds no control character")
			return nil
		}
		fields[i].Name = strings.ToLower(field.Name)
	}
	return fields
}

func (r *reader) pairs(what string, limit, valueLimit int, text bool) []Field {
	count := r.array(what, limit)
	fields := make([]Field, 0, count)
	for range count {
		if r.array(what, 2) != 2 {
			r.fail(what, "each is an array of two")
			return nil
		}
		field := Field{Name: r.text(what, MaxTarget)}
		if text {
			field.Value = r.text(what, valueLimit)
		} else {
			field.Value = r.octets(what, valueLimit)
		}
		fields = append(fields, field)
	}
	return fields
}
