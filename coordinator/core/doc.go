// Package core holds what Reeve is about: accounts, nodes, apps, routes, services, volumes and the rules over them. The
// four dialects translate to it, and it drives clouds and agents through interfaces it declares here (Store, Cloud,
// Agents). It knows no HTTP, no SQL and no provider.
//
// A change that takes time writes wanted state and an operation in one transaction and returns at once; the steps that
// carry it out are in the files named *_steps.go.
package core
