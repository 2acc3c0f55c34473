package sdk

import (
	"slices"
	"strings"
	"testing"

	"github.com/AssetsArt/nylon/sdk/go/internal/abi"
)

func TestASetupFunctionRunsOnceToBeRecordedAndOncePerSession(t *testing.T) {
	var entries registry
	runs := []int32{}
	entries.AddPhaseHandler("entry", func(phase *PhaseHandler) {
		runs = append(runs, phase.SessionId)
		phase.RequestFilter(func(*PhaseRequestFilter) {}, WithBody, Inline)
		phase.ResponseBodyFilter(func(*PhaseResponseBodyFilter) {}, ByChunk)
	})
	for range 2 {
		if err := entries.load(nil); err != nil {
			t.Fatal(err)
		}
	}
	entries.open("entry", 7)
	entries.open("entry", 8)
	if !slices.Equal(runs, []int32{0, 7, 8}) {
		t.Errorf("runs: %v", runs)
	}
	seen, _ := entries.shape("entry")
	if got := strings.Join(seen.phases(), " "); got != "request_filter response_body_filter" || !seen.wantsBody() || !seen.byChunk() {
		t.Errorf("recorded %s, %+v", got, seen)
	}
	if _, there := entries.open("another", 9); there {
		t.Error("an entry that nobody registered was opened")
	}
}

func TestASetupFunctionThatPanicsAtLoadStopsTheStart(t *testing.T) {
	var entries registry
	entries.AddPhaseHandler("entry", func(*PhaseHandler) { panic("boom") })
	if err := entries.load(nil); err == nil || !strings.Contains(err.Error(), `entry "entry": panic: boom`) {
		t.Errorf("got %v", err)
	}
}

func TestASessionWhoseSetupGoesWrongFailsInEveryPhase(t *testing.T) {
	for name, is := range map[string]struct {
		second func(*PhaseHandler)
		want   string
	}{
		"panics": {func(*PhaseHandler) { panic("boom") }, "panic: boom"},
		"registers something else": {
			func(phase *PhaseHandler) { phase.Logging(func(*PhaseLogging) {}) },
			"it registered [request_filter] when the plugin was loaded and [logging] now",
		},
	} {
		var entries registry
		loaded := false
		entries.AddPhaseHandler("entry", func(phase *PhaseHandler) {
			if loaded {
				is.second(phase)
				return
			}
			loaded = true
			phase.RequestFilter(func(ctx *PhaseRequestFilter) { ctx.Next() })
		})
		if err := entries.load(nil); err != nil {
			t.Fatal(err)
		}
		opened, _ := entries.open("entry", 1)
		for phase := abi.RequestFilter; phase <= abi.Logging; phase++ {
			opened.run(phase, &recording{}, func(got outcome) {
				if got.method != abi.Fail || !strings.Contains(got.text, is.want) {
					t.Errorf("a setup function that %s came to %+v", name, got)
				}
			})
		}
	}
}

func TestWhatCannotBeRegisteredPanicsWhereItIs(t *testing.T) {
	for want, fn := range map[string]func(phase *PhaseHandler){
		"request_filter is registered twice": func(phase *PhaseHandler) {
			phase.RequestFilter(func(*PhaseRequestFilter) {})
			phase.RequestFilter(func(*PhaseRequestFilter) {})
		},
		"the handler of logging is nil":             func(phase *PhaseHandler) { phase.Logging(nil) },
		"logging does not take the option WithBody": func(phase *PhaseHandler) { phase.Logging(func(*PhaseLogging) {}, WithBody) },
	} {
		if reason := asError(panicOf(func() { fn(&PhaseHandler{}) })); reason == nil || reason.Error() != want {
			t.Errorf("got %v, want %s", reason, want)
		}
	}
	var entries registry
	entries.AddPhaseHandler("entry", func(*PhaseHandler) {})
	if reason := panicOf(func() { entries.AddPhaseHandler("entry", func(*PhaseHandler) {}) }); reason == nil {
		t.Error("an entry was registered twice")
	}
	if err := entries.load(nil); err != nil {
		t.Fatal(err)
	}
	if reason := panicOf(func() { entries.AddPhaseHandler("late", func(*PhaseHandler) {}) }); reason == nil {
		t.Error("an entry was registered after the plugin was loaded")
	}
}

func TestInitializeGetsTheConfigInATypeOfItsOwn(t *testing.T) {
	var entries registry
	order := []string{}
	entries.Initialize(NewInitializer(func(config struct{ Greeting string }) { order = append(order, config.Greeting) }))
	entries.Shutdown(func() { order = append(order, "first") })
	entries.Shutdown(func() { order = append(order, "second") })
	if err := entries.load(map[string]any{"greeting": "hello"}); err != nil {
		t.Fatal(err)
	}
	if err := entries.load(map[string]any{"greeting": 1}); err == nil || !strings.Contains(err.Error(), "does not fit") {
		t.Errorf("got %v", err)
	}
	if err := entries.close(); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(order, " "); got != "hello second first" {
		t.Errorf("order: %s", got)
	}
}
