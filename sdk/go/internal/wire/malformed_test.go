package wire

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/tinylib/msgp/msgp"
)

// read decodes a frame as whatever it says that it is.
func read(frame []byte) error {
	seen, err := Peek(frame)
	if err != nil {
		return err
	}
	switch seen.Kind {
	case KindCall:
		call, err := DecodeCall(frame)
		if err != nil {
			return err
		}
		_, err = call.Exchange()
		return err
	case KindBody:
		_, err = DecodeBody(frame)
	case KindCredit:
		_, err = DecodeCredit(frame)
	case KindProbe:
		_, err = DecodeProbe(frame)
	case KindGrant:
		_, err = DecodeGrant(frame)
	case KindClose:
		_, err = DecodeClose(frame)
	}
	return err
}

func FuzzFramesThatArriveNeverPanicAndFailAsMalformed(f *testing.F) {
	for _, v := range vectors(f) {
		f.Add(v.bytes(f))
		f.Add(grown(v.bytes(f)))
	}
	f.Add([]byte{})
	f.Add([]byte("garbage"))
	f.Add([]byte{0xdf, 0xff, 0xff, 0xff, 0xff, 1, 1})
	f.Fuzz(func(t *testing.T, frame []byte) {
		var malformed *Malformed
		if err := read(frame); err != nil && !errors.As(err, &malformed) {
			t.Fatalf("%T: %v", err, err)
		}
	})
}

func FuzzATextForPeopleIsCutAtACharacter(f *testing.F) {
	f.Add("boom")
	f.Add(strings.Repeat("é", MaxMessage))
	f.Add("a" + strings.Repeat("\xff", MaxMessage))
	f.Fuzz(func(t *testing.T, text string) {
		cut := shorten(text)
		if !utf8.ValidString(cut) || utf8.ValidString(text) && !strings.HasPrefix(text, cut) {
			t.Fatalf("%q became %q", text, cut)
		}
		if utf8.ValidString(text) && len(text) > MaxMessage && len(cut) < MaxMessage-utf8.UTFMax {
			t.Fatalf("%d bytes became %d", len(text), len(cut))
		}
	})
}

func TestAFrameThatEndsEarlyIsMalformedWhereverItEnds(t *testing.T) {
	for _, v := range vectors(t) {
		switch Kind(v.Frame["t"].(string)) {
		case KindCall, KindBody, KindCredit, KindProbe, KindGrant, KindClose:
		default:
			continue
		}
		frame := v.bytes(t)
		for end := range frame {
			if read(frame[:end:end]) == nil {
				t.Fatalf("%s is read although only %d bytes of it are there", v.Name, end)
			}
		}
		if read(append(frame[:len(frame):len(frame)], 0xc0)) == nil {
			t.Errorf("%s is read although something follows it", v.Name)
		}
	}
}

// callWith is a call of the vectors with some keys changed; nil takes one away.
func callWith(t *testing.T, change map[string]any) []byte {
	frame := decoded(t, vectorNamed(t, "call in request_filter").bytes(t))
	for key, value := range change {
		at := frame
		if section, inner, nested := strings.Cut(key, "."); nested {
			at, key = frame[section].(map[string]any), inner
		}
		if value == nil {
			delete(at, key)
		} else {
			at[key] = value
		}
	}
	first := []string{"t", "v", "id"}
	out := msgp.AppendMapHeader(nil, uint32(len(frame)))
	var err error
	for _, key := range first {
		if value, there := frame[key]; there {
			out, err = msgp.AppendIntf(msgp.AppendString(out, key), value)
			fatal(t, err)
			delete(frame, key)
		}
	}
	for key, value := range frame {
		out, err = msgp.AppendIntf(msgp.AppendString(out, key), value)
		fatal(t, err)
	}
	return out
}

