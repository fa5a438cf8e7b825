package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// dieWithParent asks the kernel to kill this process when the one that started it is gone, however
// that happened. A cluster without a PID namespace has no other way to leave nothing behind.
func dieWithParent() {
	if os.Getenv("HYPERKUBE_DIE_WITH_PARENT") == "" {
		return
	}
	_ = unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0)
}
