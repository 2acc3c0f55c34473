package sdk

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/AssetsArt/nylon/sdk/go/internal/abi"
)

// recording is a backend that remembers what it was asked to change.
type recording struct {
	mu      sync.Mutex
	answers map[uint32]string
	headers []field
	written []string
	gone    bool
}

func (r *recording) read(method uint32, name string) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return []byte(r.answers[method]), nil
}

func (r *recording) fields(uint32) ([]field, error) { return r.headers, nil }

func (r *recording) write(method uint32, name string, value []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gone && method == abi.SetResponseStreamData {
		return ErrStreamClosed
	}
	r.written = append(r.written, strings.TrimSpace(fmt.Sprintf("%d %s %s", method, name, value)))
	return nil
}

func (*recording) closed() bool { return false }

func (*recording) whenClosed(func()) {}

// perform runs one phase of an entry and gives what it came to.
func perform(t *testing.T, setup func(*PhaseHandler), phase uint8, host *recording) outcome {
	t.Helper()
	var entries registry
	entries.AddPhaseHandler("entry", setup)
	if err := entries.load(nil); err != nil {
		t.Fatal(err)
	}
	opened, there := entries.open("entry", 1)
	if !there {
		t.Fatal("the entry is not there")
	}
	done := make(chan outcome, 1)
	go opened.run(phase, host, func(result outcome) { done <- result })
	return <-done
}

func request(handler func(ctx *PhaseRequestFilter)) func(*PhaseHandler) {
	return func(phase *PhaseHandler) { phase.RequestFilter(handler) }
}

func TestWhatARequestFilterComesTo(t *testing.T) {
	for name, is := range map[string]struct {
		handler func(ctx *PhaseRequestFilter)
		want    outcome // with the beginning of its text
	}{
		"next":           {func(ctx *PhaseRequestFilter) { ctx.Next() }, outcome{method: abi.Next}},
		"end":            {func(ctx *PhaseRequestFilter) { ctx.End() }, outcome{method: abi.End}},
		"nothing":        {func(ctx *PhaseRequestFilter) {}, outcome{abi.Fail, "undecided", "the handler returned without"}},
		"end, next":      {func(ctx *PhaseRequestFilter) { ctx.End(); ctx.Next() }, outcome{abi.Fail, "raised", "request_filter: panic: this handler has already decided end"}},
		"next, panic":    {func(ctx *PhaseRequestFilter) { ctx.Next(); panic("boom") }, outcome{abi.Fail, "raised", "request_filter: panic: boom"}},
		"next, goexit":   {func(ctx *PhaseRequestFilter) { ctx.Next(); runtime.Goexit() }, outcome{abi.Fail, "raised", "request_filter ended its goroutine"}},
		"fail":           {func(ctx *PhaseRequestFilter) { ctx.Fail("no key") }, outcome{abi.Fail, "raised", "no key"}},
		"a body too big": {func(ctx *PhaseRequestFilter) { panic(&BodyError{"body_too_large", "11 MiB"}) }, outcome{abi.Fail, "body_too_large", "request_filter: panic: 11 MiB"}},
	} {
		got := perform(t, request(is.handler), abi.RequestFilter, &recording{})
		if got.method != is.want.method || got.kind != is.want.kind || !strings.HasPrefix(got.text, is.want.text) {
			t.Errorf("%s: got %+v, want %+v", name, got, is.want)
		}
	}
}

func TestAPlainReturnMeansNextInTheOtherPhases(t *testing.T) {
	setup := func(phase *PhaseHandler) {
		phase.ResponseFilter(func(*PhaseResponseFilter) {})
		phase.ResponseBodyFilter(func(*PhaseResponseBodyFilter) {})
		phase.Logging(func(*PhaseLogging) {})
	}
	for phase := abi.RequestFilter; phase <= abi.Logging; phase++ {
		if got := perform(t, setup, phase, &recording{}); got != (outcome{method: abi.Next}) {
			t.Errorf("%s came to %+v", abi.PhaseNames[phase], got)
		}
	}
}

// panicOf gives what fn panics with.
func panicOf(fn func()) (reason any) {
	defer func() { reason = recover() }()
	fn()
	return nil
}

