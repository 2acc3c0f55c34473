// The measured handler on a worker in Go: it reads two headers and sets one, as handlers.py does.
//
//	go URL GROUP CONCURRENCY
package main

import (
	"log"
	"os"
	"strconv"

	"github.com/AssetsArt/nylon/sdk/go/sdk"
)

const value = "0123456789abcdef0123456789abcdef0"

func main() {
	concurrency, err := strconv.Atoi(os.Args[3])
	if err != nil {
		log.Fatal(err)
	}
	plugin, err := sdk.NewNatsPlugin(os.Args[1], os.Args[2], sdk.WithConcurrency(concurrency))
	if err != nil {
		log.Fatal(err)
	}
	plugin.AddPhaseHandler("go", func(phase *sdk.PhaseHandler) {
		phase.RequestFilter(func(ctx *sdk.PhaseRequestFilter) {
			request := ctx.Request()
			if request.Header("authorization") == "" || request.Header("x-request-id") == "" {
				ctx.Response().SetStatus(401)
				ctx.End()
				return
			}
			request.SetHeader("x-user", value)
			ctx.Next()
		})
	})
	if err := plugin.Wait(); err != nil {
		log.Fatal(err)
	}
}
