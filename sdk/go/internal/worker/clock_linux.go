package worker

import (
	"time"

	"golang.org/x/sys/unix"
)

// sinceBoot is a clock in nanoseconds that goes on while the machine is suspended.
func sinceBoot() int64 {
	var at unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &at); err != nil {
		return int64(time.Since(started)) // a kernel without it
	}
	return at.Nano()
}
