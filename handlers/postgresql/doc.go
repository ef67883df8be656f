// Package postgresql drives the host's PostgreSQL server, versions 13 to 17: namespace postgresql.
//
//	create_database drop_database list_databases        database.go, our own
//	create_user drop_user list_users                    user.go, our own
//	reset_password                                      reset.go
//	replication_status                                  replication.go
//	create_backup                                       backup.go
//	create_databundle grow_volume                       volume.go
//	start_service stop_service restart_service reload_service get_service_status    service.go
//
// The agent asks the server with its own psql, run as the user postgres over the unix socket, with the statements on
// standard input. That is the login every package allows, a driver in a process of root could not use it, and it costs the
// agent's program nothing.
//
// Passwords never reach the server: it is sent their SCRAM-SHA-256 verifier, so no log, process list or dump of statements
// can show one. Names are checked against strict patterns before they become part of a statement.
//
// A database made here belongs to a role of its own that nobody can log in as, "reeve_db_<name>". Its users are members and
// take that role when they connect to it: they see each other's tables, and dropping one of them leaves the tables. Nobody
// else may connect to it. Users are members of reeve_users, and of reeve_remote when they may come from other machines;
// that is what the lines in pg_hba.conf go by (access.go), so they need not change with every user.
//
// Host paths touched: pg_hba.conf, conf.d/90-reeve.conf beside postgresql.conf, and an include_dir line in postgresql.conf
// where it has none. They are changed through .reeve-staging beside them, and put back at the next start when the agent
// was killed on the way. pg_hba.conf cannot be tested as a copy: the server's own view of the file in place,
// pg_hba_file_rules, is asked before it is told to read it.
//
// A backup is pg_dump's plain text, made as postgres where Scalarizr used a role of its own for it; it is restored with psql
// into an empty database, once the roles it names are there. Backups lie below the agent's backup_dir.
//
// Tested with PostgreSQL 15.
package postgresql
