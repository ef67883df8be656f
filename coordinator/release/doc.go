// Package release keeps the archives of sources and releases, and lends them to hosts over HTTP.
//
// A file is stored under its SHA-256, written beside and renamed when it is whole and on disk. Hosts reach it at
// /agent/blob/<what> with a token that is good for one file, one direction and a short time; the token is a MAC, so nothing
// has to be remembered about it and it survives a restart.
//
//	<dir>/<first two digits>/<sha256>   the files
//	<dir>/accepted/<name>               the sum of what a host wrote under a name
//	<dir>/tmp/                          files that are not whole; emptied at the start
package release
