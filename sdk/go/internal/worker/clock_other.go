//go:build !linux

package worker

import "time"

// now is a point of the worker's clock.
func now() moment { return moment(time.Since(started)) + 1 }

var started = time.Now()
