// Package director speaks the API of the ConPaaS Director, so that cpsclient, cps-tools and ConPaaS managers work against
// Reeve. It has a listener of its own, by default :5555, TLS only, where callers may show a certificate.
//
// Paths are at the root. Parameters come from the query, an urlencoded or a multipart body, and the query wins. Callers are
// known by certificates of the Director's authority, whose role decides what they may call: users, and managers for their own
// service; a few endpoints take user name and password. Failures of what was asked have status 200 and a body that says so,
// because old clients take any other status for a Director that is not there: an error dictionary or a bare false, depending
// on the endpoint. Callers of 2.x are told by their parameter service_id and get errors in their own shape; errors.go is the
// table.
//
// What this package calls a service is a core.Service; its sid is the number of the app. An application is a
// core.Application. What a service's manager would answer in its own machine is answered here, at an address that each
// service has for itself (manager.go): requests do not say which service they mean, and the certificate must be one of the
// service's owner before the first byte of a request.
//
//	/start ──> INIT ──startup──> PROLOGUE ──> RUNNING <──add_nodes, …──> ADAPTING
//	                               │             └──shutdown──> EPILOGUE ──> STOPPED ──startup──> …
//	                               └──> STOPPED (the reason is in getLog)
//
// Every answer closes its connection: ConPaaS' own client reads to the end of the stream.
//
// To read: routes.go is the table of the Director, manager_routes.go that of managers, call.go what every call goes through;
// then one file per noun. Where we differ from the original on purpose: DIVERGENCES.md.
package director
