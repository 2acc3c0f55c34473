package sdk

import (
	"errors"

	"github.com/AssetsArt/nylon/sdk/go/internal/abi"
	"github.com/AssetsArt/nylon/sdk/go/internal/wire"
	"github.com/AssetsArt/nylon/sdk/go/internal/worker"
)

// natsPlugin is the plugin as the worker sees it.
type natsPlugin struct{ plugin *NatsPlugin }

// Open begins a session; the worker asks only for entries that were announced.
func (p natsPlugin) Open(entry string) worker.Session {
	opened, there := p.plugin.open(entry, p.plugin.nextSession())
	if !there {
		opened = &session{broken: errors.New("there is no entry " + entry)}
	}
	return natsSession{opened}
}

// natsSession is a session of a gateway that calls over NATS.
type natsSession struct{ handlers *session }

// Run runs the handler of a phase on the call's own goroutine.
func (s natsSession) Run(phase uint8, call *worker.Call, done func(worker.Outcome)) {
	s.handlers.run(phase, natsCall{call}, func(result outcome) {
		switch result.method {
		case abi.Next:
			done(worker.Outcome{Decision: wire.Next})
		case abi.End:
			done(worker.Outcome{Decision: wire.End})
		case abi.SetResponseStreamEnd:
			done(worker.Outcome{Decision: wire.Streaming})
		default:
			done(worker.Outcome{Failure: &wire.Failure{Kind: result.kind, Message: result.text}})
		}
	})
}

// natsCall is the backend of one phase on a worker.
type natsCall struct{ call *worker.Call }

func (c natsCall) read(method uint32, name string) ([]byte, error) {
	value, err := c.call.Read(method, name)
	return value, natsError(err)
}

func (c natsCall) fields(method uint32) ([]field, error) {
	lines, err := c.call.Fields(method)
	fields := make([]field, len(lines))
	for i, line := range lines {
		fields[i] = field{line.Name, line.Value}
	}
	return fields, natsError(err)
}

func (c natsCall) write(method uint32, name string, value []byte) error {
	return natsError(c.call.Write(method, name, value))
}

func (c natsCall) closed() bool { return c.call.IsClosed() }

func (c natsCall) whenClosed(fn func()) { c.call.WhenClosed(fn) }

// natsError says in the SDK's words what went wrong.
func natsError(err error) error {
	var failure *wire.Failure
	switch {
	case errors.Is(err, worker.ErrOver):
		return ErrContextClosed
	case errors.Is(err, worker.ErrStreamClosed):
		return ErrStreamClosed
	case errors.As(err, &failure):
		return &BodyError{Kind: failure.Kind, Text: failure.Message}
	}
	return err
}
