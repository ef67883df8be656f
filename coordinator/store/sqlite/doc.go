// Package sqlite keeps everything in one SQLite file. Store implements core.Store and operation.Store and hands River its
// driver, so that wanted state, operations and queue entries are written in one transaction.
//
//	sqlite.go    Open, Close, the two pools
//	lock.go      one coordinator per file
//	migrate.go   our tables (migration/, by goose) and River's
//	tx.go        transactions, statements, how failures are classified
//	engine.go    operation.Store
//	queue.go     River's driver
//	cache.go     apps that were read before
//	<noun>.go    the statements of one noun
//
// One connection writes, a few others read: SQLite has one writer at a time, and waiting for a connection is fairer and
// cheaper than being refused by the database. A commit is on disk when it returns (WAL, synchronous=FULL).
package sqlite
