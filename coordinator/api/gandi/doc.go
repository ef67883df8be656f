// Package gandi speaks the XML-RPC API of Gandi Simple Hosting, so that stock XML-RPC clients and Gandi's own command-line
// client manage Reeve's apps as PaaS instances.
//
// Base path /xmlrpc/, also served at /xmlrpc, /xmlrpc/2.0/ and /RPC2. Every call is a POST and every reply has HTTP status
// 200, faults too: clients report other statuses as transport errors and lose the fault. The API key is the first parameter
// of every method except system.*. A failure is a fault of a number (object and cause) and one line of text; errors.go is
// the table.
//
// What this package calls an instance is a core.App, a vhost is a core.Route, a server a core.Node, a datacenter a
// core.Location. Every mutating call answers with operations at once; operation.info tells how they go on:
//
//	paas.create ──> BILL ──> WAIT ──> RUN ──> DONE
//	                           │       └────> ERROR   (last_error says why)
//	                           └────────────> CANCEL  (operation.cancel)
//
// To read: routes.go is the table of methods, dialect.go the transport, call.go what every call goes through, query.go the
// filters that all lists share, pages.go what answers a list that did not change; then one file per noun. The wire format
// itself is package xmlrpc below this one. Where we differ from the original on purpose: DIVERGENCES.md.
package gandi
