// Package mongodb drives the host's MongoDB server: namespace mongodb.
//
//	create_database drop_database list_databases        database.go, our own
//	create_user drop_user list_users reset_password     user.go; reset_password is Scalarizr's, the rest our own
//	enable_mms disable_mms                              mms.go
//	start_service stop_service restart_service reload_service get_service_status    service.go
//
// The agent speaks to mongod on this host with the official driver: at the port that /etc/mongodb.shardsrv.conf tells
// (Scalarizr's replica member, 27018), or /etc/mongod.conf (27017). On a secondary, users are changed on the primary that it
// names. It logs in as scalr, the administrator that reset_password makes; the password is kept (credential.go). Before
// there is one, a server without any user lets the first one be made from this host.
//
// A user that may come from other machines makes mongod listen on every address (access.go). That is done together with
// turning authorization on: a server that asks nobody for a password must not be reached by anybody.
//
// Host paths touched: /etc/mongod.conf, /etc/.reeve-mongodb (while it is changed), <state dir>/mongodb/credential.json, the
// password line of /etc/scalr/private.d/mongodb.ini where that exists, /etc/mongodb-mms/automation-agent.config.
//
// Debian has no MongoDB server: tested with test/mongostandin.
package mongodb