func TestWhatAPhaseDoesNotAllowIsRefused(t *testing.T) {
	host := &recording{}
	refused := func(fn func()) {
		t.Helper()
		if reason := panicOf(fn); !errors.As(asError(reason), new(*PhaseError)) {
			t.Errorf("got %v", reason)
		}
	}
	setup := func(phase *PhaseHandler) {
		phase.ResponseFilter(func(ctx *PhaseResponseFilter) {
			refused(func() { ctx.Request().SetHeader("x-a", "1") })
			refused(func() { ctx.Request().SetBody(nil) })
			if _, err := ctx.Response().Stream(); !errors.As(err, new(*PhaseError)) {
				t.Errorf("a stream: %v", err)
			}
			ctx.SetResponseHeader("X-A", "1")
		})
		phase.ResponseBodyFilter(func(ctx *PhaseResponseBodyFilter) {
			refused(func() { ctx.Response().SetStatus(200) })
			ctx.SetChunk([]byte("part"))
		}, ByChunk)
		phase.Logging(func(ctx *PhaseLogging) { refused(func() { ctx.Response().BodyText("x") }) })
	}
	for phase := abi.ResponseFilter; phase <= abi.Logging; phase++ {
		perform(t, setup, phase, host)
	}
	whole := func(phase *PhaseHandler) {
		phase.ResponseBodyFilter(func(ctx *PhaseResponseBodyFilter) {
			refused(func() { ctx.SetChunk(nil) })
			refused(func() { ctx.Chunk() })
		})
	}
	perform(t, whole, abi.ResponseBodyFilter, host)
	if got := strings.Join(host.written, "|"); got != "100 x-a 1|116  part" {
		t.Errorf("written: %s", got)
	}
}

func asError(reason any) error {
	err, _ := reason.(error)
	return err
}

func TestWhatIsNotHTTPIsRefusedAndChangesNothing(t *testing.T) {
	host := &recording{}
	perform(t, request(func(ctx *PhaseRequestFilter) {
		request, response := ctx.Request(), ctx.Response()
		for i, fn := range []func(){
			func() { request.SetMethod("GET /x HTTP/1.1\r\nx") },
			func() { request.SetMethod("CONNECT") },
			func() { request.SetMethod("") },
			func() { request.SetPath("/x HTTP/1.1\r\nx: 1") },
			func() { request.SetPath("x") },
			func() { request.SetPath("/a?b") },
			func() { request.SetPath("/caf\u00e9") },
			func() { request.SetQuery("a\r\nx: 1") },
			func() { request.SetQuery(strings.Repeat("a", 32*1024+1)) },
			func() { request.SetHeader("x-a", "a\r\nx: 1") },
			func() { request.AddHeader("x-a\r\nx", "1") },
			func() { request.RemoveHeader("") },
			func() { response.SetHeader("x-a", "a\nb") },
			func() { response.AddHeader("x-a", "a\x00b") },
			func() { response.SetHeader("x a", "b") },
			func() { response.SetStatus(99) },
			func() { response.SetStatus(101) },
			func() { response.SetStatus(600) },
			func() { response.Redirect("/x", 200) },
		} {
			if reason := panicOf(fn); !errors.As(asError(reason), new(*InvalidValueError)) {
				t.Errorf("%d: got %v", i, reason)
			}
		}
		ctx.Next()
	}), abi.RequestFilter, host)
	if len(host.written) != 0 {
		t.Errorf("written: %q", host.written)
	}
}

