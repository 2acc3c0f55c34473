package worker

import (
	"encoding/json"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/micro"

	"github.com/AssetsArt/nylon/sdk/go/internal/abi"
	"github.com/AssetsArt/nylon/sdk/go/internal/brokertest"
	"github.com/AssetsArt/nylon/sdk/go/internal/wire"
)

func TestACallIsAcknowledgedBeforeItRunsAndAnsweredOnce(t *testing.T) {
	gate := make(chan struct{})
	plugin := &handlers{run: func(_ uint8, call *Call) Outcome {
		<-gate
		must(t, call.Write(abi.SetRequestHeader, "x-user", []byte("42")))
		header, err := call.Read(abi.ReadRequestHeader, "x-user")
		must(t, err)
		must(t, call.Write(abi.SetRequestQuery, "", header))
		return next
	}}
	w, g := serve(t, brokertest.Start(t), plugin, nil)
	f := call(nil)
	token := g.send(false, f)
	if ack := g.take("ack"); ack.to != token || !reflect.DeepEqual(ack.frame["id"], f["id"]) || ack.frame["w"] != w.ID {
		t.Errorf("%v", ack)
	}
	close(gate)
	reply := g.take("reply")
	ops := []any{[]any{int64(4), "x-user", []byte("42")}, []any{int64(3), "42"}}
	if reply.to != token || reply.frame["o"] != "next" || !reflect.DeepEqual(plain(reply.frame["op"]), ops) {
		t.Errorf("%v", reply)
	}
	if shape := plain(reply.frame["x"]); !reflect.DeepEqual(shape, frame{"p": int64(15), "s": true}) {
		t.Errorf("its shape is %v", shape)
	}
	g.nothing()
}

// plain has all numbers in one type.
func plain(value any) any {
	switch value := value.(type) {
	case frame:
		for key := range value {
			value[key] = plain(value[key])
		}
	case []any:
		for i := range value {
			value[i] = plain(value[i])
		}
	case uint64:
		return int64(value)
	}
	return value
}

func TestBeyondTheConcurrencyACallIsRefusedAtOnceAndNothingRuns(t *testing.T) {
	gate, ran := make(chan struct{}), atomic.Int32{}
	plugin := &handlers{run: func(uint8, *Call) Outcome {
		ran.Add(1)
		<-gate
		return next
	}}
	_, g := serve(t, brokertest.Start(t), plugin, func(s *Settings) { s.Concurrency = 2 })
	g.send(false, call(nil))
	g.send(false, call(nil))
	g.take("ack")
	g.take("ack")
	refused := call(nil)
	g.send(false, refused)
	g.take("busy")
	if got := g.probe(refused["id"]); got["t"] != "unknown" {
		t.Errorf("%v", got)
	}
	close(gate)
	g.take("reply")
	g.take("reply")
	if g.reply(false, refused)["o"] != "next" {
		t.Error("what was refused may not come again")
	}
	if ran.Load() != 3 {
		t.Errorf("%d calls ran", ran.Load())
	}
}

func TestWhatIsNotHereIsAnErrorAndNeverAPass(t *testing.T) {
	_, g := serve(t, brokertest.Start(t), &handlers{run: func(uint8, *Call) Outcome { return next }}, nil)
	for _, change := range []frame{{"e": "nowhere"}, {"e": "first", "p": 2}} {
		if reply := g.reply(false, call(change)); reply["o"] != "error" || kindOf(reply) != wire.UnknownEntry {
			t.Errorf("%v: %v", change, reply)
		}
	}
}

func TestAHandlerThatIsLateIsGivenUpAndKeepsItsPlace(t *testing.T) {
	gate, late := make(chan struct{}), make(chan error, 1)
	plugin := &handlers{run: func(phase uint8, call *Call) Outcome {
		if phase == wire.RequestFilter {
			call.WhenClosed(func() { close(gate) })
			<-gate
			_, err := call.Read(abi.ReadRequestPath, "")
			late <- err
		}
		return next
	}}
	w, g := serve(t, brokertest.Start(t), plugin, func(s *Settings) { s.Concurrency = 1 })
	f := call(frame{"ms": 30})
	if reply := g.reply(false, f); kindOf(reply) != wire.TimedOut {
		t.Errorf("%v", reply)
	}
	if err := <-late; err != ErrOver {
		t.Errorf("it read on: %v", err)
	}
	await(t, "its place is free", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.slots == 0
	})
	if got := g.probe(f["id"]); kindOf(got) != wire.TimedOut {
		t.Errorf("a late decision counts: %v", got)
	}
	if w.counters.late.Load() != 1 {
		t.Error("it was not counted")
	}
}

