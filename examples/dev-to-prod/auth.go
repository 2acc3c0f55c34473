// One plugin, built in two ways: as a library for the gateway's process, and as a worker.
package main

import (
	"log"

	"github.com/AssetsArt/nylon/sdk/go/sdk"
)

// The library: go build -buildmode=c-shared. Its main never runs.
func init() { register(sdk.NewNylonPlugin()) }

// The worker: go build. NATS_SERVERS and NATS_GROUP say where the broker is and which group it joins.
func main() {
	plugin, err := sdk.NewNatsPlugin("", "")
	if err != nil {
		log.Fatal(err)
	}
	register(plugin)
	if err := plugin.Wait(); err != nil {
		log.Fatal(err)
	}
}

// register is the plugin; it does not know where it runs.
func register(plugin sdk.Plugin) {
	plugin.AddPhaseHandler("auth", func(phase *sdk.PhaseHandler) {
		user := ""

		phase.RequestFilter(func(ctx *sdk.PhaseRequestFilter) {
			var payload struct{ Keys map[string]string }
			if err := ctx.DecodePayload(&payload); err != nil {
				ctx.Fail(err.Error())
			}
			user = payload.Keys[ctx.Request().Header("x-api-key")]
			if user == "" {
				ctx.Response().SetStatus(401).SetHeader("www-authenticate", "ApiKey")
				ctx.Response().BodyJSON(map[string]string{"error": "unauthorized"})
				ctx.End()
				return
			}
			ctx.Request().SetHeader("x-user", user)
			ctx.Next()
		})

		phase.ResponseFilter(func(ctx *sdk.PhaseResponseFilter) {
			if user != "" {
				ctx.Response().SetHeader("x-served-for", user)
			}
		})
	})
}
