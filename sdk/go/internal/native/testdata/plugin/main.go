// A plugin for the tests of the C boundary; testdata/host.c runs it.
package main

import (
	"crypto/sha256"
	"fmt"
	"os"

	"github.com/AssetsArt/nylon/sdk/go/sdk"
)

func main() {}

func init() {
	plugin := sdk.NewNylonPlugin()
	plugin.Initialize(func(config map[string]any) {
		if config["refuse"] == true {
			panic("refused")
		}
	})
	plugin.Shutdown(func() { fmt.Println("shut down"); os.Stdout.Sync() })

	reads := func(ctx *sdk.PhaseRequestFilter) {
		_ = ctx.Request().Path()
		_ = ctx.Request().Header("x-a")
		ctx.Next()
	}
	plugin.AddPhaseHandler("reads", func(phase *sdk.PhaseHandler) { phase.RequestFilter(reads) })
	plugin.AddPhaseHandler("reads-inline", func(phase *sdk.PhaseHandler) { phase.RequestFilter(reads, sdk.Inline) })

	plugin.AddPhaseHandler("values", func(phase *sdk.PhaseHandler) {
		phase.RequestFilter(func(ctx *sdk.PhaseRequestFilter) {
			request := ctx.Request()
			request.SetHeader("X-Seen", request.Path()+" "+request.Header("X-A")).SetPath("/new")
			request.SetBody([]byte(fmt.Sprintf("%q %q", request.Header("missing"), request.Query())))
			ctx.Response().SetStatus(418).RemoveHeader("X-B")
			ctx.Next()
		}, sdk.WithBody)
		phase.ResponseBodyFilter(func(ctx *sdk.PhaseResponseBodyFilter) {
			body := ctx.Response().ReadBody()
			ctx.Response().BodyRaw([]byte(fmt.Sprintf("%d %x", len(body), sha256.Sum256(body))))
		})
	})
	body := func(ctx *sdk.PhaseRequestFilter) {
		ctx.Request().SetBody(append([]byte("was: "), ctx.Request().Body()...))
		ctx.Next()
	}
	plugin.AddPhaseHandler("body", func(phase *sdk.PhaseHandler) { phase.RequestFilter(body) })
	plugin.AddPhaseHandler("body-inline", func(phase *sdk.PhaseHandler) { phase.RequestFilter(body, sdk.Inline) })
	plugin.AddPhaseHandler("panics", func(phase *sdk.PhaseHandler) {
		phase.RequestFilter(func(ctx *sdk.PhaseRequestFilter) { panic("boom") })
		phase.ResponseFilter(func(ctx *sdk.PhaseResponseFilter) { panic("boom inline") }, sdk.Inline)
	})
}