func TestAFailureIsToldWithItsText(t *testing.T) {
	failure := &wire.Failure{Kind: wire.Raised, Message: strings.Repeat("é", wire.MaxMessage)}
	plugin := &handlers{run: func(_ uint8, call *Call) Outcome {
		must(t, call.Write(abi.SetResponseStatus, "", []byte{1, 0x91}))
		return Outcome{Failure: failure}
	}}
	_, g := serve(t, brokertest.Start(t), plugin, nil)
	reply := g.reply(false, call(nil))
	text := reply["er"].(frame)["m"].(string)
	if reply["op"] != nil || kindOf(reply) != wire.Raised || len(text) > wire.MaxMessage || !strings.HasPrefix(failure.Message, text) {
		t.Errorf("%v", reply)
	}
}

func TestAReplyThatNoMessageHoldsIsAnErrorAndTheConnectionStays(t *testing.T) {
	plugin := &handlers{run: func(phase uint8, call *Call) Outcome {
		if phase == wire.RequestFilter {
			for range 20 {
				must(t, call.Write(abi.AddRequestHeader, "x-long", make([]byte, 64<<10)))
			}
		}
		return next
	}}
	_, g := serve(t, brokertest.Start(t), plugin, nil)
	f := call(nil)
	reply := g.reply(false, f)
	if kindOf(reply) != wire.Protocol || !strings.Contains(reply["er"].(frame)["m"].(string), "max_payload") {
		t.Errorf("%v", reply)
	}
	if again := g.probe(f["id"]); kindOf(again) != wire.Protocol {
		t.Errorf("%v", again)
	}
	if reply := g.reply(true, call(frame{"s": f["s"], "p": 4})); reply["o"] != "next" {
		t.Errorf("%v", reply)
	}
}

func TestGarbageIsAnsweredAndLeavesTheWorkerWhole(t *testing.T) {
	_, g := serve(t, brokertest.Start(t), &handlers{run: func(uint8, *Call) Outcome { return next }}, nil)
	broken := call(nil)
	broken["q"] = frame{"m": "GET /", "p": "/", "h": []any{}}
	for _, own := range []bool{false, true} {
		garbage := [][]byte{
			{}, []byte("garbage"), {0x90}, packed(frame{"t": "nothing", "v": 1}), packed(frame{"t": "reply", "v": 1}),
			packed(frame{"t": "call", "v": 0}), packed(call(nil))[:60],
		}
		for _, data := range garbage {
			g.sendBytes(own, data)
			if got := g.take("reply"); kindOf(got.frame) != wire.Protocol {
				t.Errorf("%x: %v", data, got)
			}
		}
	}
	if reply := g.reply(false, broken); kindOf(reply) != wire.Protocol || !reflect.DeepEqual(reply["id"], broken["id"]) {
		t.Errorf("%v", reply)
	}
	if reply := g.reply(false, call(nil)); reply["o"] != "next" {
		t.Errorf("%v", reply)
	}
}

func TestASessionIsOpenedOnceAndEndsWhenItsGatewaySaysSo(t *testing.T) {
	plugin := &handlers{run: func(uint8, *Call) Outcome { return next }}
	w, g := serve(t, brokertest.Start(t), plugin, nil)
	first := call(nil)
	g.reply(false, first)
	for phase := 2; phase <= 4; phase++ {
		if reply := g.reply(true, call(frame{"s": first["s"], "p": phase})); reply["o"] != "next" {
			t.Errorf("phase %d: %v", phase, reply)
		}
	}
	if plugin.opened.Load() != 1 {
		t.Errorf("it was opened %d times", plugin.opened.Load())
	}
	g.tell("close", frame{"s": first["s"]})
	reply := g.reply(true, call(frame{"s": first["s"], "p": 4}))
	if kindOf(reply) != wire.WorkerDied {
		t.Errorf("a phase of a session that is over: %v", reply)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.sessions.open) != 0 {
		t.Errorf("%d sessions are open", len(w.sessions.open))
	}
}

