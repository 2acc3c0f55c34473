package worker

import (
	"bytes"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/AssetsArt/nylon/sdk/go/internal/abi"
	"github.com/AssetsArt/nylon/sdk/go/internal/brokertest"
	"github.com/AssetsArt/nylon/sdk/go/internal/wire"
)

func content(size int) []byte {
	body := make([]byte, size)
	for i := range body {
		body[i] = byte(i % 251)
	}
	return body
}

func uintOf(value any) uint64 { return uint64(plain(value).(int64)) }

func echo(t *testing.T) *handlers {
	return &handlers{run: func(_ uint8, call *Call) Outcome {
		body, err := call.Read(abi.ReadRequestFullBody, "")
		var failure *wire.Failure
		if errors.As(err, &failure) {
			return Outcome{Failure: failure}
		}
		must(t, call.Write(abi.SetRequestBody, "", body))
		return next
	}}
}

func TestABodyThatDidNotComeIsAskedForInPartsAndGoesBackInParts(t *testing.T) {
	_, g := serve(t, brokertest.Start(t), echo(t), nil)
	for _, entry := range []string{"entry", "body"} {
		body := content(2<<20 + 17)
		f := call(frame{"qb": len(body), "e": entry})
		g.send(false, f)
		g.take("ack")
		sent, room := 0, uint64(0)
		for offset := 0; offset < len(body); {
			asked := g.take("read").frame
			if up := uintOf(asked["up"]); up > room && up <= uint64(sent)+wire.Window {
				room = up
			} else {
				t.Fatalf("it has %d parts and asks for %v", sent, asked)
			}
			for ; uint64(sent) < room && offset < len(body); sent++ {
				part := body[offset:min(offset+wire.MaxPart, len(body))]
				g.tell("body", frame{"id": f["id"], "b": "q", "ms": 20000, "n": sent, "to": len(body), "d": part})
				offset += len(part)
				if uint64(sent)+1 == room-wire.Window/2 {
					sent++
					break // half of the room is used: it asks again
				}
			}
		}
		var back []byte
		for n := 0; len(back) < len(body); n++ {
			chunk := g.take("chunk", "read").frame
			if uintOf(chunk["n"]) != uint64(n) || uintOf(chunk["to"]) != uint64(len(body)) || chunk["b"] != "q" {
				t.Fatalf("chunk %d is %v %v %v", n, chunk["n"], chunk["to"], chunk["b"])
			}
			if n == 0 {
				g.nothing() // without room nothing follows
			}
			back = append(back, chunk["d"].([]byte)...)
			g.tell("credit", frame{"id": f["id"], "b": "q", "up": n + 1 + wire.Window})
		}
		reply := g.take("reply").frame
		op := plain(reply["op"]).([]any)[0].([]any)
		if !bytes.Equal(back, body) || op[0] != int64(wire.SetRequestBody) || op[1] != int64(len(body)) {
			t.Errorf("%v", op)
		}
	}
}

func TestABodyThatIsWrongIsUsedByNoHandler(t *testing.T) {
	_, g := serve(t, brokertest.Start(t), echo(t), nil)
	for name, c := range map[string]struct {
		body frame
		kind string
	}{
		"a gap":     {frame{"n": 1, "to": 300_000, "d": []byte("abc"), "ms": 5000}, wire.Protocol},
		"too much":  {frame{"n": 0, "to": 2, "d": []byte("abc"), "ms": 5000}, wire.Protocol},
		"a refusal": {frame{"er": frame{"k": "body_too_large", "m": "over 10 MiB"}, "ms": 5000}, "body_too_large"},
	} {
		f := call(frame{"qb": 300_000})
		g.send(false, f)
		g.take("read", "ack")
		c.body["id"], c.body["b"] = f["id"], "q"
		g.tell("body", c.body)
		if reply := g.take("reply"); kindOf(reply.frame) != c.kind {
			t.Errorf("%s: %v", name, reply)
		}
	}
}

