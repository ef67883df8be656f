// Package apache manages Apache's name-based virtual hosts and its service: the namespace apache, alias app
// (spec agent-web 2). Tested with httpd 2.4 of Debian 12, laid out as Debian lays it out and as Red Hat does.
//
// Methods: create_vhost, update_vhost, delete_vhosts, reconfigure, list_served_virtual_hosts, set_default_ssl_certificate,
// get_webserver_statistics, enable_mod_ssl, configtest, start_service, stop_service, restart_service, reload_service,
// get_service_status. Not offered: disable_mod_ssl, which never worked in the old agent either.
//
// Files of the host it writes, below the private directory (/etc/reeve/private.d, or /etc/scalr/private.d where an older
// agent was replaced):
//
//	vhosts/<hostname>-<port>.vhost.conf   one virtual host
//	keys/https_<id>.crt, .key, -ca.crt    certificates, shared with nginx
//	.vhosts-staging/                      a change that is being tested; empty or absent otherwise
//
// and zz-reeve.conf in Apache's directory of sites, made by the first change a caller asks for, which includes the virtual
// hosts after everybody else's, and, only when set_default_ssl_certificate is called, the certificate directives of the packaged TLS site.
//
// A change is rendered, staged and tested by Apache itself before anything that Apache reads is touched: the test gets a
// copy of the main configuration that includes the staged files in place of the live ones. Then the files move into place
// and Apache reloads. If it does not survive that, the old files return and so does Apache. An agent that is killed in
// between leaves a journal, and Start takes the unconfirmed change back.
//
// Where it differs from the old agent, besides what spec agent-web marks [D]: the packaged TLS site (default-ssl) is
// touched only by set_default_ssl_certificate; allow_port opens no firewall, since the agent manages none; a failed reconfigure is always taken back, also with
// rollback_on_error false; include of the virtual hosts is a file of our own, where the old one edited apache2.conf.
//
// On Red Hat the packaged plain site is the main server and no virtual host. httpd then answers unknown names with the first
// virtual host of a port, which may be one of ours.
//
// A virtual host on a port that nobody else declares carries its own Listen, in a guard that lets several files share the
// port. So each file is complete by itself: there is no second file that a kill could leave out of step.
package apache
