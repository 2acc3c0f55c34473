package worker

import (
	"time"

	"github.com/AssetsArt/nylon/sdk/go/internal/wire"
)

const (
	// bodyWait is the longest wait for a body: the gateway's own limits end it sooner, unless the gateway is gone.
	bodyWait = 10 * time.Minute
	// bodyStall is the longest that a transfer may stand still: longer than the gateway's own patience.
	bodyStall = 10 * time.Second
)

// body is what is known of a body: as the call brought it, as it was fetched, or as the handler has set it.
type body struct {
	wire.Body
	failure error
}

// RequestBody is the request's body as the handler sees it. In request_filter it is fetched where it did not come with the call.
func (c *Call) RequestBody() ([]byte, error) {
	return c.body(&c.request, wire.RequestBody, c.frame.Phase == wire.RequestFilter)
}

// ResponseBody is the response's body as the handler sees it: empty in request_filter, where there is none but the handler's own.
func (c *Call) ResponseBody() ([]byte, error) {
	c.mu.Lock()
	passes := !c.response.Here && !c.response.Held && c.frame.Phase != wire.RequestFilter
	c.mu.Unlock()
	if passes {
		const why = "the response body has not been read: it is whole in a response_body_filter (without ByChunk)"
		return nil, &wire.Failure{Kind: wire.Raised, Message: why}
	}
	return c.body(&c.response, wire.ResponseBody, false)
}

func (c *Call) body(b *body, which wire.Which, always bool) ([]byte, error) {
	c.reading.Lock() // one at a time, and the others find it here
	defer c.reading.Unlock()
	c.mu.Lock()
	data, here, wanted, failure := b.Bytes, b.Here, b.Held || always, b.failure
	c.mu.Unlock()
	if here || failure != nil || !wanted {
		return data, failure
	}
	data, err := c.fetch(which)
	c.mu.Lock()
	defer c.mu.Unlock()
	if !b.Here { // else the handler has set another one meanwhile
		b.Bytes, b.Here, b.failure = data, err == nil, err
	}
	return data, err
}

// fetch asks the gateway for a body, of which a large one comes in parts. Neither the wait for the client nor the way of the parts
// counts as the call's time: what is left comes with them.
func (c *Call) fetch(which wire.Which) ([]byte, error) {
	parts, gone := make(chan *wire.BodyFrame, 2*wire.Window), c.goes()
	c.mu.Lock()
	c.bodies = parts
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.bodies = nil
		c.mu.Unlock()
	}()
	incoming, wait := wire.NewIncoming(), bodyWait
	timer := time.NewTimer(wait)
	defer timer.Stop()
	c.putOff(wait)
	if err := c.read(which, wire.Window); err != nil {
		return nil, err
	}
	for {
		var frame *wire.BodyFrame
		select {
		case frame = <-parts:
		case <-gone:
			return nil, ErrOver
		case <-timer.C:
			return nil, &wire.Failure{Kind: wire.TimedOut, Message: "the gateway did not send the body in time"}
		}
		switch {
		case frame.Which != which:
			continue
		case frame.Failure != nil:
			c.putOff(frame.Remaining)
			return nil, frame.Failure
		case frame.Part.IsWhole():
			c.putOff(frame.Remaining)
			return frame.Part.Data, nil
		}
		complete, err := incoming.Take(frame.Part)
		if err != nil {
			c.putOff(frame.Remaining)
			return nil, &wire.Failure{Kind: wire.Protocol, Message: "the gateway's body was broken off: " + err.Error()}
		}
		if complete {
			c.putOff(frame.Remaining)
			return incoming.Body(), nil
		}
		if up, news := incoming.Room(); news {
			if err := c.read(which, up); err != nil {
				return nil, err
			}
		}
		wait = max(frame.Remaining, bodyStall)
		c.putOff(wait + grace)
		timer.Reset(wait)
	}
}

func (c *Call) read(which wire.Which, up uint64) error {
	err := c.worker.publish(c.reply, func(out []byte) ([]byte, error) {
		return wire.AppendRead(out, c.frame.ID, c.worker.ID, which, up), nil
	})
	if err != nil {
		return &wire.Failure{Kind: wire.Overloaded, Message: "the gateway cannot be asked for the body: " + err.Error()}
	}
	return nil
}

// bodyCame takes a body, or a part of one. One that nobody waits for counts for nothing.
func (c *Call) bodyCame(frame *wire.BodyFrame) {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case c.bodies <- frame:
	default: // nobody waits, or more came than there was room for: the gap ends the transfer
	}
}

// sendBody sends a body ahead of its reply. wanted is false where the gateway has given the call up, or is gone.
func (c *Call) sendBody(large wire.Large) (failure *wire.Failure, wanted bool) {
	credits, gone := make(chan wire.Credit, 2*wire.Window), c.goes()
	c.mu.Lock()
	c.credits = credits
	c.mu.Unlock()
	outgoing := wire.NewOutgoing(large.Body, c.worker.maxPayload())
	timer := time.NewTimer(bodyStall)
	defer timer.Stop()
	for {
		for part, more := outgoing.Next(); more; part, more = outgoing.Next() {
			if err := c.sendChunk(wire.Chunk{Which: large.Which, Part: part}); err != nil {
				why := "the handler's body could not be sent: " + err.Error()
				return &wire.Failure{Kind: wire.Overloaded, Message: why}, true
			}
		}
		if outgoing.Done() {
			return nil, true
		}
		select {
		case credit := <-credits:
			switch {
			case credit.Failure != nil:
				return nil, false
			case credit.Which == large.Which:
				outgoing.Grant(credit.UpTo)
				timer.Reset(bodyStall)
			}
		case <-timer.C:
			return nil, false
		case <-gone:
			return nil, false
		}
	}
}

func (c *Call) sendChunk(chunk wire.Chunk) error {
	return c.worker.publish(c.reply, func(out []byte) ([]byte, error) {
		return wire.AppendChunk(out, c.frame.ID, c.worker.ID, chunk), nil
	})
}

// credited hears how far a body or a stream may go.
func (c *Call) credited(credit wire.Credit) {
	c.mu.Lock()
	stream := c.stream
	if credit.Which != wire.Stream {
		select {
		case c.credits <- credit:
		default: // nobody waits for it
		}
	}
	c.mu.Unlock()
	if credit.Which == wire.Stream && stream != nil {
		stream.credited(c, credit)
	}
}
