// Package storetest is the suite that every store passes: the promises of core.Store and operation.Store, from what a
// single lookup returns to what is left after kill -9.
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, func(t testing.TB, dir string) storetest.Store { … })
//	}
package storetest
