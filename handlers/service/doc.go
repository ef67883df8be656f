// Package service is the RPC namespace `service`: one call that brings the web services of this host to a wanted
// configuration.
//
// Methods: reconfigure. The presets of the old namespace (get_preset, set_preset) are not offered: which files and options
// they may touch is defined by a manifest of the coordinator that does not exist yet, and a method that is not whole is
// worse than one that answers -32601.
//
// The package touches no path of the host itself; it calls the reconfigure of the services that agent/wire.go hands it.
package service
