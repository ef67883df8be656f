//go:build !failpoint

package main

// failpoint is nothing in a program for production; see failpoint_on.go.
func failpoint() func(step string) { return nil }
