package worker

import (
	"sync"
	"time"

	"github.com/AssetsArt/nylon/sdk/go/internal/wire"
)

const (
	// maxSessions is how many one worker keeps; a further one is refused, so that another worker takes it.
	maxSessions = 65_536
	// maxSilence is how long a gateway may be silent.
	maxSilence = 10 * time.Minute
	// maxIdle is how long a session may go without a call: a slow download should not lose its logging phase.
	maxIdle = 6 * time.Hour
	// lookEvery is how often all sessions are looked at.
	lookEvery = 30 * time.Second
)

// openSession is one exchange × one middleware on this worker.
type openSession struct {
	once sync.Once
	kept Session
	used time.Time
	// busy holds one phase at a time: after a time-out the handler may still run when the next phase comes.
	busy chan struct{}
}

func newSession() *openSession { return &openSession{busy: make(chan struct{}, 1)} }

// session is what the plugin opened for it, on its first use.
func (s *openSession) session(plugin Plugin, entry string) Session {
	s.once.Do(func() { s.kept = plugin.Open(entry) })
	return s.kept
}

// sessions are those that are open here. The gateway says when one ends. One that fell silent cannot: its sessions end after a
// while, and any other after a long time without a call.
type sessions struct {
	open     map[wire.SessionID]*openSession
	gateways map[[8]byte]time.Time
	looked   time.Time
}

// enter gives the session of a call, and whether it is new: only where it may begin here. What it fails with is for the reply.
func (s *sessions) enter(id wire.SessionID, mayOpen bool, at time.Time) (*openSession, bool, *wire.Failure) {
	found, there := s.open[id]
	if !there {
		switch {
		case !mayOpen:
			return nil, false, &wire.Failure{
				Kind: wire.WorkerDied, Message: "the session is not open on this worker: it has expired",
			}
		case len(s.open) >= maxSessions:
			return nil, false, &wire.Failure{Kind: wire.Overloaded, Message: "too many sessions are open on this worker"}
		case s.open == nil:
			s.open, s.gateways, s.looked = map[wire.SessionID]*openSession{}, map[[8]byte]time.Time{}, at
		}
		found = newSession()
		s.open[id] = found
	}
	found.used = at
	s.gateways[id.Gateway()] = at
	return found, !there, nil
}

func (s *sessions) close(id wire.SessionID) { delete(s.open, id) }

// expire ends the sessions that nobody will end.
func (s *sessions) expire(at time.Time) {
	if at.Sub(s.looked) < lookEvery {
		return
	}
	s.looked = at
	for gateway, heard := range s.gateways {
		if at.Sub(heard) >= maxSilence {
			delete(s.gateways, gateway)
		}
	}
	for id, session := range s.open {
		if _, heard := s.gateways[id.Gateway()]; !heard || at.Sub(session.used) >= maxIdle {
			delete(s.open, id)
		}
	}
}
