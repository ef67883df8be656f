//go:build failpoint

package main

import (
	"os"
	"strconv"
	"sync/atomic"
	"syscall"

	"github.com/reeve-paas/reeve/coordinator/operation"
)

// failpoint kills this process with SIGKILL at the n-th step boundary after its start, n from REEVE_FAILPOINT. End-to-end
// tests build the program with the tag failpoint to prove that operations survive it.
func failpoint() func(operation.Point) {
	n, err := strconv.ParseInt(os.Getenv("REEVE_FAILPOINT"), 10, 64)
	if err != nil {
		return nil
	}
	var passed atomic.Int64
	return func(operation.Point) {
		if passed.Add(1) == n {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // the signal is on its way
		}
	}
}
