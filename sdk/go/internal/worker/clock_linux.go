package worker

import (
	"time"

	"golang.org/x/sys/unix"
)

// now is a point of the worker's clock, which goes on while the machine is suspended: that is the longest kind of standing
// still.
func now() moment {
	var at unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &at); err != nil {
		return moment(time.Since(started)) // a kernel without it
	}
	return moment(at.Nano())
}

var started = time.Now()
