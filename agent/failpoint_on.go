//go:build failpoint

package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// failpointFile says at which step boundary of a change of storage this process is killed with SIGKILL: the number of those to
// pass, that one included. It counts down, and is gone when the process is.
const failpointFile = "/run/reeve-failpoint"

// failpoint kills this process as failpointFile says. End-to-end tests build the program with the tag failpoint to prove that a
// host and its cloud survive it. It panics when the file cannot be written: a test that counts must not go on.
func failpoint() func(step string) {
	return func(step string) {
		text, err := os.ReadFile(failpointFile)
		if err != nil {
			return
		}
		left, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err == nil && left > 1 {
			err = os.WriteFile(failpointFile, []byte(strconv.Itoa(left-1)), 0o600)
		} else if err == nil {
			err = os.Remove(failpointFile)
		}
		if err != nil {
			panic(err)
		}
		if left > 1 {
			return
		}
		fmt.Fprintln(os.Stderr, "killed at a step boundary:", step)
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // the signal is on its way
	}
}
