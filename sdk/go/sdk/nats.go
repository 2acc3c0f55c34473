package sdk

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/bits"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/AssetsArt/nylon/sdk/go/internal/abi"
	"github.com/AssetsArt/nylon/sdk/go/internal/wire"
	"github.com/AssetsArt/nylon/sdk/go/internal/worker"
)

// Version is the SDK's, which a worker announces.
const Version = "0.1.0"

// settle is how long after the last registration a worker begins to serve by itself. One that served an entry before the others are
// registered would refuse calls for them that another worker of its group can run.
const settle = 100 * time.Millisecond

// NatsPlugin is a plugin on a worker: a process of its own, of which any number may serve the same group.
type NatsPlugin struct {
	registry
	options natsOptions
	worker  *worker.Worker
	ids     atomic.Int32

	beginning sync.Once
	closing   sync.Once
	cutting   sync.Once
	// cut gives up what still runs, and closed is closed when nothing is left.
	cut, closed chan struct{}

	life    sync.Mutex
	timer   *time.Timer
	begun   bool
	ending  bool
	waited  bool
	failure error
}

var _ Plugin = (*NatsPlugin)(nil)

// NewNatsPlugin connects a worker of a group. servers is a URL such as nats://localhost:4222, or several separated by commas;
// where it is empty NATS_SERVERS counts, then nats://127.0.0.1:4222. group is group of the gateway's plugin; where it is empty
// NATS_GROUP counts.
//
// The worker serves in the background: from Run or Wait on, or by itself a moment after the last entry was registered. Without a
// broker it goes on trying; an error means that no waiting helps, as with wrong credentials.
func NewNatsPlugin(servers, group string, options ...NatsOption) (*NatsPlugin, error) {
	plugin := &NatsPlugin{
		options: defaults(),
		cut:     make(chan struct{}),
		closed:  make(chan struct{}),
	}
	plugin.grows = true
	for _, option := range options {
		option(&plugin.options)
	}
	if plugin.options.logger == nil {
		plugin.options.logger = slog.Default()
	}
	settings, err := plugin.options.settings(servers, group)
	if err != nil {
		return nil, fmt.Errorf("nylon: %w", err)
	}
	if plugin.worker, err = worker.Connect(settings); err != nil {
		return nil, fmt.Errorf("nylon: %w", err)
	}
	return plugin, nil
}

// AddPhaseHandler registers an entry; see Plugin. One that is registered while the worker serves already is announced
// a moment later.
func (p *NatsPlugin) AddPhaseHandler(entry string, setup func(phase *PhaseHandler)) {
	p.registry.AddPhaseHandler(entry, setup)
	p.life.Lock()
	defer p.life.Unlock()
	if p.timer == nil {
		p.timer = time.AfterFunc(settle, p.settled)
	} else if !p.ending {
		p.timer.Reset(settle)
	}
}

// settled begins to serve, or announces what has been added since. What fails here has nobody to be told to, unless Run or Wait is
// there by now: a worker that cannot serve must not look like one that does.
func (p *NatsPlugin) settled() {
	err := p.begin()
	if err == nil {
		err = p.announce()
	}
	p.life.Lock()
	told := p.waited || p.ending
	p.life.Unlock()
	if err != nil && !told {
		panic(fmt.Errorf("nylon: %w", err))
	}
}

// begin loads the plugin and serves; only the first time.
func (p *NatsPlugin) begin() error {
	p.beginning.Do(func() {
		err := p.load(p.options.config)
		if err == nil && len(p.entries()) == 0 {
			err = errors.New("the plugin has no entries: there is nothing to serve")
		}
		if err == nil {
			err = p.announce()
		}
		if err == nil {
			err = p.worker.Serve(natsPlugin{p})
		}
		p.life.Lock()
		p.begun, p.failure = err == nil, err
		p.life.Unlock()
	})
	p.life.Lock()
	defer p.life.Unlock()
	return p.failure
}

// announce tells the worker what is registered.
func (p *NatsPlugin) announce() error {
	entries := map[string]wire.Shape{}
	for _, name := range p.entries() {
		seen, _ := p.shape(name)
		shape := wire.Shape{Body: seen.wantsBody(), Stream: seen.byChunk()}
		for phase := abi.RequestFilter; phase <= abi.Logging; phase++ {
			if seen.handles[phase] {
				shape.Phases |= 1 << (phase - 1)
			}
		}
		// The handlers are closures of a setup function, so all calls of an exchange have to come to the worker that had the first
		// one, unless there is one only.
		shape.Session = bits.OnesCount8(shape.Phases) > 1 || shape.Stream
		entries[name] = shape
	}
	return p.worker.Announce(entries)
}

func (p *NatsPlugin) nextSession() int32 {
	for {
		if id := p.ids.Add(1) & 0x7fff_ffff; id != 0 {
			return id
		}
	}
}

// Wait serves until SIGTERM or SIGINT, drains and returns: it stands at the end of main, where `select {}` would keep the worker running
// too but end it in the middle of its calls. A second signal stops at once.
func (p *NatsPlugin) Wait() error { return p.Run(context.Background()) }

// Run is Wait that ends with a context as well. An error means that the worker could not serve, or not any longer.
func (p *NatsPlugin) Run(ctx context.Context) error {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	defer signal.Stop(signals)
	p.life.Lock()
	p.waited = true
	p.life.Unlock()
	if err := p.begin(); err != nil {
		return fmt.Errorf("nylon: %w", err)
	}
	var err error
	select {
	case <-p.closed:
		return nil
	case <-ctx.Done():
	case err = <-p.worker.Ended():
	case number := <-signals:
		p.options.logger.Info("draining; the same signal again stops at once", "signal", number.String())
	}
	done := make(chan error, 1)
	go func() { done <- p.Close() }()
	closing := error(nil)
	select {
	case closing = <-done:
	case number := <-signals:
		p.options.logger.Warn("stopping at once", "signal", number.String())
		p.cutting.Do(func() { close(p.cut) })
		closing = <-done
	}
	if err = errors.Join(err, closing); err != nil {
		return fmt.Errorf("nylon: %w", err)
	}
	return nil
}

// Close drains and stops: the worker leaves its group, finishes what it has within the drain timeout, and disconnects. It returns
// when that is done, and runs the functions of Shutdown. A second one waits for the first.
func (p *NatsPlugin) Close() error {
	p.closing.Do(func() {
		p.life.Lock()
		p.ending = true
		if p.timer != nil {
			p.timer.Stop()
		}
		p.life.Unlock()
		p.beginning.Do(func() {}) // one that has not begun never will
		p.worker.Stop(p.cut)
		p.life.Lock()
		begun := p.begun
		p.life.Unlock()
		if begun {
			err := p.close()
			p.life.Lock()
			p.failure = err
			p.life.Unlock()
		}
		close(p.closed)
	})
	<-p.closed
	p.life.Lock()
	defer p.life.Unlock()
	return p.failure
}
