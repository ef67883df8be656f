// Package static is the cloud of machines that already exist. A machine is enrolled and not made: over SSH, with the
// agent's package, or by its own administrator with a one-time token (Adopt). Destroying a node un-enrols its machine: the
// agent, its key and our marker go, everything else stays, and the machine is never switched off.
//
// # What is known of a machine
//
// <state>/machines.json lists all machines, those of the configuration and those added by hand, with how to reach them and
// the key of the node each one is at present. Short commands beside a running coordinator change it too: a lock file guards
// it, another one per machine guards work on that machine, and both end with the process that holds them.
//
// # Enrolling over SSH
//
//	connect     the host key is pinned; a machine that shows another one is not talked to
//	probe       os-release, architecture, package tool, systemd, root or sudo; the marker
//	files       marker and bootstrap files with the agent's key, through standard input, mode 0600
//	package     uploaded when another one is installed, proven by its SHA-256, then dpkg or rpm
//	start       enabled, restarted, active
//
// The record says that the machine is taken before the machine is touched, and the marker is the first file there, so that
// whatever a kill leaves is found by DestroyNode. Every step may be repeated. /etc/reeve/enrolled, the marker, holds who
// enrolled the machine: one that another coordinator enrolled is refused.
//
// Scripts that run on machines are constants; what differs goes through standard input.
package static
