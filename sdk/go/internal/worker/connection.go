package worker

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// firstPause and longestPause bound the pause between two rounds over the servers: a worker is back within a second of
	// its broker.
	firstPause   = 50 * time.Millisecond
	longestPause = 500 * time.Millisecond
	// remindEvery is how often the log says that the broker is still away.
	remindEvery = 30 * time.Second
	// pingEvery is how often the broker is asked whether it is there; one that does not answer three times is left.
	pingEvery = time.Second
)

// backoff is the pause before the given round: doubled with each, capped, and jittered so that a crowd does not come back at once.
func backoff(round int) time.Duration {
	pause := min(firstPause<<min(max(round-1, 0), 10), longestPause)
	return pause/2 + rand.N(pause/2)
}

// connect connects, for good: nats.go is told to reconnect for ever.
func (w *Worker) connect() error {
	options := append([]nats.Option{
		nats.Name(fmt.Sprintf("nylon worker %s %s", w.Group, w.ID)),
		nats.MaxReconnects(-1),
		nats.CustomReconnectDelay(backoff),
		nats.ReconnectBufSize(maxUnsent),
		nats.IgnoreAuthErrorAbort(),
		nats.Timeout(2 * time.Second),
		nats.PingInterval(pingEvery),
		nats.MaxPingsOutstanding(3),
		nats.DisconnectErrHandler(w.onDisconnected),
		nats.ReconnectHandler(w.onReconnected),
		nats.ConnectHandler(w.onReconnected),
		nats.ReconnectErrHandler(w.onStillAway),
		nats.ClosedHandler(w.onClosed),
		nats.ErrorHandler(w.onError),
	}, w.Connect...)
	servers := strings.Join(w.Servers, ",")
	conn, err := nats.Connect(servers, options...)
	if err != nil && waitingHelps(err) {
		w.log.Warn("no broker yet; trying until there is one", "servers", w.servers(), "error", err)
		conn, err = nats.Connect(servers, append(options, nats.RetryOnFailedConnect(true))...)
	}
	if err != nil {
		return fmt.Errorf("the broker at %s: %w", w.servers(), err)
	}
	w.conn = conn
	return nil
}

// waitingHelps tells a broker that is away from one that refuses, or from options that cannot be.
func waitingHelps(err error) bool {
	var network interface{ Timeout() bool }
	return errors.Is(err, nats.ErrNoServers) || errors.Is(err, nats.ErrTimeout) || errors.As(err, &network)
}

// servers are the URLs for the log: without user and password.
func (w *Worker) servers() string {
	plain := make([]string, len(w.Servers))
	for i, server := range w.Servers {
		plain[i] = WithoutUser(server)
	}
	return strings.Join(plain, ",")
}

// WithoutUser is a server's URL without user and password, as it may stand in a log.
func WithoutUser(server string) string {
	scheme, rest := "", server
	if at := strings.Index(server, "://"); at >= 0 {
		scheme, rest = server[:at+3], server[at+3:]
	}
	return scheme + rest[strings.LastIndex(rest, "@")+1:]
}

func (w *Worker) maxPayload() int {
	if limit := w.conn.MaxPayload(); limit > 0 {
		return int(limit)
	}
	return 1 << 20 // not connected yet: what nats-server takes by default
}

// subscribe subscribes to the own subject first, so that nothing that follows a call can miss it.
func (w *Worker) subscribe() (err error) {
	if w.own, err = w.conn.ChanSubscribe(w.subjects.Own, w.incoming); err != nil {
		return err
	}
	if err := w.subscribeService(); err != nil {
		return err
	}
	w.calls, err = w.conn.ChanQueueSubscribe(w.subjects.Call, w.Group, w.incoming)
	return err
}

func (w *Worker) hold(held bool) {
	w.mu.Lock()
	w.known.hold(held, now())
	w.mu.Unlock()
}

func (w *Worker) onDisconnected(_ *nats.Conn, err error) {
	w.hold(true)
	w.reminded.Store(int64(time.Since(started)))
	if err != nil {
		w.log.Warn("lost the broker; reconnecting", "servers", w.servers(), "error", err)
	}
}

// onStillAway is told of each attempt that failed, and says so now and then: the reason may be one that no waiting helps.
func (w *Worker) onStillAway(_ *nats.Conn, err error) {
	said, at := w.reminded.Load(), int64(time.Since(started))
	if at-said >= int64(remindEvery) && w.reminded.CompareAndSwap(said, at) {
		w.log.Warn("still no broker", "servers", w.servers(), "error", err)
	}
}

func (w *Worker) onReconnected(conn *nats.Conn) {
	w.hold(false)
	w.mu.Lock()
	serving := w.serving
	w.mu.Unlock()
	if !serving {
		return
	}
	w.log.Info("the broker is back", "server", conn.ConnectedUrlRedacted())
	if err := w.announce(); err != nil {
		// Lost again in between: the next reconnect says it all again.
		w.log.Warn("the broker went away again", "error", err)
	}
}

func (w *Worker) onClosed(conn *nats.Conn) {
	err := conn.LastError()
	if err == nil {
		err = nats.ErrConnectionClosed
	}
	select {
	case w.ended <- fmt.Errorf("the broker at %s ended the connection for good: %w", w.servers(), err):
	default:
	}
}

func (w *Worker) onError(_ *nats.Conn, subscription *nats.Subscription, err error) {
	if subscription != nil {
		w.log.Error("the broker reports", "subject", subscription.Subject, "error", err)
		return
	}
	w.log.Error("the broker reports", "error", err)
}
