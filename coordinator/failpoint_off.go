//go:build !failpoint

package main

import "github.com/reeve-paas/reeve/coordinator/operation"

// failpoint is nothing in a program for production; see failpoint_on.go.
func failpoint() func(operation.Point) { return nil }
