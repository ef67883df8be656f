// Package nginx manages nginx as a reverse proxy, and its service: the namespace nginx, alias www (spec agent-web 3).
// Tested with nginx 1.22 of Debian 12.
//
// Methods: make_proxy, remove_proxy, add_server, remove_server, enable_ssl, disable_ssl, configtest, start_service,
// stop_service, restart_service, reload_service, get_service_status.
//
// Files of the host it writes, in nginx's directory (/etc/nginx):
//
//	app-servers.include        upstreams
//	proxies.include            servers
//	error-pages.include        locations of the error pages; created when absent, then the operator's
//	nginx.conf                 gets the two includes at the end of http, once
//	.reeve-staging/            a change that is being tested; empty or absent otherwise
//	.nginx.conf.reeve-staged   its main configuration, for the time of the test
//
// besides certificates in <private directory>/keys, shared with Apache, and error pages in /usr/share/nginx/html.
//
// Where it differs from the old agent, besides what spec agent-web marks [D]: there is no table of backends besides the
// files, so the calls by role are not offered yet; no .bak files are left, since a change that fails or is interrupted is
// taken back whole; gzip settings of nginx.conf are the operator's; a placeholder server is marked down.
//
// The two include files are the only truth: there is no table beside them that could differ. A call parses them, changes
// the blocks it is about, leaves all others as their bytes are, has nginx test the result beside the live configuration,
// and only then moves it into place. proxies.include names upstreams of app-servers.include, so the files move in an
// order in which every name exists at every moment (see orderSteps). An agent that is killed in between leaves a
// journal, and Start takes the unconfirmed change back.
package nginx
