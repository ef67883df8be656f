// Package orchestrator speaks the Orchestrator API v1 (spec orchestrator): libcloud's view of configured clouds over REST.
//
// Base path: /api/v1; /api/v2 has the read-only lists with the same answers. The cloud is an optional last path segment,
// "default" when absent.
//
// Authentication: callers without a token reach clouds whose CloudInfo says Anonymous, as fake_driver does. For the rest a
// token comes from POST /api/v1/auth and is sent, first found wins, as member auth_token of the body, query parameter
// auth_token, header X-Auth-Token, or Authorization: Bearer. A token that is sent must be valid, also where none is needed.
//
// Answers: one JSON object, keys sorted at every level, indented by two blanks, no final newline, Content-Type exactly
// application/json. Errors have the five keys of errorBody; only a path that no route matches has two.
//
// routes.go is the one table of routes, errors.go the one table of failures, DIVERGENCES.md what differs and why.
package orchestrator
