package worker

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/tinylib/msgp/msgp"

	"github.com/AssetsArt/nylon/sdk/go/internal/brokertest"
	"github.com/AssetsArt/nylon/sdk/go/internal/wire"
)

// patience is how long a test waits for what has to come.
const patience = 20 * time.Second

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// handlers is a plugin of one function for all phases of all entries.
type handlers struct {
	run    func(phase uint8, call *Call) Outcome
	opened atomic.Int32
}

func (h *handlers) Open(string) Session {
	h.opened.Add(1)
	return h
}

func (h *handlers) Run(phase uint8, call *Call, done func(Outcome)) { done(h.run(phase, call)) }

var next = Outcome{Decision: wire.Next}

// frame is a frame as a map.
type frame = map[string]any

// gateway stands in for a gateway: it writes its frames by hand, so that a worker is tested against the protocol's words and not
// against our own encoder.
type gateway struct {
	t     *testing.T
	conn  *nats.Conn
	group string
	inbox string
	// worker is the worker's id, once it has been heard.
	worker  string
	answers chan answer
	heard   chan frame
}

// answer is a frame, and the last token of the subject that it came to.
type answer struct {
	to string
	frame
}

// serve starts a worker with one entry for all phases, and a gateway that has heard of it.
func serve(t *testing.T, b *brokertest.Broker, plugin *handlers, change func(*Settings)) (*Worker, *gateway) {
	t.Helper()
	settings := Settings{
		Servers: []string{b.URL()}, Group: "g", Prefix: "nylon", Concurrency: 64, DrainTimeout: patience, Software: "0.0.0",
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	if change != nil {
		change(&settings)
	}
	g := newGateway(t, b, settings.Group)
	w, err := Connect(settings)
	must(t, err)
	must(t, w.Announce(map[string]wire.Shape{
		"entry": {Phases: 15, Session: true}, "first": {Phases: 1}, "body": {Phases: 1, Body: true}}))
	must(t, w.Serve(plugin))
	stopped := make(chan struct{})
	t.Cleanup(func() {
		close(stopped)
		w.Stop(stopped)
	})
	g.worker = g.hear("info")["w"].(string)
	return w, g
}

func newGateway(t *testing.T, b *brokertest.Broker, group string) *gateway {
	conn, err := nats.Connect(b.URL(), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond))
	must(t, err)
	t.Cleanup(conn.Close)
	g := &gateway{t: t, conn: conn, group: group, inbox: nats.NewInbox(),
		answers: make(chan answer, 1000), heard: make(chan frame, 100)}
	_, err = conn.Subscribe(g.inbox+".*", func(m *nats.Msg) {
		to := m.Subject[len(g.inbox)+1:]
		if m.Header.Get("Status") == "503" {
			g.answers <- answer{to, frame{"t": "no responders"}}
		} else {
			g.answers <- answer{to, unpacked(m.Data)}
		}
	})
	must(t, err)
	_, err = conn.Subscribe("nylon."+group+".workers", func(m *nats.Msg) { g.heard <- unpacked(m.Data) })
	must(t, err)
	must(t, conn.Flush())
	return g
}

func unpacked(data []byte) frame {
	value, _, err := msgp.ReadIntfBytes(data)
	if err != nil {
		return frame{"t": "unreadable"}
	}
	return value.(frame)
}

// packed writes a frame with its first keys first.
func packed(f frame) []byte {
	out := msgp.AppendMapHeader(nil, uint32(len(f)))
	for _, key := range []string{"t", "v", "id"} {
		if value, there := f[key]; there {
			out, _ = msgp.AppendIntf(msgp.AppendString(out, key), value)
		}
	}
	for key, value := range f {
		if key != "t" && key != "v" && key != "id" {
			out, _ = msgp.AppendIntf(msgp.AppendString(out, key), value)
		}
	}
	return out
}

func id16() []byte {
	id := make([]byte, 16)
	rand.Read(id)
	return id
}

// call is a call's frame; change replaces keys.
func call(change frame) frame {
	f := frame{
		"t": "call", "v": 1, "id": id16(), "s": id16(), "a": 1, "pl": "auth", "e": "entry", "p": 1, "ms": 20000,
		"f": frame{"id": id16(), "sc": "http", "h": "example.com", "ip": []byte{192, 0, 2, 1}, "at": 1},
		"q": frame{"m": "GET", "p": "/", "ver": 11, "h": []any{[]any{"x-a", []byte("1")}, []any{"x-a", []byte("2")}}},
	}
	for key, value := range change {
		f[key] = value
	}
	return f
}

var tokens atomic.Int64

// send sends a frame to the group, or to the worker alone, and gives the token under which it is answered.
func (g *gateway) send(own bool, f frame) string { return g.sendBytes(own, packed(f)) }

func (g *gateway) sendBytes(own bool, data []byte) string {
	g.t.Helper()
	subject := "nylon." + g.group + ".call"
	if own {
		subject = "nylon." + g.group + ".w." + g.worker
	}
	token := strconv.FormatInt(tokens.Add(1), 10)
	must(g.t, g.conn.PublishRequest(subject, g.inbox+"."+token, data))
	return token
}

// tell sends a frame that wants no answer to the worker alone.
func (g *gateway) tell(kind string, f frame) {
	g.t.Helper()
	f["t"], f["v"] = kind, 1
	must(g.t, g.conn.Publish("nylon."+g.group+".w."+g.worker, packed(f)))
}

// take is the next frame of this kind, and fails at one of another kind but those passed over.
func (g *gateway) take(kind string, passed ...string) answer {
	g.t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
next:
	for {
		select {
		case got := <-g.answers:
			if got.frame["t"] == kind {
				return got
			}
			for _, other := range passed {
				if got.frame["t"] == other {
					continue next
				}
			}
			g.t.Fatalf("%v came instead of %s", got.frame, kind)
		case <-timer.C:
			g.t.Fatalf("no %s came", kind)
		}
	}
}

// nothing fails where anything comes before the worker has answered a question behind it.
func (g *gateway) nothing() {
	g.t.Helper()
	g.send(true, frame{"t": "probe", "v": 1, "id": make([]byte, 16)})
	if got := g.take("unknown"); !bytes.Equal(got.frame["id"].([]byte), make([]byte, 16)) {
		g.t.Fatalf("%v came", got.frame)
	}
}

func (g *gateway) probe(id any) frame {
	g.t.Helper()
	token := g.send(true, frame{"t": "probe", "v": 1, "id": id})
	got := <-g.answers
	if got.to != token {
		g.t.Fatalf("%v came to %s instead of %s", got.frame, got.to, token)
	}
	return got.frame
}

// reply sends a call and gives its reply.
func (g *gateway) reply(own bool, f frame) frame {
	g.t.Helper()
	g.send(own, f)
	return g.take("reply", "ack").frame
}

func (g *gateway) hear(kind string) frame {
	g.t.Helper()
	for {
		select {
		case f := <-g.heard:
			if f["t"] == kind {
				return f
			}
		case <-time.After(patience):
			g.t.Fatalf("no %s was heard", kind)
		}
	}
}

// kindOf is the kind of a reply's error.
func kindOf(f frame) string {
	failure, _ := f["er"].(frame)
	return fmt.Sprint(failure["k"])
}

func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !condition(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not in time: " + what)
		}
	}
}
