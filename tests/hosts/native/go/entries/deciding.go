package entries

import (
	"errors"

	"github.com/AssetsArt/nylon/sdk/go/sdk"
)

func deciding(plugin sdk.Plugin) {
	plugin.AddPhaseHandler("pass", onion(func(sdk.Context) string { return "" }))
	plugin.AddPhaseHandler("stop-in", onion(func(ctx sdk.Context) string { return payloadText(ctx, "stop") }))
	undecided := func(ctx *sdk.PhaseRequestFilter) { ctx.Request().SetHeader("x-undecided", "1") }
	request(plugin, "undecided", undecided)
	request(plugin, "undecided-awaited", undecided)
	request(plugin, "end-then-next", func(ctx *sdk.PhaseRequestFilter) {
		// The forgotten return: what End refused must not pass.
		ctx.Response().SetStatus(403)
		ctx.End()
		ctx.Next()
	})
	request(plugin, "end-then-next-caught", func(ctx *sdk.PhaseRequestFilter) {
		ctx.Response().SetStatus(403).BodyText("refused")
		ctx.End()
		if err := panics(ctx.Next); errors.As(err, new(*sdk.DecisionError)) {
			ctx.Response().SetHeader("x-error", err.Error())
		}
	})
	request(plugin, "next-twice-caught", func(ctx *sdk.PhaseRequestFilter) {
		ctx.Next()
		if errors.As(panics(ctx.End), new(*sdk.DecisionError)) {
			ctx.Request().SetHeader("x-refused", "yes")
		}
	})
	request(plugin, "next-then-raise", func(ctx *sdk.PhaseRequestFilter) {
		ctx.Next()
		panic("after the decision")
	})
	request(plugin, "write-after-next", func(ctx *sdk.PhaseRequestFilter) {
		ctx.Next()
		ctx.Request().SetHeader("x-after", "1")
	})
	request(plugin, "draft-then-next", func(ctx *sdk.PhaseRequestFilter) {
		ctx.Response().SetStatus(500).SetHeader("x-draft", "1").BodyText("draft")
		ctx.Next()
	})
	plugin.AddPhaseHandler("response-undecided", func(phase *sdk.PhaseHandler) {
		phase.ResponseFilter(func(ctx *sdk.PhaseResponseFilter) { ctx.Response().SetHeader("x-response", "1") })
		phase.ResponseBodyFilter(func(ctx *sdk.PhaseResponseBodyFilter) { ctx.Response().SetHeader("x-body", "1") })
	})
	request(plugin, "serve", func(ctx *sdk.PhaseRequestFilter) {
		// For a plugin service: it answers as its payload says, or leaves the answer to nobody.
		payload := ctx.GetPayload()
		if payload["pass"] == true {
			ctx.Next()
			return
		}
		ctx.Response().SetStatus(299).BodyJSON(map[string]any{"path": ctx.Request().Path(), "payload": payload["name"]})
		ctx.End()
	})
}

// onion is an entry of which every phase says that it ran, and goes on, but for the one that stop names.
func onion(stop func(ctx sdk.Context) string) func(phase *sdk.PhaseHandler) {
	decide := func(ctx sdk.Context, here string) {
		if stop(ctx) == here {
			ctx.End()
		} else {
			ctx.Next()
		}
	}
	return func(phase *sdk.PhaseHandler) {
		phase.RequestFilter(func(ctx *sdk.PhaseRequestFilter) {
			if stop(ctx) == "" {
				ctx.Request().AddHeader("x-order", payloadText(ctx, "name"))
			} else {
				ctx.Response().SetStatus(403).BodyText("stopped")
			}
			decide(ctx, "request_filter")
		})
		phase.ResponseFilter(func(ctx *sdk.PhaseResponseFilter) {
			ctx.Response().AddHeader("x-order", payloadText(ctx, "name"))
			decide(ctx, "response_filter")
		})
		phase.ResponseBodyFilter(func(ctx *sdk.PhaseResponseBodyFilter) {
			ctx.Response().BodyRaw(append(ctx.Response().ReadBody(), " "+payloadText(ctx, "name")...))
			decide(ctx, "response_body_filter")
		})
		phase.Logging(func(ctx *sdk.PhaseLogging) {
			tell(ctx, payloadText(ctx, "name"))
			decide(ctx, "logging")
		})
	}
}
