// Package nginx manages nginx as a reverse proxy, and its service: the namespace nginx, alias www (spec agent-web 3).
// Tested with nginx 1.22 of Debian 12.
//
// Methods: make_proxy, remove_proxy, recreate_proxying, reconfigure, add_server, remove_server, add_server_to_role,
// remove_server_from_role, remove_server_from_all_backends, enable_ssl, disable_ssl, configtest, start_service,
// stop_service, restart_service, reload_service, get_service_status.
//
// Files of the host it writes, in nginx's directory (/etc/nginx):
//
//	app-servers.include        upstreams
//	proxies.include            servers
//	error-pages.include        locations of the error pages; created when absent, then the operator's
//	nginx.conf                 gets the two includes at the end of http, once, with the first change a caller asks for;
//	                           proxies come first, and an older agent's includes are exchanged
//	reeve-status.include       a server on loopback that counts requests (stub_status), with its include at the end of http:
//	                           comes with a change while the file is not there and port 9811 is free
//	.reeve-staging/            a change that is being tested; empty or absent otherwise
//	.nginx.conf.reeve-staged   its main configuration, for the time of the test
//
// and in the private directory (/etc/reeve/private.d, or /etc/scalr/private.d where an older agent was replaced), which must
// be on the same filesystem:
//
//	nginx-backends.json         which destinations are behind each upstream
//
// besides certificates in its keys/, shared with Apache (those that come with make_proxy, keys/https_route-*, are removed when
// no proxy names them), and error pages in /usr/share/nginx/html.
//
// Where it differs from the old agent, besides what spec agent-web marks [D]: the servers of a role are looked up only if
// the agent was given a source (Options.Roles); reconfigure without a list is refused, since the mode without proxies is not
// offered; no .bak files are left, since a change that fails or is interrupted is taken back whole; gzip settings of
// nginx.conf are the operator's; a placeholder server is marked down.
//
// The two include files decide what is served. The table of backends only tells which role a server line belongs to and
// what the next one gets; every call first makes it fit the files, and what it lost is read back from the names of upstreams
// (see backendTable). It changes in one step with them.
//
// A call parses the files, changes the blocks it is about, leaves all others as their bytes are, has nginx test the
// result beside the live configuration, and only then moves it into place. proxies.include names upstreams of
// app-servers.include, so the files move in an order in which every name exists at every moment, for those too who read one
// file before a change and the other after it (see orderSteps). An agent that is killed in between leaves a journal, and Start
// takes the unconfirmed change back.
package nginx
