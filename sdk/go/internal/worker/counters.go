package worker

import (
	"sync/atomic"
	"time"

	"github.com/AssetsArt/nylon/sdk/go/internal/wire"
)

// counters are since the start, for the micro service's STATS.
type counters struct {
	calls, failed, busy, duplicates, malformed, probes, repeated, claims, denied, stalls, dropped, late atomic.Uint64

	nanoseconds atomic.Int64
	lastError   atomic.Pointer[string]
}

func (c *counters) answered(failure *wire.Failure, came time.Time) {
	c.nanoseconds.Add(int64(time.Since(came)))
	if failure != nil {
		c.failed.Add(1)
		text := failure.Error()
		c.lastError.Store(&text)
	}
}

func (c *counters) all() map[string]uint64 {
	return map[string]uint64{
		"calls": c.calls.Load(), "failed": c.failed.Load(), "busy": c.busy.Load(), "duplicates": c.duplicates.Load(),
		"malformed": c.malformed.Load(), "probes": c.probes.Load(), "repeated": c.repeated.Load(), "claims": c.claims.Load(),
		"denied": c.denied.Load(), "stalls": c.stalls.Load(), "dropped": c.dropped.Load(), "late": c.late.Load(),
	}
}
