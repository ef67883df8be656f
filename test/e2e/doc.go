// Package e2e drives the whole of Reeve from outside: the built programs, real booted hosts, stock clients. Its tests have
// the build tag e2e, need root, and are run by `make test`.
package e2e
