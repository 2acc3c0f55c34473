// Package sdk is for writing Nylon plugins in Go.
//
// A plugin registers entries; an entry has handlers for the phases of a request:
//
//	func register(plugin sdk.Plugin) {
//		plugin.AddPhaseHandler("auth", func(phase *sdk.PhaseHandler) {
//			phase.RequestFilter(func(ctx *sdk.PhaseRequestFilter) {
//				if ctx.Request().Header("x-api-key") != "secret" {
//					ctx.Response().SetStatus(401).BodyJSON(map[string]string{"error": "unauthorized"})
//					ctx.End()
//					return
//				}
//				ctx.Next()
//			})
//		})
//	}
//
// The same handlers run in the gateway's process, with NewNylonPlugin and go build -buildmode=c-shared, and on NATS
// workers, with NewNatsPlugin and go build. They see the same objects and the same rules in both places; README.md tells
// them, and docs/phases.md the life of a request.
package sdk
