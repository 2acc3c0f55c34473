package entries

import (
	"github.com/AssetsArt/nylon/sdk/go/sdk"
)

func sessions(plugin sdk.Plugin) {
	plugin.AddPhaseHandler("closure", func(phase *sdk.PhaseHandler) {
		// What a session's closures hold is its own, through all phases.
		var seen []string
		phase.RequestFilter(func(ctx *sdk.PhaseRequestFilter) {
			seen = append(seen, "request "+ctx.Request().Header("x-who"))
			ctx.Next()
		})
		phase.ResponseFilter(func(*sdk.PhaseResponseFilter) { seen = append(seen, "response") })
		phase.ResponseBodyFilter(func(ctx *sdk.PhaseResponseBodyFilter) {
			seen = append(seen, "body")
			ctx.Response().BodyJSON(seen)
		})
		phase.Logging(func(ctx *sdk.PhaseLogging) { tell(ctx, seen) })
	})
	logging := func(entry string, handler func(ctx *sdk.PhaseLogging)) {
		plugin.AddPhaseHandler(entry, func(phase *sdk.PhaseHandler) { phase.Logging(handler) })
	}
	logging("log-facts", func(ctx *sdk.PhaseLogging) {
		request, response := ctx.Request(), ctx.Response()
		tell(ctx, map[string]any{
			"status":     response.Status(),
			"bytes":      response.Bytes(),
			"duration":   float64(response.Duration()) / 1000,
			"error":      orNil(response.Error()),
			"method":     request.Method(),
			"path":       request.Path(),
			"header":     response.Header("x-origin"),
			"request_id": request.ID(),
		})
	})
	logging("slow-log", func(ctx *sdk.PhaseLogging) {
		waitAtGate(ctx)
		tell(ctx, "logged")
	})
}
