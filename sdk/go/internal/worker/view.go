package worker

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tinylib/msgp/msgp"

	"github.com/AssetsArt/nylon/sdk/go/internal/abi"
	"github.com/AssetsArt/nylon/sdk/go/internal/wire"
)

// What a handler reads of its call and changes in it, by the methods of the C ABI, which are the SDK's vocabulary on every host.
// Changes go into the exchange as well as into the reply, so that a handler reads its own writes. Phases and values have
// been checked by the contexts.

// Read answers a reading method; name is a header's.
func (c *Call) Read(method uint32, name string) ([]byte, error) {
	if c.IsClosed() {
		return nil, ErrOver
	}
	switch method {
	case abi.ReadRequestFullBody:
		return c.RequestBody()
	case abi.ReadResponseFullBody:
		return c.ResponseBody()
	case abi.GetPayload:
		return c.payload()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	x := c.exchange
	switch method {
	case abi.ReadRequestMethod:
		return []byte(x.Method), nil
	case abi.ReadRequestPath:
		return []byte(x.Path), nil
	case abi.ReadRequestQuery:
		return []byte(x.Query), nil
	case abi.ReadRequestURL:
		return []byte(target(x)), nil
	case abi.ReadRequestHost:
		return []byte(x.Host), nil
	case abi.ReadRequestScheme:
		return []byte(x.Scheme), nil
	case abi.ReadRequestHTTPVersion:
		return []byte(httpVersion(x.Version)), nil
	case abi.ReadRequestClientIP:
		return []byte(x.ClientIP.String()), nil
	case abi.ReadRequestID:
		return []byte(hex.EncodeToString(x.RequestID[:])), nil
	case abi.ReadRequestParams:
		return params(x.Params)
	case abi.ReadRequestTimestamp:
		return number(x.ReceivedAt.UnixMilli()), nil
	case abi.ReadRequestBytes:
		return number(size(&c.request, x.Request)), nil
	case abi.ReadRequestHeader:
		return []byte(joined(x.Request, name)), nil
	case abi.ReadAttempt:
		return number(int64(c.frame.Attempt)), nil
	case abi.ReadResponseStatus:
		return number(int64(x.Status)), nil
	case abi.ReadResponseHeader:
		return []byte(joined(x.Response, name)), nil
	case abi.ReadResponseBytes:
		if c.frame.Phase == wire.Logging {
			return number(int64(x.SentBytes)), nil
		}
		return number(size(&c.response, x.Response)), nil
	case abi.ReadResponseDuration:
		return number(x.Duration.Milliseconds()), nil
	case abi.ReadResponseError:
		return []byte(x.Error), nil
	case abi.ReadResponseChunk:
		last := byte(0)
		if x.Last {
			last = 1
		}
		return append([]byte{last}, x.Chunk...), nil
	}
	return nil, fmt.Errorf("method %d is not one that reads", method)
}

// Fields gives all headers of a head, in order and with duplicates.
func (c *Call) Fields(method uint32) ([]wire.Field, error) {
	if c.IsClosed() {
		return nil, ErrOver
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if method == abi.ReadResponseHeaders {
		return slices.Clone(c.exchange.Response), nil
	}
	return slices.Clone(c.exchange.Request), nil
}

// IsClosed: its time is over. A handler that streams its response may read on.
func (c *Call) IsClosed() bool { return c.decided.Load() && c.begun() == nil }

// operations are the mutations by their methods.
var operations = map[uint32]wire.OpNumber{
	abi.SetRequestMethod:     wire.SetMethod,
	abi.SetRequestPath:       wire.SetPath,
	abi.SetRequestQuery:      wire.SetQuery,
	abi.SetRequestHeader:     wire.SetRequestHeader,
	abi.AddRequestHeader:     wire.AddRequestHeader,
	abi.RemoveRequestHeader:  wire.RemoveRequestHeader,
	abi.SetRequestBody:       wire.SetRequestBody,
	abi.SetResponseStatus:    wire.SetStatus,
	abi.SetResponseHeader:    wire.SetResponseHeader,
	abi.AddResponseHeader:    wire.AddResponseHeader,
	abi.RemoveResponseHeader: wire.RemoveResponseHeader,
	abi.SetResponseFullBody:  wire.SetResponseBody,
	abi.SetResponseChunk:     wire.SetChunk,
}

// Write makes a mutation, or a part of a streamed response.
func (c *Call) Write(method uint32, name string, value []byte) error {
	switch method {
	case abi.SetResponseStreamHeader:
		return c.BeginStream()
	case abi.SetResponseStreamData:
		return c.WriteStream(value)
	case abi.SetResponseStreamEnd:
		return c.EndStream()
	}
	number, known := operations[method]
	if !known {
		return fmt.Errorf("method %d is not one that changes something", method)
	}
	op := wire.Op{Number: number, Name: name}
	switch number {
	case wire.SetRequestBody, wire.SetResponseBody, wire.SetChunk:
		op.Body = bytes.Clone(value)
	case wire.SetStatus:
		op.Status = int(binary.BigEndian.Uint16(value))
	default:
		op.Value = string(value)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.decided.Load() {
		return ErrOver
	}
	if err := c.apply(&op); err != nil {
		return err
	}
	c.ops = append(c.ops, op)
	return nil
}

// apply brings a mutation into what the handler reads. With the lock held.
func (c *Call) apply(op *wire.Op) (err error) {
	x := c.exchange
	switch op.Number {
	case wire.SetMethod:
		x.Method = op.Value
	case wire.SetPath:
		x.Path = op.Value
	case wire.SetQuery:
		x.Query = op.Value
	case wire.SetRequestHeader, wire.AddRequestHeader, wire.RemoveRequestHeader:
		x.Request, err = changed(x.Request, op, op.Number-wire.SetRequestHeader)
	case wire.SetStatus:
		x.Status = op.Status
	case wire.SetResponseHeader, wire.AddResponseHeader, wire.RemoveResponseHeader:
		x.Response, err = changed(x.Response, op, op.Number-wire.SetResponseHeader)
	case wire.SetRequestBody:
		c.request = body{Body: wire.Body{Bytes: op.Body, Here: true}}
	case wire.SetResponseBody:
		c.response = body{Body: wire.Body{Bytes: op.Body, Here: true}}
	case wire.SetChunk:
		x.Chunk = op.Body
	}
	return err
}

// changed sets (0), adds (1) or removes (2) a header of a head.
func changed(fields []wire.Field, op *wire.Op, how wire.OpNumber) ([]wire.Field, error) {
	if how != 1 {
		fields = slices.DeleteFunc(fields, func(field wire.Field) bool { return field.Name == op.Name })
	}
	if how == 2 {
		return fields, nil
	}
	if len(fields) >= wire.MaxHeaders {
		return fields, fmt.Errorf("header %q is one too many: a head holds at most %d lines", op.Name, wire.MaxHeaders)
	}
	return append(fields, wire.Field{Name: op.Name, Value: op.Value}), nil
}

// joined is a header's value as one (RFC 9110, 5.3), and of set-cookie, which cannot be joined, the first.
func joined(fields []wire.Field, name string) string {
	value, found := "", false
	for _, field := range fields {
		switch {
		case field.Name != name:
		case !found:
			value, found = field.Value, true
		case name == "set-cookie":
		case name == "cookie":
			value += "; " + field.Value
		default:
			value += ", " + field.Value
		}
	}
	return value
}

// size is a body's: as known, else as content-length says, else 0.
func size(b *body, fields []wire.Field) int64 {
	switch {
	case b.Here:
		return int64(len(b.Bytes))
	case b.Held:
		return b.Size
	}
	length, err := strconv.ParseInt(joined(fields, "content-length"), 10, 64)
	if err != nil {
		return 0
	}
	return length
}

func number(value int64) []byte { return strconv.AppendInt(nil, value, 10) }

func target(x *wire.Exchange) string {
	url := strings.Builder{}
	url.WriteString(x.Scheme + "://" + x.Host + x.Path)
	if x.Query != "" {
		url.WriteString("?" + x.Query)
	}
	return url.String()
}

func httpVersion(version int) string {
	switch version {
	case 10:
		return "1.0"
	case 20:
		return "2"
	case 30:
		return "3"
	}
	return "1.1"
}

func params(fields []wire.Field) ([]byte, error) {
	values := make(map[string]string, len(fields))
	for _, field := range fields {
		values[field.Name] = field.Value
	}
	return json.Marshal(values)
}

// payload is the middleware's payload as JSON, which is what a handler gets of it on every host.
func (c *Call) payload() ([]byte, error) {
	if len(c.frame.Payload) == 0 {
		return nil, nil
	}
	var text bytes.Buffer
	rest, err := msgp.UnmarshalAsJSON(&text, c.frame.Payload)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%d bytes follow it", len(rest))
	}
	if err != nil {
		return nil, &wire.Failure{Kind: wire.Protocol, Message: "the payload cannot be read: " + err.Error()}
	}
	return text.Bytes(), nil
}
