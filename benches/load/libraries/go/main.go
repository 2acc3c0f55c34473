// The decision of the rows with a handler, in Go: the path and one header. "chatty" asks for everything first, one thing
// after the other, as plugins of an earlier Go SDK do.
package main

import "github.com/AssetsArt/nylon/sdk/go/sdk"

func main() {}

func init() {
	plugin := sdk.NewNylonPlugin()
	plugin.AddPhaseHandler("check", func(phase *sdk.PhaseHandler) { phase.RequestFilter(decide) })
	plugin.AddPhaseHandler("check_inline", func(phase *sdk.PhaseHandler) { phase.RequestFilter(decide, sdk.Inline) })
	plugin.AddPhaseHandler("chatty", func(phase *sdk.PhaseHandler) {
		phase.RequestFilter(func(ctx *sdk.PhaseRequestFilter) {
			request := ctx.Request()
			ctx.GetPayload()
			request.Method()
			request.URL()
			request.Query()
			request.Params()
			request.Host()
			request.ClientIP()
			request.Bytes()
			request.Timestamp()
			request.Headers()
			decide(ctx)
		})
	})
}

func decide(ctx *sdk.PhaseRequestFilter) {
	if ctx.Request().Path() != "/open" && ctx.Request().Header("x-api-key") != "k123" {
		ctx.Response().SetStatus(401)
		ctx.End()
		return
	}
	ctx.Next()
}
