package wire

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/tinylib/msgp/msgp"
)

// vector is one frame of tests/vectors/nats-frames.json: its meaning, and its bytes.
type vector struct {
	Name  string         `json:"name"`
	Frame map[string]any `json:"frame"`
	Hex   string         `json:"hex"`
}

func (v vector) bytes(t testing.TB) []byte {
	raw, err := hex.DecodeString(v.Hex)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// vectors are all of them.
func vectors(t testing.TB) []vector {
	text, err := os.ReadFile("../../../../tests/vectors/nats-frames.json")
	if err != nil {
		t.Fatal(err)
	}
	var all []vector
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	if err := decoder.Decode(&all); err != nil {
		t.Fatal(err)
	}
	return all
}

func vectorNamed(t testing.TB, name string) vector {
	for _, v := range vectors(t) {
		if v.Name == name {
			return v
		}
	}
	t.Fatalf("there is no vector %q", name)
	return vector{}
}

// meaning is a decoded MessagePack value as the vectors have it in JSON.
func meaning(value any) any {
	switch value := value.(type) {
	case map[string]any:
		for key := range value {
			value[key] = meaning(value[key])
		}
	case []any:
		for i := range value {
			value[i] = meaning(value[i])
		}
	case []byte:
		return map[string]any{"bin": hex.EncodeToString(value)}
	case uint64, int64:
		text, _ := json.Marshal(value)
		return json.Number(text)
	}
	return value
}

func decoded(t testing.TB, frame []byte) map[string]any {
	value, rest, err := msgp.ReadIntfBytes(frame)
	if err != nil || len(rest) > 0 {
		t.Fatalf("%v, %d bytes left", err, len(rest))
	}
	return value.(map[string]any)
}

var (
	callID  = CallID(bytes.Repeat([]byte{0xaa}, 16))
	session = SessionID(bytes.Repeat([]byte{0xbb}, 16))
)

// written are the frames that a worker sends, each made of what its vector says.
func written(t testing.TB) map[string][]byte {
	reply := func(reply Reply) []byte {
		reply.ID = callID
		frame, err := reply.Append(nil, "w1")
		if err != nil {
			t.Fatal(err)
		}
		return frame
	}
	chunk := func(chunk Chunk) []byte { return AppendChunk(nil, callID, "w1", chunk) }
	shape := Shape{Phases: 9, Body: true, Session: true}
	info := Info{Worker: "w1", Group: "g", Software: "0.1.0", Concurrency: 64, Entries: []Entry{{"check", shape}}}
	announcement, err := info.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	boom := &Failure{Kind: Raised, Message: "ValueError: boom"}
	return map[string][]byte{
		"reply that goes on":             reply(Reply{Outcome: Next}),
		"reply of a handler that raised": reply(Reply{Outcome: Failed, Failure: boom}),
		"reply that begins a stream":     reply(Reply{Outcome: Streaming, Ops: []Op{{Number: SetStatus, Status: 200}}}),
		"reply whose response body came before it, in chunks": reply(
			Reply{Outcome: End, Ops: []Op{{Number: SetResponseBody, Apart: 1 << 20}}}),
		"ack":                            AppendSign(nil, KindAck, callID, "w1"),
		"busy":                           AppendSign(nil, KindBusy, callID, "w1"),
		"unknown":                        AppendSign(nil, KindUnknown, callID, "w1"),
		"claim":                          AppendSign(nil, KindClaim, callID, "w1"),
		"read":                           AppendRead(nil, callID, "w1", RequestBody, 0),
		"read in parts":                  AppendRead(nil, callID, "w1", RequestBody, Window),
		"chunk of a body":                chunk(Chunk{Which: ResponseBody, Part: Part{Number: 1, Total: 300_000, Data: []byte("abc")}}),
		"chunk of a stream":              chunk(Chunk{Which: Stream, Part: Part{Data: []byte("abc")}}),
		"chunk that ends a stream":       chunk(Chunk{Which: Stream, Part: Part{Number: 1}, End: true}),
		"chunk that breaks a stream off": chunk(Chunk{Which: Stream, Part: Part{Number: 1}, Failure: boom}),
		"info":                           announcement,
		"leave":                          AppendLeave(nil, "w1", "g"),
	}
}

func TestFramesOfAWorkerAreByteByByteThoseOfTheVectors(t *testing.T) {
	frames := written(t)
	for _, v := range vectors(t) {
		kind := Kind(v.Frame["t"].(string))
		switch kind {
		case KindCall, KindBody, KindCredit, KindProbe, KindGrant, KindClose:
			continue
		}
		if v.Name == "reply that ends, with every mutation of a head" {
			continue // it has a state, which handlers in Go do not have: see the next test
		}
		frame, there := frames[v.Name]
		if !there {
			t.Errorf("no frame is written for %q", v.Name)
			continue
		}
		if got := hex.EncodeToString(frame); got != v.Hex {
			t.Errorf("%s:\n got %s\nwant %s", v.Name, got, v.Hex)
		}
		if got := meaning(decoded(t, frame)); !reflect.DeepEqual(got, any(v.Frame)) {
			t.Errorf("%s:\n got %v\nwant %v", v.Name, got, v.Frame)
		}
	}
}

func TestEveryMutationIsWrittenAsTheVectorsSay(t *testing.T) {
	v := vectorNamed(t, "reply that ends, with every mutation of a head")
	reply := Reply{
		ID: callID, Outcome: End, Shape: &Shape{Phases: 9, Body: true, Session: true},
		Ops: []Op{
			{Number: SetMethod, Value: "PUT"},
			{Number: SetPath, Value: "/new"},
			{Number: SetQuery},
			{Number: SetRequestHeader, Name: "x-user", Value: "1"},
			{Number: AddRequestHeader, Name: "x-more", Value: "1"},
			{Number: RemoveRequestHeader, Name: "cookie"},
			{Number: SetRequestBody, Body: []byte{0, 0xff}},
			{Number: SetStatus, Status: 201},
			{Number: SetResponseHeader, Name: "etag", Value: "1"},
			{Number: AddResponseHeader, Name: "set-cookie", Value: "1"},
			{Number: RemoveResponseHeader, Name: "server"},
			{Number: SetResponseBody, Body: []byte("done")},
		},
	}
	frame, err := reply.Append(nil, "w1")
	if err != nil {
		t.Fatal(err)
	}
	delete(v.Frame, "st")
	if got := meaning(decoded(t, frame)); !reflect.DeepEqual(got, any(v.Frame)) {
		t.Errorf("\n got %v\nwant %v", got, v.Frame)
	}
}

// grown are a frame's bytes with a key behind the others that nobody knows, of a nested value.
func grown(frame []byte) []byte {
	out := append([]byte(nil), frame...)
	out[2]++
	out = msgp.AppendArrayHeader(msgp.AppendString(out, "later"), 2)
	out, _ = msgp.AppendIntf(out, map[string]any{"deep": []any{1, nil, 2.5, map[string]any{"er": []byte("x")}}})
	return append(out, 0xc7, 3, 5, 1, 2, 3) // an extension
}

func TestCallsOfTheVectorsAreRead(t *testing.T) {
	for _, v := range vectors(t) {
		if v.Frame["t"] != "call" {
			continue
		}
		for _, frame := range [][]byte{v.bytes(t), grown(v.bytes(t))} {
			call, err := DecodeCall(frame)
			if err != nil {
				t.Fatalf("%s: %v", v.Name, err)
			}
			x, err := call.Exchange()
			if err != nil {
				t.Fatalf("%s: %v", v.Name, err)
			}
			if call.ID != callID || call.Session != session || call.Attempt != 2 || call.Plugin != "auth" ||
				call.Entry != "check" || call.Remaining != 4990*time.Millisecond ||
				call.Traceparent != "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01" ||
				string(call.Payload) != "\x81\xa3key\xa1k" || string(call.State) != "\x81\xa1n\x01" {
				t.Errorf("%s: %+v", v.Name, call)
			}
			if call.Claim != strings.Contains(v.Name, "claimed") {
				t.Errorf("%s: claim is %v", v.Name, call.Claim)
			}
			if call.RequestBody.Held != strings.Contains(v.Name, "larger") {
				t.Errorf("%s: body is %+v", v.Name, call.RequestBody)
			}
			want := []Field{{"cookie", "a=1"}, {"cookie", "b=2"}, {"x-name", "caf\xe9"}}
			if x.Method != "POST" || x.Path != "/items/4%202" || x.Query != "page=2" || x.Version != 11 ||
				!reflect.DeepEqual(x.Request, want) || !reflect.DeepEqual(x.Params, []Field{{"id", "4 2"}}) ||
				x.Scheme != "https" || x.Host != "example.com:8443" || x.ClientIP.String() != "192.0.2.1" ||
				x.ReceivedAt.UnixNano() != 1_700_000_000_123_000_000 || x.RequestID != [16]byte(bytes.Repeat([]byte{7}, 16)) {
				t.Errorf("%s: %+v", v.Name, x)
			}
			if v.Name == "call in response_body_filter by chunk" &&
				(!call.Streaming || string(x.Chunk) != "part" || !x.Last || call.Phase != ResponseBodyFilter) {
				t.Errorf("%s: %+v", v.Name, x)
			}
			if v.Name == "call in logging" &&
				(x.SentBytes != 5 || x.Duration != 250*time.Microsecond || x.Error != "upstream reset" || call.Phase != Logging) {
				t.Errorf("%s: %+v", v.Name, x)
			}
		}
	}
}

func TestWhatAGatewaySendsBesideCallsIsRead(t *testing.T) {
	both := func(name string, read func(frame []byte) any, want any) {
		t.Helper()
		frame := vectorNamed(t, name).bytes(t)
		for _, frame := range [][]byte{frame, grown(frame)} {
			if got := read(frame); !reflect.DeepEqual(got, want) {
				t.Errorf("%s:\n got %+v\nwant %+v", name, got, want)
			}
		}
	}
	body := func(frame []byte) any { b, err := DecodeBody(frame); fatal(t, err); return *b }
	credit := func(frame []byte) any { c, err := DecodeCredit(frame); fatal(t, err); return c }
	left := 99 * time.Millisecond
	both("body", body, BodyFrame{ID: callID, Which: RequestBody, Remaining: left, Part: Part{Total: 3, Data: []byte("abc")}})
	both("body, its second part", body,
		BodyFrame{ID: callID, Which: RequestBody, Remaining: left, Part: Part{Number: 1, Total: 300_000, Data: []byte("abc")}})
	both("body that is refused", body,
		BodyFrame{ID: callID, Which: RequestBody, Remaining: left, Failure: &Failure{"body_too_large", "over 10 MiB"}})
	both("credit", credit, Credit{ID: callID, Which: ResponseBody, UpTo: 9})
	both("credit that ends a transfer", credit,
		Credit{ID: callID, Which: Stream, Failure: &Failure{"cancelled", "the client went away"}})
	both("probe", func(frame []byte) any { id, err := DecodeProbe(frame); fatal(t, err); return id }, callID)
	both("grant", func(frame []byte) any { g, err := DecodeGrant(frame); fatal(t, err); return g }, Grant{callID, true})
	both("close", func(frame []byte) any { id, err := DecodeClose(frame); fatal(t, err); return id }, session)
}

func TestEveryVectorSaysWhatItIsAtTheFirstLook(t *testing.T) {
	for _, v := range vectors(t) {
		seen, err := Peek(v.bytes(t))
		if err != nil || string(seen.Kind) != v.Frame["t"] {
			t.Errorf("%s: %+v, %v", v.Name, seen, err)
		}
		if _, about := v.Frame["id"]; about != (seen.ID == callID) {
			t.Errorf("%s: its id is %v", v.Name, seen.ID)
		}
	}
}

func fatal(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
