package sdk

import (
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/AssetsArt/nylon/sdk/go/internal/abi"
)

// session has the handlers of one exchange × one middleware, made by a run of the entry's setup function.
type session struct {
	phases *PhaseHandler
	broken error
}

// inline says whether the handler of a phase wants to run on the gateway's own thread.
func (s *session) inline(phase uint8) bool {
	return s.phases.options[phase]&Inline != 0
}

// run calls the handler of a phase, and done with what it came to. It never panics: a panic is the handler's failure, with
// its stack as the text. A handler that ends its goroutine (runtime.Goexit) has failed too, which is why done is called
// instead of returned to.
func (s *session) run(phase uint8, host backend, done func(outcome)) {
	if s.broken != nil {
		done(outcome{method: abi.Fail, kind: "raised", text: s.broken.Error()})
		return
	}
	if int(phase) >= len(s.phases.handlers) || s.phases.handlers[phase] == nil {
		// A host that does not know which phases there are asks for all of them.
		done(outcome{method: abi.Next})
		return
	}
	ctx := &phaseContext{host: host, phase: phase}
	ctx.byChunk = phase == abi.ResponseBodyFilter && s.phases.options[phase]&ByChunk != 0
	returned := false
	defer func() {
		var err error
		if !returned {
			err = panicked(abi.PhaseNames[phase], recover())
		}
		done(ctx.finish(err))
	}()
	s.phases.handlers[phase](ctx)
	returned = true
}

// guarded calls fn and turns a panic into an error with the stack.
func guarded(what string, fn func()) (err error) {
	returned := false
	defer func() {
		if !returned {
			err = panicked(what, recover())
		}
	}()
	fn()
	returned = true
	return nil
}

func panicked(what string, reason any) error {
	if reason == nil {
		return &raised{text: what + " ended its goroutine (runtime.Goexit)"}
	}
	if text, is := reason.(failed); is {
		return &raised{text: string(text)}
	}
	cause, _ := reason.(error)
	return &raised{cause: cause, text: fmt.Sprintf("%s: panic: %v\n\n%s", what, reason, debug.Stack())}
}

// raised is a panic, as an error.
type raised struct {
	cause error
	text  string
}

func (r *raised) Error() string { return r.text }

func (r *raised) Unwrap() error { return r.cause }

// kindOf is the wire's word for why a handler failed.
func kindOf(err error) string {
	var body *BodyError
	if errors.As(err, &body) && body.Kind != "" {
		return body.Kind
	}
	return "raised"
}