func TestBodiesBringTheirContentTypeUnlessTheHandlerHasSetOne(t *testing.T) {
	host := &recording{}
	perform(t, request(func(ctx *PhaseRequestFilter) {
		ctx.Response().BodyJSON([]int{1}).BodyHTML("<p>")
		ctx.Response().SetHeader("Content-Type", "text/x").BodyText("y").Redirect("/caf\u00e9?a=b%20c d")
		ctx.End()
	}), abi.RequestFilter, host)
	want := "100 content-type application/json|103  [1]|100 content-type text/html; charset=utf-8|103  <p>|" +
		"100 content-type text/x|103  y|100 location /caf%C3%A9?a=b%20c%20d|102  \x01."
	if got := strings.Join(host.written, "|"); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestAStreamIsAnEndWhoseBodyFollows(t *testing.T) {
	host := &recording{}
	got := perform(t, request(func(ctx *PhaseRequestFilter) {
		stream, err := ctx.Response().SetStatus(201).Stream()
		if err != nil {
			t.Error(err)
		}
		if reason := panicOf(func() { ctx.Response().SetStatus(500) }); !errors.As(asError(reason), new(*PhaseError)) {
			t.Errorf("a change after the head: %v", reason)
		}
		if reason := panicOf(ctx.Next); !errors.As(asError(reason), new(*DecisionError)) {
			t.Errorf("a decision after the head: %v", reason)
		}
		if _, err := ctx.Response().Stream(); !errors.As(err, new(*DecisionError)) {
			t.Errorf("a second stream: %v", err)
		}
		fmt.Fprintf(stream, "%s", "part")
		if err := errors.Join(stream.End(), stream.End()); err != nil {
			t.Error(err)
		}
		if _, err := stream.WriteString("more"); !errors.As(err, new(*BodyError)) {
			t.Errorf("a write after the end: %v", err)
		}
	}), abi.RequestFilter, host)
	if got != (outcome{method: abi.SetResponseStreamEnd}) {
		t.Errorf("came to %+v", got)
	}
	if got := strings.Join(host.written, "|"); got != "102  \x00\xc9|106|104  part|105" {
		t.Errorf("written: %q", got)
	}
}

func TestAStreamWithoutItsEndIsAFailure(t *testing.T) {
	for name, after := range map[string]func(){"returns": func() {}, "panics": func() { panic("boom") }} {
		got := perform(t, request(func(ctx *PhaseRequestFilter) {
			stream, _ := ctx.Response().Stream()
			stream.WriteString("part")
			after()
		}), abi.RequestFilter, &recording{})
		if got.method != abi.Fail {
			t.Errorf("a handler that %s came to %+v", name, got)
		}
	}
}

func TestAHandlerWhoseClientIsGoneHasNotFailed(t *testing.T) {
	got := perform(t, request(func(ctx *PhaseRequestFilter) {
		stream, _ := ctx.Response().Stream()
		for {
			if _, err := stream.WriteString("part"); err != nil {
				panic(err)
			}
		}
	}), abi.RequestFilter, &recording{gone: true})
	if got != (outcome{method: abi.SetResponseStreamEnd}) {
		t.Errorf("came to %+v", got)
	}
}

func TestNothingCanBeUsedAfterItsPhase(t *testing.T) {
	var kept *PhaseRequestFilter
	host := &recording{}
	perform(t, request(func(ctx *PhaseRequestFilter) { kept = ctx; ctx.Next() }), abi.RequestFilter, host)
	request, response := kept.Request(), kept.Response()
	for i, fn := range []func(){
		kept.Next, kept.End, func() { kept.GetPayload() }, func() { request.Path() }, func() { request.Headers() },
		func() { request.SetHeader("x-a", "1") }, func() { response.SetStatus(500) },
	} {
		if reason := panicOf(fn); reason != ErrContextClosed {
			t.Errorf("%d: got %v", i, reason)
		}
	}
	if _, err := response.Stream(); err != ErrContextClosed {
		t.Errorf("a stream: %v", err)
	}
	if len(host.written) != 0 {
		t.Errorf("written: %q", host.written)
	}
}

func TestReads(t *testing.T) {
	host := &recording{
		answers: map[uint32]string{
			abi.GetPayload: `{"key": "k", "n": 1099511627776}`, abi.ReadRequestParams: `{"id": "4 2"}`,
			abi.ReadRequestTimestamp: "1700000000123", abi.ReadResponseStatus: "200", abi.ReadRequestFullBody: `{"a": 1}`,
			abi.ReadAttempt: "2",
		},
		headers: []field{{"cookie", "a=1"}, {"cookie", "b=2"}, {"x-a", "1"}, {"x-a", "2"}, {"set-cookie", "a"}, {"set-cookie", "b"}},
	}
	got := perform(t, request(func(ctx *PhaseRequestFilter) {
		var payload struct{ Key string }
		if err := ctx.DecodePayload(&payload); err != nil || payload.Key != "k" {
			t.Errorf("payload %+v, %v", payload, err)
		}
		if n := ctx.GetPayload()["n"]; n != float64(1<<40) {
			t.Errorf("payload n: %v", n)
		}
		request, response := ctx.Request(), ctx.Response()
		var body map[string]int
		if err := request.BodyJSON(&body); err != nil || body["a"] != 1 {
			t.Errorf("body %v, %v", body, err)
		}
		headers := request.Headers()
		for what, values := range map[string][2]any{
			"params":     {request.Params()["id"], "4 2"},
			"timestamp":  {request.Timestamp(), int64(1700000000123)},
			"status":     {response.Status(), 200},
			"attempt":    {ctx.Attempt(), 2},
			"bytes":      {request.Bytes(), int64(0)},
			"cookie":     {headers.Get("Cookie"), "a=1; b=2"},
			"joined":     {headers.Get("X-A"), "1, 2"},
			"values":     {strings.Join(headers.Values("x-A"), "|"), "1|2"},
			"missing":    {headers.Get("x-missing"), ""},
			"set-cookie": {response.Headers()["set-cookie"], "a"},
			"all":        {len(headers.GetAll()), 3},
		} {
			if values[0] != values[1] {
				t.Errorf("%s is %v, want %v", what, values[0], values[1])
			}
		}
		ctx.Next()
	}), abi.RequestFilter, host)
	if got.method != abi.Next {
		t.Error(got.text)
	}
}
