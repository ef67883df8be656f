// Package tsuru answers the classic tsuru API (0.6/0.7), and the versioned paths of the modern client for the same functions,
// over core. Spec: tsuru.
//
//	base path  /, so everything that no other dialect answers; a leading /1.x is taken off and remembered
//	auth       Authorization: bearer <token>; of one or two words the last one is the token. Tokens of users last seven days;
//	           tokens of apps are good on the routes marked anyToken, for their own app
//	bodies     JSON, YAML or raw text as the route expects, whatever the Content-Type says; forms where that fails
//	answers    JSON with both spellings of keys; text; streams of text that end with "\nOK\n" (deploy) or "\nOK!\n"
//	           (run, platforms). On versioned paths streams are JSON objects, one per line, but for deploy
//	errors     plain text and one newline, never JSON. Unknown paths and wrong methods are 404
//	order      route, 401, then 404 or 403 on the app, then the app's lock (409), then the handler
//
// Where a documented answer and the one that clients of the time need differ, the Accept header decides: stock command line
// clients send none (wantsSeed).
package tsuru
