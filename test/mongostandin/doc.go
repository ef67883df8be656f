// Package mongostandin is a stand-in for a MongoDB server, for tests: Debian has none. It speaks as much of the wire
// (OP_MSG, and OP_QUERY for a driver's first hello) as the official drivers need to log in with SCRAM-SHA-1 or SCRAM-SHA-256,
// to manage users, and to insert, find and delete documents by equality. It keeps the rules that the handlers rely on: without a
// login only a client on the same machine may make the very first user, a user sees its own database, a secondary refuses
// writes. It is not a database.
//
// The command below mongod/ runs it as a host's mongod.service would: mongod --config FILE.
package mongostandin
