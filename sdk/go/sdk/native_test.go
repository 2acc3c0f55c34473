package sdk

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/AssetsArt/nylon/sdk/go/internal/abi"
)

// fakeGateway answers reads as ask says, and passes on what is done otherwise.
type fakeGateway struct {
	session *nativeSession
	ask     func(gateway *fakeGateway, method uint32) ([]byte, bool)
	done    chan string
}

func (g *fakeGateway) Ask(method uint32, _, _ []byte) ([]byte, bool) { return g.ask(g, method) }

func (g *fakeGateway) Do(method uint32, payload []byte) {
	g.done <- fmt.Sprintf("%d %s", method, payload)
}

// later answers from another goroutine, which may be faster than Ask returns.
func later(g *fakeGateway, method uint32) ([]byte, bool) {
	go g.session.Answer(method, []byte("later"))
	return nil, false
}

func never(*fakeGateway, uint32) ([]byte, bool) { return nil, false }

// begin opens a session of an entry with these handlers and starts its request_filter.
func begin(t *testing.T, setup func(*PhaseHandler), ask func(*fakeGateway, uint32) ([]byte, bool)) *fakeGateway {
	t.Helper()
	var entries registry
	entries.AddPhaseHandler("entry", setup)
	if err := entries.load(nil); err != nil {
		t.Fatal(err)
	}
	handlers, _ := entries.open("entry", 1)
	gateway := &fakeGateway{ask: ask, done: make(chan string, 16)}
	gateway.session = newNativeSession(handlers, gateway)
	gateway.session.Start(abi.RequestFilter)
	return gateway
}

// next gives what the library does next.
func (g *fakeGateway) next(t *testing.T) string {
	t.Helper()
	select {
	case done := <-g.done:
		return done
	case <-time.After(20 * time.Second):
		t.Fatal("nothing was called back")
		return ""
	}
}

// within fails where what closes done does not happen.
func within(t *testing.T, what string, done <-chan error) error {
	t.Helper()
	select {
	case err := <-done:
		return err
	case <-time.After(20 * time.Second):
		t.Fatal(what + " did not end")
		return nil
	}
}

func TestAnAnswerMayComeFromAnotherThreadAtAnyTime(t *testing.T) {
	var all sync.WaitGroup
	for range 50 {
		all.Add(1)
		go func() {
			defer all.Done()
			gateway := begin(t, request(func(ctx *PhaseRequestFilter) {
				for range 20 {
					ctx.Request().SetBody(ctx.Request().Body())
				}
				ctx.Next()
			}), later)
			for range 20 {
				if got := gateway.next(t); got != "226 later" {
					t.Errorf("got %q", got)
				}
			}
			if got := gateway.next(t); got != "1 " {
				t.Errorf("got %q", got)
			}
		}()
	}
	all.Wait()
}

func TestReadsOfSeveralGoroutinesOfOneHandlerTakeTurns(t *testing.T) {
	gateway := begin(t, request(func(ctx *PhaseRequestFilter) {
		var readers sync.WaitGroup
		for range 8 {
			readers.Add(1)
			go func() {
				defer readers.Done()
				if got := ctx.Request().Path(); got != "later" {
					t.Errorf("read %q", got)
				}
			}()
		}
		readers.Wait()
		ctx.Next()
	}), later)
	if got := gateway.next(t); got != "1 " {
		t.Errorf("got %q", got)
	}
}

func TestAClosedSessionWakesWhoeverWaitsAndTakesNothingMore(t *testing.T) {
	ended := make(chan error, 1)
	gateway := begin(t, request(func(ctx *PhaseRequestFilter) {
		waits := ctx.Context()
		reason := panicOf(func() { ctx.Request().Body() })
		if reason != ErrContextClosed {
			t.Errorf("the read: %v", reason)
		}
		<-waits.Done()
		for i, fn := range []func(){ctx.Next, ctx.End, func() { ctx.Request().Path() }, func() { ctx.Request().SetQuery("a") }} {
			if reason := panicOf(fn); reason != ErrContextClosed {
				t.Errorf("%d: %v", i, reason)
			}
		}
		ended <- nil
	}), never)
	time.AfterFunc(10*time.Millisecond, gateway.session.Close)
	within(t, "the handler", ended)
	if len(gateway.done) != 0 {
		t.Errorf("called back: %q", <-gateway.done)
	}
}

func TestAStreamEndsWhenTheSessionDoesOrLoggingBegins(t *testing.T) {
	for name, end := range map[string]func(*nativeSession){
		"close":   (*nativeSession).Close,
		"logging": func(s *nativeSession) { s.Start(abi.Logging) },
	} {
		ended := make(chan error, 1)
		gateway := begin(t, func(phase *PhaseHandler) {
			phase.RequestFilter(func(ctx *PhaseRequestFilter) {
				waits := ctx.Context()
				stream, err := ctx.Response().Stream()
				if err == nil {
					_, err = stream.WriteString("part")
				}
				if err != nil {
					t.Error(err)
				}
				<-waits.Done()
				_, err = stream.WriteString("more")
				ended <- err
			})
			phase.Logging(func(*PhaseLogging) {})
		}, never)
		for _, want := range []string{"106 ", "104 part"} {
			if got := gateway.next(t); got != want {
				t.Errorf("%s: got %q", name, got)
			}
		}
		end(gateway.session)
		if err := within(t, "the stream", ended); err != ErrStreamClosed {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestALateAnswerOfAnotherReadIsNotTaken(t *testing.T) {
	asked := make(chan uint32, 2)
	gateway := begin(t, request(func(ctx *PhaseRequestFilter) {
		ctx.Request().SetQuery(ctx.Request().Path())
		ctx.Next()
	}), func(_ *fakeGateway, method uint32) ([]byte, bool) {
		asked <- method
		return nil, false
	})
	<-asked
	gateway.session.Answer(abi.ReadRequestFullBody, []byte("stale"))
	gateway.session.Answer(abi.ReadRequestPath, []byte("fresh"))
	for _, want := range []string{"222 fresh", "1 "} {
		if got := gateway.next(t); got != want {
			t.Errorf("got %q", got)
		}
	}
}

func TestABodyThatCouldNotBeReadIsNoEmptyBody(t *testing.T) {
	for attempt, want := range map[string]string{"1": "222 empty", "": "4 request_filter: panic: the gateway could not read"} {
		gateway := begin(t, request(func(ctx *PhaseRequestFilter) {
			if len(ctx.Request().Body()) == 0 {
				ctx.Request().SetQuery("empty")
			}
			ctx.Next()
		}), func(g *fakeGateway, method uint32) ([]byte, bool) {
			if method == abi.ReadAttempt {
				return []byte(attempt), true
			}
			go g.session.Answer(method, nil)
			return nil, false
		})
		if got := gateway.next(t); !strings.HasPrefix(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
