package worker

import (
	"encoding/hex"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/AssetsArt/nylon/sdk/go/internal/wire"
)

const (
	// grace is how long past its time a handler may still answer: the gateway's clock started earlier than ours.
	grace = 50 * time.Millisecond
	// claimWait is the longest wait for the answer to a claim. A gateway answers at once or, for a call that it has forgotten, not
	// at all; and the call has a slot meanwhile.
	claimWait = time.Second
)

// ErrOver means that a call has been answered already, or that its time is over.
var ErrOver = errors.New("the call is over")

// Call is one call of a gateway: what its handler reads and writes, and how it is answered. Its methods may be used from several
// goroutines.
type Call struct {
	worker *Worker
	frame  *wire.Call
	shape  *wire.Shape
	reply  string
	came   time.Time
	// since is since when it is surely ours to run.
	since   moment
	mayOpen bool
	// due is when its result is due, in nanoseconds since the process started.
	due      atomic.Int64
	claiming atomic.Bool
	// decided: the reply is made, or the head of a stream is sent.
	decided atomic.Bool

	mu       sync.Mutex
	exchange *wire.Exchange
	ops      []wire.Op
	request  body
	response body
	// gone is closed, and waits are called, when the call is given up.
	gone      chan struct{}
	abandoned bool
	waits     []func()
	grants    chan bool
	bodies    chan *wire.BodyFrame
	credits   chan wire.Credit
	stream    *stream
	// session is held while the handler runs.
	session *openSession
	reading sync.Mutex
}

func (c *Call) putOff(left time.Duration) { c.due.Store(int64(time.Since(started) + left)) }

func (c *Call) left() time.Duration { return time.Duration(c.due.Load()) - time.Since(started) }

// late tells whether the handler is to be given up.
func (c *Call) late(at time.Time) bool {
	return !c.decided.Load() && !c.claiming.Load() && at.Sub(started) >= time.Duration(c.due.Load())+grace
}

// live takes the call from its acknowledgement to its reply, on a goroutine of its own.
func (c *Call) live() {
	w := c.worker
	defer w.release()
	if c.frame.Claim && !c.claim() || !c.isOurs() {
		return
	}
	exchange, err := c.frame.Exchange()
	if err != nil {
		w.counters.malformed.Add(1)
		c.fail(&wire.Failure{Kind: wire.Protocol, Message: "the worker cannot read the call: " + err.Error()})
		return
	}
	c.mu.Lock()
	c.exchange = exchange
	c.request, c.response = body{Body: c.frame.RequestBody}, body{Body: c.frame.ResponseBody}
	c.mu.Unlock()
	if c.frame.Phase == wire.RequestFilter && c.shape.Body {
		var failure *wire.Failure
		if _, err := c.RequestBody(); errors.As(err, &failure) {
			c.fail(failure)
			return
		} else if err != nil {
			return
		}
	}
	session, isNew, failure := c.open()
	if failure != nil {
		c.fail(failure)
		return
	}
	if !c.enter(session) {
		const why = "the call's time was over before its handler could begin"
		c.fail(&wire.Failure{Kind: wire.TimedOut, Message: why})
		return
	}
	defer c.leave()
	// The last look before the handler begins.
	if !c.isOurs() {
		if isNew {
			// Nobody would end the session of a call that another worker has.
			w.closeSession(c.frame.Session)
		}
		return
	}
	if !c.decided.Load() {
		session.session(w.plugin, c.frame.Entry).Run(c.frame.Phase, c, c.finish)
	}
}

// open gives the call's session, and whether it begins with it: one that the worker keeps, or one for this call alone where nothing is
// shared between calls.
func (c *Call) open() (session *openSession, isNew bool, failure *wire.Failure) {
	if !c.shape.Session {
		return newSession(), false, nil
	}
	c.worker.mu.Lock()
	defer c.worker.mu.Unlock()
	return c.worker.sessions.enter(c.frame.Session, c.mayOpen, time.Now())
}

// enter waits until no other phase of the session runs; false where the call's time is over first.
func (c *Call) enter(session *openSession) bool {
	left := c.left()
	if left <= 0 {
		return false
	}
	select {
	case session.busy <- struct{}{}:
	default:
		timer := time.NewTimer(left)
		defer timer.Stop()
		select {
		case session.busy <- struct{}{}:
		case <-timer.C:
			return false
		}
	}
	c.mu.Lock()
	c.session = session
	c.mu.Unlock()
	return true
}

