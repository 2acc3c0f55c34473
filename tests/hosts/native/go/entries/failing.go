package entries

import (
	"context"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"github.com/AssetsArt/nylon/sdk/go/sdk"
)

// secret is in what is raised, and must not reach a client.
const secret = "s3cret-in-a-traceback"

func failing(plugin sdk.Plugin) {
	plugin.AddPhaseHandler("raise-in", raiseIn)
	request(plugin, "raise-awaited", func(ctx *sdk.PhaseRequestFilter) {
		ctx.Request().SetHeader("x-changed", "1")
		ctx.Next()
		panic(secret)
	})
	request(plugin, "raise-exit", func(*sdk.PhaseRequestFilter) { runtime.Goexit() })
	request(plugin, "raise-cancelled", func(*sdk.PhaseRequestFilter) { panic(context.Canceled) })
	var loaded atomic.Bool
	plugin.AddPhaseHandler("raise-in-setup", func(phase *sdk.PhaseHandler) {
		// Runs well when the plugin is loaded, and never again.
		phase.RequestFilter(func(ctx *sdk.PhaseRequestFilter) { ctx.Next() })
		if loaded.Swap(true) {
			panic(secret)
		}
	})
	plugin.AddPhaseHandler("hang-in", hangIn)
	block := func(ctx *sdk.PhaseRequestFilter) {
		waitAtGate(ctx)
		ctx.Next()
	}
	request(plugin, "block", block)
	request(plugin, "block-awaited", block)
	request(plugin, "late", late)
	request(plugin, "late-next", func(ctx *sdk.PhaseRequestFilter) {
		// Lets a request pass whose time is over.
		spot := spotOf(ctx)
		spot.waitAtGate()
		defer spot.tell("done")
		ctx.Next()
	})
	plugin.AddPhaseHandler("keep-context", keepContext)
	fine := func(ctx *sdk.PhaseRequestFilter) { ctx.Next() }
	request(plugin, "fine", fine)
	request(plugin, "fine-awaited", fine)
}

// raiseIn changes what it can and panics in the phase that the payload names; elsewhere it only says that it ran.
func raiseIn(phase *sdk.PhaseHandler) {
	raises := func(ctx sdk.Context, here string) bool { return payloadText(ctx, "raise") == here }
	spoil := func(response *sdk.Response) {
		response.SetStatus(299).SetHeader("x-changed", "1").BodyText("changed")
		panic(secret)
	}
	phase.RequestFilter(func(ctx *sdk.PhaseRequestFilter) {
		if raises(ctx, "request_filter") {
			request := ctx.Request().SetMethod("DELETE").SetPath("/changed").SetQuery("changed")
			request.SetHeader("x-changed", "1").SetBody([]byte("changed"))
			spoil(ctx.Response())
		}
		ctx.Next()
	})
	phase.ResponseFilter(func(ctx *sdk.PhaseResponseFilter) {
		if raises(ctx, "response_filter") {
			spoil(ctx.Response())
		}
		ctx.Response().AddHeader("x-order", "r")
	})
	phase.ResponseBodyFilter(func(ctx *sdk.PhaseResponseBodyFilter) {
		if raises(ctx, "response_body_filter") {
			spoil(ctx.Response())
		}
		ctx.Response().AddHeader("x-order", "b")
	})
	phase.Logging(func(ctx *sdk.PhaseLogging) {
		response := ctx.Response()
		// There is no state in Go, so nothing of it can be left behind.
		tell(ctx, map[string]any{"status": response.Status(), "error": orNil(response.Error()), "state": map[string]any{}})
		if raises(ctx, "logging") {
			panic(secret)
		}
	})
}

// hangIn changes what it can, then waits for ever in the phase that the payload names: until nobody waits for it any more.
func hangIn(phase *sdk.PhaseHandler) {
	hang := func(ctx sdk.Context, here string, change func()) {
		if payloadText(ctx, "hang") == here {
			change()
			<-ctx.Context().Done()
		}
	}
	phase.RequestFilter(func(ctx *sdk.PhaseRequestFilter) {
		ctx.Next()
		hang(ctx, "request_filter", func() { ctx.Request().SetHeader("x-changed", "1") })
	})
	phase.ResponseFilter(func(ctx *sdk.PhaseResponseFilter) {
		hang(ctx, "response_filter", func() { ctx.Response().SetHeader("x-changed", "1") })
	})
	phase.ResponseBodyFilter(func(ctx *sdk.PhaseResponseBodyFilter) {
		hang(ctx, "response_body_filter", func() { ctx.Response().SetHeader("x-changed", "1").BodyText("changed") })
	})
}

// late goes on after its time-out, until its context is closed; then nothing of it can be used any more.
func late(ctx *sdk.PhaseRequestFilter) {
	spot := spotOf(ctx)
	spot.waitAtGate()
	for until := time.Now().Add(10 * time.Second); time.Now().Before(until); time.Sleep(5 * time.Millisecond) {
		if panics(func() { ctx.Request().SetHeader("x-late", "1") }) == sdk.ErrContextClosed {
			break
		}
	}
	closed := []string{}
	for _, use := range []func(){
		ctx.Next,
		ctx.End,
		func() { ctx.Request().Path() },
		func() { ctx.Response().Status() },
		func() { ctx.GetPayload() },
		func() { ctx.Attempt() },
		func() { ctx.Request().ID() },
	} {
		if panics(use) == sdk.ErrContextClosed {
			closed = append(closed, "closed")
		}
	}
	spot.tell(closed)
}

// keepContext uses what it kept from one phase in the next.
func keepContext(phase *sdk.PhaseHandler) {
	var old *sdk.PhaseRequestFilter
	var request *sdk.Request
	var draft *sdk.Response
	phase.RequestFilter(func(ctx *sdk.PhaseRequestFilter) {
		old, request, draft = ctx, ctx.Request(), ctx.Response()
		ctx.Next()
	})
	phase.ResponseFilter(func(ctx *sdk.PhaseResponseFilter) {
		closed := []string{}
		for _, use := range []func(){
			old.Next,
			func() { old.Request().Path() },
			func() { request.Path() },
			func() { request.Headers() },
			func() { request.AddHeader("x-a", "1") },
			func() { draft.SetStatus(500) },
		} {
			if panics(use) == sdk.ErrContextClosed {
				closed = append(closed, "closed")
			}
		}
		ctx.Response().SetHeader("x-closed", strings.Join(closed, ","))
	})
}
