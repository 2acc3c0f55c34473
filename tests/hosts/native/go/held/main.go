// A worker whose handlers say that they run, and go on when they are told: by files in a folder. It is tests/failure/held.py in Go.
//
//	held NATS-URL NAME FOLDER [GROUP]
package main

import (
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/AssetsArt/nylon/sdk/go/sdk"
)

var name, folder = os.Args[2], os.Args[3]

func say(what string) {
	if err := os.WriteFile(filepath.Join(folder, what+"."+name), nil, 0o600); err != nil {
		panic(err)
	}
}

func hold(ctx *sdk.PhaseRequestFilter) {
	say(fmt.Sprintf("ran-%d", ctx.Attempt()))
	for {
		if _, err := os.Stat(filepath.Join(folder, "go")); err == nil {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func main() {
	group := append(os.Args, "g")[4]
	plugin, err := sdk.NewNatsPlugin(os.Args[1], group)
	if err != nil {
		log.Fatal(err)
	}
	plugin.AddPhaseHandler("held", func(phase *sdk.PhaseHandler) {
		phase.RequestFilter(func(ctx *sdk.PhaseRequestFilter) {
			hold(ctx)
			ctx.Response().BodyJSON(map[string]any{"worker": name, "attempt": ctx.Attempt()})
			ctx.End()
		})
	})
	plugin.AddPhaseHandler("session", func(phase *sdk.PhaseHandler) {
		seen := ""
		phase.RequestFilter(func(ctx *sdk.PhaseRequestFilter) {
			say("began")
			seen = name
			ctx.Next()
		})
		phase.ResponseFilter(func(ctx *sdk.PhaseResponseFilter) { ctx.Response().SetHeader("x-seen", seen) })
	})
	plugin.AddPhaseHandler("logged", func(phase *sdk.PhaseHandler) {
		phase.RequestFilter(func(ctx *sdk.PhaseRequestFilter) { ctx.Next() })
		phase.Logging(func(*sdk.PhaseLogging) { say("logged") })
	})
	if err := plugin.Wait(); err != nil {
		log.Fatal(err)
	}
}
