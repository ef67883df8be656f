// Package orchestrator looks at the Orchestrator API from outside: it replays the exchanges of the API document byte for
// byte (testdata/document.txtar), also with curl, and checks the sixty black-box statements of spec orchestrator 6.
//
// Run works against any coordinator that fulfils the preconditions of Target; this package's own tests run it against one
// wired as production is, on a SQLite file, with the dummy driver.
package orchestrator
