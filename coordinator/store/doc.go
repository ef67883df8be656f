// Package store holds what the stores share; each database has its own package below it, and storetest is the suite that
// every one of them passes.
//
//	store/sqlite     the default: one file, one coordinator
//	store/storetest  the promises of core.Store and operation.Store, as tests
//
// SQL lives here and nowhere else. A store classifies its failures (NotFound, Exists, Unavailable, Internal) and decides
// nothing: rules are core's.
//
// Rules for the SQL, so that one database can follow the other: one file per noun with the same functions, portable
// statements where they exist, times as integer microseconds UTC (0 is the zero time), optional references as NULL,
// secrets sealed before they reach a statement.
package store