func TestPhasesOfASessionNeverOverlap(t *testing.T) {
	running, overlapped, gate := atomic.Int32{}, atomic.Bool{}, make(chan struct{})
	plugin := &handlers{run: func(phase uint8, _ *Call) Outcome {
		if running.Add(1) > 1 {
			overlapped.Store(true)
		}
		if phase == wire.RequestFilter {
			<-gate
		}
		running.Add(-1)
		return next
	}}
	_, g := serve(t, brokertest.Start(t), plugin, nil)
	first := call(frame{"ms": 20})
	if reply := g.reply(false, first); kindOf(reply) != wire.TimedOut {
		t.Fatalf("%v", reply)
	}
	impatient := g.reply(true, call(frame{"s": first["s"], "p": 4, "ms": 20}))
	if kindOf(impatient) != wire.TimedOut {
		t.Errorf("%v", impatient)
	}
	g.send(true, call(frame{"s": first["s"], "p": 4}))
	g.take("ack")
	close(gate)
	if reply := g.take("reply"); reply.frame["o"] != "next" || overlapped.Load() {
		t.Errorf("%v, overlapped: %v", reply, overlapped.Load())
	}
}

func TestItIsAMicroServiceUnderItsOwnId(t *testing.T) {
	w, g := serve(t, brokertest.Start(t), &handlers{run: func(uint8, *Call) Outcome { return next }}, nil)
	g.reply(false, call(nil))
	ask := func(subject string, into any) {
		t.Helper()
		message, err := g.conn.Request(subject, nil, patience)
		must(t, err)
		must(t, json.Unmarshal(message.Data, into))
	}
	var ping micro.Ping
	ask("$SRV.PING", &ping)
	var info micro.Info
	ask("$SRV.INFO.nylon-g."+w.ID, &info)
	var stats micro.Stats
	ask("$SRV.STATS.nylon-g", &stats)
	if ping.ID != w.ID || ping.Type != micro.PingResponseType || info.Name != "nylon-g" || info.Type != micro.InfoResponseType {
		t.Errorf("%+v %+v", ping, info)
	}
	want := map[string]string{
		"nylon.protocol": "1", "nylon.worker": w.ID, "nylon.group": "g", "nylon.version": "0.0.0", "nylon.concurrency": "64",
		"nylon.entry.entry": "request_filter response_filter response_body_filter logging session",
		"nylon.entry.first": "request_filter", "nylon.entry.body": "request_filter body",
	}
	if !reflect.DeepEqual(info.Metadata, want) {
		t.Errorf("%v", info.Metadata)
	}
	if stats.Endpoints[0].NumRequests != 1 || stats.Endpoints[0].NumErrors != 0 {
		t.Errorf("%+v", stats.Endpoints[0])
	}
}

func TestAnEntryThatComesLaterIsAnnounced(t *testing.T) {
	w, g := serve(t, brokertest.Start(t), &handlers{run: func(uint8, *Call) Outcome { return next }}, nil)
	must(t, w.Announce(map[string]wire.Shape{"entry": {Phases: 15}, "later": {Phases: 1}}))
	for len(g.hear("info")["en"].([]any)) != 2 { // fails where it is never announced
		continue
	}
	if reply := g.reply(false, call(frame{"e": "later"})); reply["o"] != "next" {
		t.Errorf("%v", reply)
	}
}

func TestClaims(t *testing.T) {
	ran := atomic.Int32{}
	plugin := &handlers{run: func(uint8, *Call) Outcome {
		ran.Add(1)
		return next
	}}
	_, g := serve(t, brokertest.Start(t), plugin, nil)
	claimed := func() frame {
		f := call(frame{"cl": true})
		g.send(false, f)
		g.take("ack")
		g.take("claim")
		return f
	}
	denied := claimed()
	g.tell("grant", frame{"id": denied["id"]})
	await(t, "it is forgotten", func() bool { return g.probe(denied["id"])["t"] == "unknown" })
	begun := time.Now()
	unanswered := claimed()
	await(t, "it is given up", func() bool { return g.probe(unanswered["id"])["t"] == "unknown" })
	if waited := time.Since(begun); waited < claimWait {
		t.Errorf("it waited for %v", waited)
	}
	if ran.Load() != 0 {
		t.Fatal("it ran without leave")
	}
	g.tell("grant", frame{"id": unanswered["id"], "ok": true}) // too late
	granted := claimed()
	g.tell("grant", frame{"id": granted["id"], "ok": true})
	if reply := g.take("reply"); reply.frame["o"] != "next" || ran.Load() != 1 {
		t.Errorf("%v, %d ran", reply, ran.Load())
	}
}
