package worker

import (
	"bytes"
	"encoding/binary"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/AssetsArt/nylon/sdk/go/internal/wire"
)

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func containsAny(text string, parts ...string) bool {
	for _, part := range parts {
		if strings.Contains(text, part) {
			return true
		}
	}
	return false
}

func numbered(n uint32) (id wire.CallID) {
	binary.BigEndian.PutUint32(id[:], n)
	return id
}

func at(after time.Duration) moment { return moment(time.Hour + after) }

func TestAReplyIsKeptForAWhileAndItsIdForLonger(t *testing.T) {
	var known knownCalls
	known.end(numbered(1), []byte("reply"), at(0))
	if reply, there := known.look(numbered(1)); !there || string(reply) != "reply" {
		t.Errorf("%q, %v", reply, there)
	}
	known.expire(at(keepReply + time.Millisecond))
	if reply, there := known.look(numbered(1)); !there || reply != nil {
		t.Errorf("%q, %v", reply, there)
	}
	known.expire(at(keepID + time.Millisecond))
	if _, there := known.look(numbered(1)); there {
		t.Error("the id is still known")
	}
	if _, there := known.look(numbered(2)); there {
		t.Error("a call that never was is known")
	}
}

func TestTheTimeWithoutABrokerDoesNotCountForReplies(t *testing.T) {
	var known knownCalls
	known.end(numbered(1), []byte("reply"), at(0))
	known.hold(true, at(time.Second))
	known.expire(at(time.Minute / 3))
	known.hold(false, at(time.Minute/3))
	known.expire(at(time.Minute/3 + keepReply))
	if reply, _ := known.look(numbered(1)); string(reply) != "reply" {
		t.Errorf("%q", reply)
	}
}

func TestWhatIsKeptIsBounded(t *testing.T) {
	var known knownCalls
	reply := bytes.Repeat([]byte("r"), 1000)
	for n := range uint32(20_000) {
		known.end(numbered(n), reply, at(0))
		if known.size > maxReplies {
			t.Fatalf("%d bytes are kept", known.size)
		}
	}
	if kept, _ := known.look(numbered(19_999)); !bytes.Equal(kept, reply) {
		t.Error("the newest reply is gone")
	}
	if kept, there := known.look(numbered(0)); !there || kept != nil {
		t.Error("the oldest reply is still there")
	}
	known.end(numbered(20_000), make([]byte, maxReplies+1), at(0))
	if kept, there := known.look(numbered(20_000)); !there || kept != nil {
		t.Error("a reply is kept that is larger than all may be")
	}
	for n := range uint32(maxIDs + 1000) {
		known.end(numbered(30_000+n), nil, at(0))
	}
	if len(known.places) > maxIDs {
		t.Errorf("%d ids are kept", len(known.places))
	}
}

func TestSessionsOfASilentGatewayEnd(t *testing.T) {
	var kept sessions
	begun := time.Now()
	silent, alive := wire.SessionID{1}, wire.SessionID{2}
	for _, id := range []wire.SessionID{silent, alive} {
		if _, _, failure := kept.enter(id, true, begun); failure != nil {
			t.Fatal(failure)
		}
	}
	later := begun.Add(maxSilence - time.Second)
	if _, _, failure := kept.enter(alive, false, later); failure != nil {
		t.Fatal(failure)
	}
	kept.expire(begun.Add(maxSilence + lookEvery))
	if _, there := kept.open[silent]; there || len(kept.open) != 1 {
		t.Errorf("%d sessions are open", len(kept.open))
	}
	kept.enter(wire.SessionID{2, 0, 0, 0, 0, 0, 0, 0, 9}, true, begun.Add(maxIdle))
	kept.expire(begun.Add(maxIdle + maxSilence - time.Second))
	if _, there := kept.open[alive]; there {
		t.Error("a session without a call for hours is open")
	}
}

func TestSessionsAreBounded(t *testing.T) {
	var kept sessions
	var id wire.SessionID
	for n := range uint32(maxSessions) {
		binary.BigEndian.PutUint32(id[8:], n+1)
		if _, _, failure := kept.enter(id, true, time.Now()); failure != nil {
			t.Fatal(failure)
		}
	}
	if _, _, failure := kept.enter(wire.SessionID{9}, true, time.Now()); failure == nil || failure.Kind != wire.Overloaded {
		t.Errorf("%v", failure)
	}
	if _, _, failure := kept.enter(id, false, time.Now()); failure != nil {
		t.Errorf("one that is open: %v", failure)
	}
}

func TestPausesGrowAndAreCapped(t *testing.T) {
	for round := range 100 {
		if pause := backoff(round); pause < firstPause/2 || pause > longestPause {
			t.Errorf("round %d: %v", round, pause)
		}
	}
	if backoff(1) > firstPause || backoff(50) < longestPause/2 {
		t.Error("they do not grow")
	}
}

func TestAGapBetweenMarksIsAStall(t *testing.T) {
	var w watch
	w.start()
	since := w.received()
	if _, stalled := w.look(); stalled || w.stalledSince(since) {
		t.Error("it stood still before it did")
	}
	w.beat.Store(int64(now()) - int64(stall) - 1)
	if !w.stalledSince(w.received()) {
		t.Error("a stall that nobody has noticed yet is none")
	}
	if _, stalled := w.look(); !stalled || !w.stalledSince(since) || w.received() != 0 {
		t.Error("it has not noticed")
	}
	resumed := w.resumed.Load()
	if w.caughtUp(resumed-1) || w.received() != 0 {
		t.Error("an older stall counts")
	}
	if !w.caughtUp(resumed) || w.stalledSince(w.received()) {
		t.Error("what comes now is suspect too")
	}
}

func TestNoLogShowsAPassword(t *testing.T) {
	for server, plain := range map[string]string{
		"nats://localhost:4222":         "nats://localhost:4222",
		"tls://user:p%40ss@host:4222":   "tls://host:4222",
		"user:p@ss@host:4222":           "host:4222",
		"nats://token@[::1]:4222":       "nats://[::1]:4222",
		"localhost":                     "localhost",
		"nats://user:pass@host:no-port": "nats://host:no-port",
	} {
		if got := WithoutUser(server); got != plain {
			t.Errorf("%s became %s", server, got)
		}
	}
}