func TestCallsThatBreakARuleAreMalformed(t *testing.T) {
	good := map[string]map[string]any{
		"as it is":                  {"e": "check"},
		"text as a binary":          {"e": []byte("check")},
		"a signed number":           {"ms": int64(200)},
		"no query":                  {"q.q": nil},
		"a later version":           {"v": 2},
		"an address of 16 bytes":    {"f.ip": make([]byte, 16)},
		"a header name in capitals": {"q.h": []any{[]any{"X-A", []byte("1")}}},
	}
	for name, change := range good {
		if err := read(callWith(t, change)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	bad := map[string]map[string]any{
		"version 0":                  {"v": 0},
		"no version":                 {"v": nil},
		"no kind":                    {"t": nil},
		"no id":                      {"id": nil},
		"a short id":                 {"id": []byte("short")},
		"no session":                 {"s": nil},
		"no entry":                   {"e": nil},
		"no plugin":                  {"pl": nil},
		"no time":                    {"ms": nil},
		"a phase too many":           {"p": 5},
		"a negative number":          {"ms": -1},
		"a float":                    {"ms": 1.5},
		"no facts":                   {"f": nil},
		"no request":                 {"q": nil},
		"a name that is no text":     {"e": []byte("\xff")},
		"a long name":                {"e": strings.Repeat("e", 257)},
		"a large state":              {"st": make([]byte, 65<<10)},
		"no path":                    {"q.p": nil},
		"a path of its own":          {"q.p": "x"},
		"a query with a space":       {"q.q": "a b"},
		"a method of two words":      {"q.m": "GET /"},
		"a header with a line break": {"q.h": []any{[]any{"x-a", []byte("1\r\nx-b: 2")}}},
		"a header of three":          {"q.h": []any{[]any{"x-a", []byte("1"), []byte("2")}}},
		"a header without name":      {"q.h": []any{[]any{"", []byte("1")}}},
		"no host":                    {"f.h": nil},
		"another scheme":             {"f.sc": "ftp"},
		"an address of 5 bytes":      {"f.ip": make([]byte, 5)},
		"a body of text":             {"qb": true},
	}
	for name, change := range bad {
		if read(callWith(t, change)) == nil {
			t.Errorf("%s: it is read", name)
		}
	}
}

func TestAKeyThatStandsTwiceCountsAsItStandsLast(t *testing.T) {
	frame := append([]byte(nil), vectorNamed(t, "grant").bytes(t)...)
	frame[2]++
	frame = msgp.AppendBool(msgp.AppendString(frame, "ok"), false)
	grant, err := DecodeGrant(frame)
	if err != nil || grant.OK {
		t.Errorf("%+v, %v", grant, err)
	}
}

func TestAReplyBeyondTheLimitsIsNotWritten(t *testing.T) {
	reply := Reply{Outcome: Next, Ops: make([]Op, MaxOps+1)}
	if _, err := reply.Append(nil, "w"); err == nil {
		t.Error("too many mutations are written")
	}
	info := Info{Worker: "w", Group: "g", Entries: make([]Entry, MaxEntries+1)}
	if _, err := info.Append(nil); err == nil {
		t.Error("too many entries are written")
	}
}

func TestOnlyTheLastOfSeveralBodiesForOnePlaceIsSent(t *testing.T) {
	large := make([]byte, 300<<10)
	reply := Reply{Outcome: End, Ops: []Op{
		{Number: SetResponseBody, Body: large},
		{Number: SetStatus, Status: 201},
		{Number: SetResponseBody, Body: []byte("small")},
		{Number: SetRequestBody, Body: large},
	}}
	bodies := reply.TakeApart(InlineBody)
	if len(bodies) != 1 || bodies[0].Which != RequestBody || len(bodies[0].Body) != len(large) {
		t.Fatalf("%d bodies go before it", len(bodies))
	}
	if len(reply.Ops) != 3 || reply.Ops[0].Number != SetStatus || string(reply.Ops[1].Body) != "small" ||
		reply.Ops[2].Apart != uint64(len(large)) || reply.Ops[2].Body != nil {
		t.Errorf("%+v", reply.Ops)
	}
}

func TestNamesNeverBecomeWildcardsOrSecondTokens(t *testing.T) {
	subjects, err := NewSubjects("acme.nylon", "auth_1", "w1")
	if err != nil || subjects.Call != "acme.nylon.auth_1.call" || subjects.Own != "acme.nylon.auth_1.w.w1" ||
		subjects.Announce != "acme.nylon.auth_1.workers" {
		t.Errorf("%+v, %v", subjects, err)
	}
	if subjects, err := NewSubjects("nylon", "auth-grün", "w1"); err != nil || subjects.Service != "nylon-auth-gr-n" {
		t.Errorf("%+v, %v", subjects, err)
	}
	for _, bad := range []string{"", "a.b", "*", ">", "a b", "a\r\nPUB x 0", "$SYS", "a\x7f", strings.Repeat("a", 257)} {
		if _, err := NewSubjects("nylon", bad, "w"); err == nil {
			t.Errorf("group %q is taken", bad)
		}
		if _, err := NewSubjects("nylon", "g", bad); err == nil {
			t.Errorf("worker %q is taken", bad)
		}
	}
}
