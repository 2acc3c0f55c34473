package entries

import (
	"context"
	"sync"
	"time"

	"github.com/AssetsArt/nylon/sdk/go/sdk"
)

// waiting has Go's counterparts of what Python's handlers do with asyncio.
func waiting(plugin sdk.Plugin) {
	request(plugin, "timeout-passes", func(ctx *sdk.PhaseRequestFilter) {
		limited, cancel := context.WithTimeout(ctx.Context(), 20*time.Second)
		defer cancel()
		if err := limited.Err(); err != nil {
			panic(err)
		}
		ctx.Next()
	})
	request(plugin, "timeout-strikes", func(ctx *sdk.PhaseRequestFilter) {
		limited, cancel := context.WithTimeout(ctx.Context(), 10*time.Millisecond)
		defer cancel()
		<-limited.Done()
		if limited.Err() == context.DeadlineExceeded {
			ctx.Response().BodyText("struck")
			ctx.End()
		}
	})
	request(plugin, "task-group", func(ctx *sdk.PhaseRequestFilter) {
		var group sync.WaitGroup
		results := make([]int, 5)
		for i := range results {
			group.Add(1)
			go func() {
				defer group.Done()
				results[i] = i
			}()
		}
		group.Wait()
		ctx.Response().BodyJSON(results)
		ctx.End()
	})
	request(plugin, "gather-at-gate", func(ctx *sdk.PhaseRequestFilter) {
		// Two waits at once, each of which holds a connection to the gate.
		spot := spotOf(ctx)
		var group sync.WaitGroup
		for range 2 {
			group.Add(1)
			go func() {
				defer group.Done()
				spot.waitAtGate()
			}()
		}
		group.Wait()
		ctx.Next()
	})
}
