package worker

import (
	"errors"
	"net"
	"reflect"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/AssetsArt/nylon/sdk/go/internal/brokertest"
	"github.com/AssetsArt/nylon/sdk/go/internal/wire"
)

func TestADrainFinishesWhatRunsAndTheSessionsThatAreOpen(t *testing.T) {
	gate := make(chan struct{})
	plugin := &handlers{run: func(phase uint8, _ *Call) Outcome {
		if phase == wire.RequestFilter {
			<-gate
		}
		return next
	}}
	w, g := serve(t, brokertest.Start(t), plugin, nil)
	f := call(nil)
	g.send(false, f)
	g.take("ack")
	stopped := make(chan struct{})
	go func() {
		w.Stop(nil)
		close(stopped)
	}()
	if leave := g.hear("leave"); leave["w"] != w.ID {
		t.Errorf("%v", leave)
	}
	if _, err := g.conn.Request("$SRV.INFO.nylon-g", nil, patience); !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("it answers $SRV.INFO after its leave: %v", err)
	}
	await(t, "it has left the queue", func() bool {
		g.send(false, call(frame{"e": "nowhere"}))
		return (<-g.answers).frame["t"] == "no responders"
	})
	close(gate)
	g.take("reply")
	// As long as its session is open the worker stays, for many of its looks at what is left.
	for end := time.Now().Add(100 * time.Millisecond); time.Now().Before(end); {
		if reply := g.reply(true, call(frame{"s": f["s"], "p": 4})); reply["o"] != "next" {
			t.Fatalf("a later phase of its session: %v", reply)
		}
	}
	g.tell("close", frame{"s": f["s"]})
	<-stopped
}

func TestWhatIsNotOverWithinTheDrainTimeIsGivenUp(t *testing.T) {
	gate := make(chan struct{})
	defer close(gate)
	plugin := &handlers{run: func(uint8, *Call) Outcome {
		<-gate
		return next
	}}
	w, g := serve(t, brokertest.Start(t), plugin, func(s *Settings) { s.DrainTimeout = 50 * time.Millisecond })
	g.send(false, call(nil))
	g.take("ack")
	w.Stop(nil)
	if reply := g.take("reply"); kindOf(reply.frame) != wire.Unavailable {
		t.Errorf("%v", reply)
	}
}

func TestAReplyOfBeforeTheBrokersRestartIsStillThere(t *testing.T) {
	b := brokertest.Start(t)
	ran := atomic.Int32{}
	plugin := &handlers{run: func(uint8, *Call) Outcome {
		ran.Add(1)
		return next
	}}
	w, g := serve(t, b, plugin, nil)
	f := call(nil)
	reply := g.reply(false, f)
	b.Stop()
	await(t, "the worker has noticed", func() bool { return !w.conn.IsConnected() })
	b.Restart()
	var again frame
	await(t, "both are back", func() bool {
		again = frame{"t": "no responders"}
		if g.conn.IsConnected() {
			again = g.probe(f["id"])
		}
		return again["t"] != "no responders"
	})
	if !reflect.DeepEqual(again, reply) {
		t.Errorf("%v, and before %v", again, reply)
	}
	if g.send(true, f); !reflect.DeepEqual(g.take("reply").frame, reply) || ran.Load() != 1 {
		t.Error("it ran again")
	}
}

func TestAWorkerStartsWithoutABroker(t *testing.T) {
	b := brokertest.Start(t)
	b.Stop()
	settings := Settings{
		Servers: []string{b.URL()}, Group: "g", Prefix: "nylon", Concurrency: 1, DrainTimeout: patience,
		Logger: quiet(),
	}
	w, err := Connect(settings)
	must(t, err)
	must(t, w.Announce(map[string]wire.Shape{"entry": {Phases: 1}}))
	must(t, w.Serve(&handlers{run: func(uint8, *Call) Outcome { return next }}))
	defer w.Stop(nil)
	b.Restart()
	g := newGateway(t, b, "g")
	await(t, "it serves", func() bool {
		g.send(false, call(nil))
		return (<-g.answers).frame["t"] != "no responders"
	})
	if reply := g.take("reply", "ack"); reply.frame["o"] != "next" {
		t.Errorf("%v", reply)
	}
}

func TestABrokerThatRefusesIsAnErrorAtOnce(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conn.Write([]byte(`INFO {"server_id":"x","version":"2.10.0","max_payload":1048576,"auth_required":true}` + "\r\n"))
			conn.Write([]byte("-ERR 'Authorization Violation'\r\n"))
		}
	}()
	settings := Settings{
		Servers: []string{"nats://worker:wrong@" + listener.Addr().String()}, Group: "g", Prefix: "nylon", Concurrency: 1,
		Logger: quiet(),
	}
	_, err = Connect(settings)
	if !errors.Is(err, nats.ErrAuthorization) {
		t.Fatalf("%v", err)
	}
	if text := err.Error(); containsAny(text, "wrong", "worker:") {
		t.Errorf("it tells the password: %s", text)
	}
}

func TestAWorkerThatStoodStillClaimsWhatItHadReceivedBefore(t *testing.T) {
	ran := atomic.Int32{}
	plugin := &handlers{run: func(uint8, *Call) Outcome {
		ran.Add(1)
		return next
	}}
	w, g := serve(t, brokertest.Start(t), plugin, nil)
	// As after a stop of a second: the last mark is old when the call comes.
	w.watch.beat.Store(int64(now()) - int64(time.Second))
	f := call(nil)
	g.send(true, f)
	g.take("claim", "ack")
	g.tell("grant", frame{"id": f["id"], "ok": true})
	g.take("reply")
	await(t, "all of before has been seen", func() bool { return !w.watch.catching.Load() })
	if g.reply(true, call(nil))["o"] != "next" || ran.Load() != 2 {
		t.Errorf("%d ran", ran.Load())
	}
}
