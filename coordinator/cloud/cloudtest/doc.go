// Package cloudtest is the contract of core.Cloud as a test suite. A driver is done when it passes:
//
//	func TestDriver(t *testing.T) {
//		cloudtest.Run(t, func(t *testing.T) core.Cloud { return fake.New() })
//	}
//
// What a driver declares in its CloudInfo decides which parts run; the suite fails when declaration and methods differ.
package cloudtest
