// Package mysql drives the host's MariaDB server: namespaces mysql, mysql2 and mariadb.
//
//	create_database drop_database list_databases            one file: database.go
//	dump_database load_dump                                 dump.go
//	create_user drop_user list_users reset_password         user.go
//	start_service stop_service restart_service reload_service get_service_status    service.go
//
// The agent logs in as root over the server's unix socket, which MariaDB packages of Debian 12 (10.11) and RHEL 9 allow
// by default; the paths come from host.Layout. It opens a connection per call and keeps none.
//
// Passwords never reach the server: it is sent their mysql_native_password hash. So no quoting rule, SQL mode, general
// log, binary log or process list can show or change one. The price is that a server which insists on judging passwords
// itself (strict_password_validation with a validation plug-in loaded) refuses the statement.
//
// Names are checked against strict patterns before they become part of a statement, and the wildcards of GRANT are
// escaped, so that a grant on "a_b" is not one on "axb".
//
// A user who may come from other machines makes the server listen on every address (access.go): a file of ours among its
// drop-ins, tested by the server's own program, and a restart, which is undone when anything fails.
//
// A dump that is loaded is its owner's text. A user of the server made for it, who has that database and nothing else, runs
// it through the server's own client, which runs as nobody.
//
// Host paths touched: mysql in the agent's state directory, zz-reeve.cnf and .reeve-staging in the directory of drop-ins. Tested with MariaDB 10.11.
package mysql
