//go:build failpoint

package main

import (
	"fmt"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"

	"github.com/reeve-paas/reeve/coordinator/operation"
)

// failpoint kills this process with SIGKILL at the n-th step boundary after its start, n from REEVE_FAILPOINT, and writes
// a line per boundary it passes to the file named by REEVE_FAILPOINT_LOG, before it kills. End-to-end tests build the
// program with the tag failpoint to prove that operations survive it.
func failpoint() func(operation.Point) {
	n, err := strconv.ParseInt(os.Getenv("REEVE_FAILPOINT"), 10, 64)
	if err != nil {
		n = 0 // boundaries count from 1
	}
	note := failpointLog(os.Getenv("REEVE_FAILPOINT_LOG"))
	var passed atomic.Int64
	return func(p operation.Point) {
		count := passed.Add(1)
		note(count, p)
		if count == n {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // the signal is on its way
		}
	}
}

// failpointLog appends each boundary to a file in one write, so that lines of operations side by side stay whole. It
// panics when it cannot: a test that counts lines must not go on.
func failpointLog(path string) func(int64, operation.Point) {
	if path == "" {
		return func(int64, operation.Point) {}
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		panic(err)
	}
	return func(count int64, p operation.Point) {
		if _, err := fmt.Fprintln(f, count, p.Where, p.Kind, p.Step); err != nil {
			panic(err)
		}
	}
}