func TestABodyThatNobodyTakesEndsItsCall(t *testing.T) {
	plugin := &handlers{run: func(_ uint8, call *Call) Outcome {
		must(t, call.Write(abi.SetResponseFullBody, "", content(1<<20)))
		return Outcome{Decision: wire.End}
	}}
	w, g := serve(t, brokertest.Start(t), plugin, nil)
	f := call(nil)
	g.send(false, f)
	g.take("chunk", "ack")
	g.tell("credit", frame{"id": f["id"], "b": "r", "er": frame{"k": "cancelled", "m": "the client went away"}})
	await(t, "its place is free", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.slots == 0
	})
	g.nothing()
	if got := g.probe(f["id"]); got["t"] != "unknown" {
		t.Errorf("%v", got)
	}
}

// streams writes until it is told to stop, and says how much and why.
func streams(t *testing.T, written *atomic.Int64, limit int64, ended chan error) *handlers {
	return &handlers{run: func(_ uint8, call *Call) Outcome {
		must(t, call.Write(abi.SetResponseStreamHeader, "", nil))
		for written.Load() < limit {
			if err := call.Write(abi.SetResponseStreamData, "", make([]byte, 1<<16)); err != nil {
				ended <- err
				return Outcome{Decision: wire.Streaming}
			}
			written.Add(1 << 16)
		}
		ended <- call.Write(abi.SetResponseStreamEnd, "", nil)
		return Outcome{Decision: wire.Streaming}
	}}
}

func TestAStreamHoldsItsHandlerBackUntilThereIsRoom(t *testing.T) {
	written, ended := atomic.Int64{}, make(chan error, 1)
	_, g := serve(t, brokertest.Start(t), streams(t, &written, 3<<20, ended), nil)
	f := call(nil)
	g.send(false, f)
	if reply := g.take("reply", "ack"); reply.frame["o"] != "stream" {
		t.Fatalf("%v", reply)
	}
	size := 0
	for n := range uint64(wire.Window) {
		chunk := g.take("chunk").frame
		if uintOf(chunk["n"]) != n || chunk["b"] != "s" {
			t.Fatalf("%v", chunk["n"])
		}
		size += len(chunk["d"].([]byte))
	}
	g.nothing()
	if ahead := written.Load(); ahead > int64(size)+2*wire.MaxPart {
		t.Errorf("it has written %d bytes ahead of %d", ahead, size)
	}
	for n := wire.Window; ; n++ {
		g.tell("credit", frame{"id": f["id"], "b": "s", "up": n + 1})
		chunk := g.take("chunk").frame
		data, _ := chunk["d"].([]byte)
		size += len(data)
		if chunk["end"] == true {
			break
		}
	}
	if err := <-ended; err != nil || size != 3<<20 {
		t.Errorf("%d bytes, %v", size, err)
	}
	await(t, "it is over", func() bool { return g.probe(f["id"])["t"] == "unknown" })
}

func TestAStreamThatNobodyTakesStopsItsHandler(t *testing.T) {
	written, ended := atomic.Int64{}, make(chan error, 1)
	w, g := serve(t, brokertest.Start(t), streams(t, &written, 1<<40, ended), nil)
	f := call(nil)
	g.send(false, f)
	g.take("chunk", "ack", "reply")
	g.tell("credit", frame{"id": f["id"], "b": "s", "er": frame{"k": "cancelled", "m": "the client went away"}})
	if err := <-ended; err != ErrStreamClosed {
		t.Errorf("%v", err)
	}
	await(t, "its place is free", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.slots == 0
	})
}

func TestAHandlerThatFailsInMidStreamBreaksItOff(t *testing.T) {
	plugin := &handlers{run: func(_ uint8, call *Call) Outcome {
		must(t, call.Write(abi.SetResponseStreamHeader, "", nil))
		must(t, call.Write(abi.SetResponseStreamData, "", []byte("good")))
		return Outcome{Failure: &wire.Failure{Kind: wire.Raised, Message: "boom"}}
	}}
	_, g := serve(t, brokertest.Start(t), plugin, nil)
	g.send(false, call(nil))
	g.take("reply", "ack")
	if chunk := g.take("chunk").frame; string(chunk["d"].([]byte)) != "good" || chunk["er"] != nil {
		t.Errorf("%v", chunk)
	}
	if last := g.take("chunk").frame; kindOf(last) != wire.Raised || last["end"] != nil {
		t.Errorf("%v", last)
	}
	g.nothing()
}
