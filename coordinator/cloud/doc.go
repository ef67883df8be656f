// Package cloud holds what all cloud drivers share: the set of configured clouds, and in cloudtest the suite that every
// driver passes. The contract itself is core.Cloud, beside its consumer. Each driver is a package below this one.
package cloud
