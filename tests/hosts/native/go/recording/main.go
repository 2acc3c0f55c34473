// A worker that writes down what it begins: recording URL GROUP LOG. It is the Go SDK's side of the duties that every worker has; see
// tests/failure/test_foreign_worker_duties.py.
package main

import (
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"time"

	"github.com/AssetsArt/nylon/sdk/go/sdk"
)

func main() {
	url, group, began := os.Args[1], os.Args[2], os.Args[3]
	out, err := os.OpenFile(began, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		log.Fatal(err)
	}
	gate := began + ".open"
	// The first line of standard output says that it serves. The tests leave their sessions open, which a drain waits for.
	logger := slog.New(slog.NewTextHandler(io.MultiWriter(os.Stdout, os.Stderr), nil))
	plugin, err := sdk.NewNatsPlugin(url, group, sdk.WithDrainTimeout(300*time.Millisecond), sdk.WithLogger(logger))
	if err != nil {
		log.Fatal(err)
	}
	step := func(ctx *sdk.PhaseRequestFilter) {
		fmt.Fprintf(out, "%s %d\n", ctx.Request().Path(), ctx.Attempt())
		ctx.Next()
	}
	plugin.AddPhaseHandler("step", func(phase *sdk.PhaseHandler) { phase.RequestFilter(step) })
	plugin.AddPhaseHandler("held", func(phase *sdk.PhaseHandler) {
		phase.RequestFilter(func(ctx *sdk.PhaseRequestFilter) {
			step(ctx)
			for !exists(gate) {
				time.Sleep(2 * time.Millisecond)
			}
		})
	})
	if err := plugin.Wait(); err != nil {
		log.Fatal(err)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