// leave lets the next phase of the session begin.
func (c *Call) leave() {
	c.mu.Lock()
	session := c.session
	c.session = nil
	c.mu.Unlock()
	if session != nil {
		<-session.busy
	}
}

// isOurs tells whether the call may run: one that has waited through a stall is claimed first.
func (c *Call) isOurs() bool { return !c.worker.watch.stalledSince(c.since) || c.claim() }

// claim asks the gateway whether the call may run here. Without leave nothing runs, and nothing is said either: whoever has the
// call answers for it.
func (c *Call) claim() bool {
	w := c.worker
	c.claiming.Store(true)
	defer c.claiming.Store(false)
	grants, gone := make(chan bool, 1), c.goes()
	c.mu.Lock()
	c.grants = grants
	c.mu.Unlock()
	for {
		asked := now()
		w.counters.claims.Add(1)
		w.sign(wire.KindClaim, c.frame.ID, c.reply)
		timer := time.NewTimer(claimWait)
		granted := false
		select {
		case granted = <-grants:
		case <-timer.C:
		case <-gone:
		}
		timer.Stop()
		switch {
		case !granted:
			w.counters.denied.Add(1)
			w.forget(c.frame.ID)
			return false
		case !w.watch.stalledSince(asked):
			c.since = asked
			return true
		}
		// The answer itself has waited through a stall.
	}
}

func (c *Call) granted(ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case c.grants <- ok:
	default: // nobody has asked, or a second answer
	}
}

// goes is closed when the worker gives the call up.
func (c *Call) goes() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone == nil {
		c.gone = make(chan struct{})
	}
	return c.gone
}

// fail answers a call that no handler runs for.
func (c *Call) fail(failure *wire.Failure) {
	if c.decided.CompareAndSwap(false, true) {
		c.answer(wire.Reply{Outcome: wire.Failed, Failure: failure})
	}
}

// giveUp ends a call whose handler may go on: what it says from now on counts for nothing.
func (c *Call) giveUp(failure *wire.Failure) {
	c.fail(failure)
	c.abandon()
}

// abandon tells whoever waits for something that it will not come.
func (c *Call) abandon() {
	c.goes()
	c.mu.Lock()
	if !c.abandoned {
		c.abandoned = true
		close(c.gone)
	}
	waits := c.waits
	c.waits = nil
	c.mu.Unlock()
	for _, fn := range waits {
		fn()
	}
}

// WhenClosed has fn called when the call is given up; at once where it has been already.
func (c *Call) WhenClosed(fn func()) {
	c.mu.Lock()
	abandoned := c.abandoned
	if !abandoned {
		c.waits = append(c.waits, fn)
	}
	c.mu.Unlock()
	if abandoned {
		fn()
	}
}

// finish answers the call with what its handler came to.
func (c *Call) finish(outcome Outcome) {
	c.mu.Lock()
	stream, ops := c.stream, c.ops
	c.mu.Unlock()
	if failure := outcome.Failure; failure != nil && failure.Kind == wire.Raised {
		c.worker.log.Error("a handler failed", "request", hex.EncodeToString(c.exchange.RequestID[:]), "entry", c.frame.Entry,
			"phase", wire.PhaseName(c.frame.Phase), "error", failure.Message)
	}
	if stream != nil {
		c.streamOver(stream, outcome.Failure)
		return
	}
	if !c.decided.CompareAndSwap(false, true) {
		c.worker.counters.late.Add(1)
		return
	}
	if outcome.Failure != nil {
		c.answer(wire.Reply{Outcome: wire.Failed, Failure: outcome.Failure})
		return
	}
	reply := wire.Reply{Outcome: outcome.Decision, Ops: ops}
	for _, large := range reply.TakeApart(min(wire.InlineBody, c.worker.maxPayload()/4)) {
		failure, wanted := c.sendBody(large)
		switch {
		case !wanted:
			// It has run; there is no reply that could be given again.
			c.worker.over(c.frame.ID, nil)
			return
		case failure != nil:
			c.answer(wire.Reply{Outcome: wire.Failed, Failure: failure})
			return
		}
	}
	c.answer(reply)
}
