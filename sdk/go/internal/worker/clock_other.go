//go:build !linux

package worker

import "time"

// sinceBoot is a clock in nanoseconds.
func sinceBoot() int64 { return int64(time.Since(started)) }
