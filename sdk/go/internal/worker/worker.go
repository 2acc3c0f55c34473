package worker

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/AssetsArt/nylon/sdk/go/internal/wire"
)

// Plugin is what a worker serves.
type Plugin interface {
	// Open begins a session of an entry that was announced: its setup function runs.
	Open(entry string) Session
}

// Session has the handlers of one exchange × one middleware.
type Session interface {
	// Run runs the handler of a phase and calls done with what it came to, also where the handler panics or ends its
	// goroutine.
	Run(phase uint8, call *Call, done func(Outcome))
}

// Outcome is what a handler came to.
type Outcome struct {
	// Decision is next or end, or streaming where the handler has written its response to the end.
	Decision wire.Outcome
	// Failure is why there is no decision.
	Failure *wire.Failure
}

// Settings say how a worker serves.
type Settings struct {
	Servers      []string
	Group        string
	Prefix       string
	Concurrency  int
	DrainTimeout time.Duration
	// Software is the version that is announced.
	Software string
	Logger   *slog.Logger
	// Connect are the options of the connection that say who the worker is.
	Connect []nats.Option
}

const (
	// maxWaiting is the messages that may wait to be looked at. Looking at one takes microseconds; a call that is dropped
	// beyond this is sent again by its gateway.
	maxWaiting = 4096
	// maxUnsent is the bytes that may wait for the broker to come back.
	maxUnsent = 32 << 20
)

// Worker serves a plugin in a group.
type Worker struct {
	Settings
	ID string

	plugin   Plugin
	subjects wire.Subjects
	log      *slog.Logger
	conn     *nats.Conn
	incoming chan *nats.Msg
	// idle hands calls to goroutines that have run one: their stacks have grown already.
	idle     chan *Call
	marks    sync.Map // *nats.Msg that is no message: chan struct{} to close when it is met
	own      *nats.Subscription
	calls    *nats.Subscription
	service  []*nats.Subscription
	started  time.Time
	stopped  chan struct{}
	ended    chan error
	once     sync.Once
	watch    watch
	catching atomic.Bool
	reminded atomic.Int64
	owners   sync.WaitGroup
	counters counters

	mu       sync.Mutex
	entries  map[string]wire.Shape
	serving  bool
	here     map[wire.CallID]*Call
	known    knownCalls
	sessions sessions
	slots    int
}

// Connect connects a worker that serves nothing yet. Without a broker it goes on trying in the background; an error means that
// no waiting helps.
func Connect(settings Settings) (*Worker, error) {
	id := make([]byte, 8)
	if _, err := rand.Read(id); err != nil {
		return nil, fmt.Errorf("no random numbers for the worker's id: %w", err)
	}
	w := &Worker{
		Settings: settings,
		ID:       hex.EncodeToString(id),
		log:      settings.Logger,
		incoming: make(chan *nats.Msg, maxWaiting),
		idle:     make(chan *Call),
		stopped:  make(chan struct{}),
		ended:    make(chan error, 1),
		started:  time.Now(),
		entries:  map[string]wire.Shape{},
		here:     map[wire.CallID]*Call{},
	}
	var err error
	if w.subjects, err = wire.NewSubjects(settings.Prefix, settings.Group, w.ID); err != nil {
		return nil, err
	}
	return w, w.connect()
}

// Announce says which entries there are. Before Serve it says nothing to anybody yet; later ones are told at once.
func (w *Worker) Announce(entries map[string]wire.Shape) error {
	w.mu.Lock()
	w.entries = entries
	serving := w.serving
	w.mu.Unlock()
	if _, err := w.info().Append(nil); err != nil {
		return err
	}
	if serving {
		return w.announce()
	}
	return nil
}

// Serve subscribes and announces, and serves in the background until Stop.
func (w *Worker) Serve(plugin Plugin) error {
	w.plugin = plugin
	w.watch.start()
	w.owners.Add(2)
	go w.receiving()
	go w.ticking()
	if err := w.subscribe(); err != nil {
		w.halt()
		return fmt.Errorf("cannot subscribe at %s: %w", w.servers(), err)
	}
	w.mu.Lock()
	w.serving = true
	w.mu.Unlock()
	text := "serving"
	if w.conn.IsConnected() && w.conn.Flush() == nil {
		if err := w.announce(); err != nil {
			return err
		}
	} else {
		text = "to serve once there is a broker" // which announces then
	}
	w.log.Info(text, "group", w.Group, "servers", w.servers(), "worker", w.ID, "concurrency", w.Concurrency,
		"entries", w.names())
	return nil
}

// Ended gives the error with which the connection ended for good, where that was not asked for.
func (w *Worker) Ended() <-chan error { return w.ended }

func (w *Worker) ticking() {
	defer w.owners.Done()
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case <-w.stopped:
			return
		case <-ticker.C:
		}
		w.looked(w.watch.awake())
		at := time.Now()
		w.mu.Lock()
		var late []*Call
		for _, call := range w.here {
			if call.late(at) {
				late = append(late, call)
			}
		}
		w.known.expire(now())
		w.sessions.expire(at)
		w.mu.Unlock()
		for _, call := range late {
			call.giveUp(&wire.Failure{Kind: wire.TimedOut, Message: "the handler did not decide in time"})
		}
	}
}

// looked hears what a look at the clock has shown. After a stall somebody has to find out when all that is older has been seen.
func (w *Worker) looked(gap time.Duration, stalled bool) {
	if !stalled {
		return
	}
	if count := w.counters.stalls.Add(1); count&(count-1) == 0 {
		w.log.Warn("this worker stood still (stopped, suspended, or without a processor): calls of before are claimed"+
			" before they run", "seconds", gap.Seconds(), "times", count)
	}
	if w.catching.CompareAndSwap(false, true) {
		w.owners.Add(1)
		go w.catchUp()
	}
}

// catchUp learns when all that was sent before a stall has been seen: the broker answers a ping behind everything that it sent
// before, and the channel keeps the order.
func (w *Worker) catchUp() {
	defer w.owners.Done()
	for {
		resumed := w.watch.resumed.Load()
		if w.conn.IsConnected() && w.conn.FlushTimeout(time.Second) != nil {
			if w.pause(tick) {
				continue
			}
			return
		}
		if !w.passed() {
			return
		}
		if w.watch.caughtUp(resumed) {
			break
		}
	}
	w.catching.Store(false)
	// A stall that was noticed in between has found somebody at work, who has gone.
	if w.watch.catching.Load() && w.catching.CompareAndSwap(false, true) {
		w.owners.Add(1)
		go w.catchUp()
	}
}

// passed waits until everything that is in the channel now has been looked at; false where the worker has stopped.
func (w *Worker) passed() bool {
	mark, met := &nats.Msg{}, make(chan struct{})
	w.marks.Store(mark, met)
	select {
	case w.incoming <- mark:
	case <-w.stopped:
		return false
	}
	select {
	case <-met:
		return true
	case <-w.stopped:
		return false
	}
}

// pause waits; false where the worker has stopped.
func (w *Worker) pause(length time.Duration) bool {
	timer := time.NewTimer(length)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-w.stopped:
		return false
	}
}

func (w *Worker) halt() { w.once.Do(func() { close(w.stopped) }) }
