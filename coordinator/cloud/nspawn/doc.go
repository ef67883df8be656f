// Package nspawn is the embedded cloud: this Linux host is the provider, and its nodes are systemd-nspawn containers that
// boot a full Debian with a systemd, an IP address and a disk of their own. It is the driver behind the demo, the end-to-end
// tests and single-host installations; what works on it works on bigger clouds.
//
// It is no security boundary: without user namespaces a node's root is the host's root as far as the kernel cares. Run
// strangers' code on virtual machines.
//
// # What a node consists of
//
//	<state>/nodes/<id>/state.json   what the driver wants; the first thing written and the last removed
//	<state>/nodes/<id>/disk.img     sparse ext4 with the node's own files (overlay upper); its size is the disk limit
//	<state>/nodes/<id>/dev/         device nodes of attached volumes, seen inside as /dev/reeve
//	a supervisor process            mounts, starts nspawn, starts it again after a reboot (supervise.go)
//	a cgroup <app>/<app>-<id>       in every hierarchy; carries the limits
//	a veth pair                     made and removed by nspawn, on the instance's bridge
//
// # Who does what
//
// The driver, in the coordinator, writes records and decides. The supervisor, one small process per node, is the only one
// that mounts and that starts nspawn. It lives in a mount namespace of its own: when the last process of a node is gone,
// by whatever violence, the kernel itself unmounts the node's root and disk and frees the loop device. It reports every
// change of state over a socket, to the coordinator that started it and to any later one, so there is one way of learning
// states and no polling. Nodes therefore run, and reboot, whether or not a coordinator does.
//
//	            create                READY=1               reboot (exit 133, or our SIGINT)
//	(record) ----------> pending ----------------> running <--------------------> rebooting
//	                        |                       |   ^
//	                        | exit != 0, no READY   |   | start
//	                        v                       v   |
//	                      error        stopping -> stopped            destroy, from any state: stopping -> gone
//
// A supervisor that is killed is replaced by the driver; the new one adopts the running node. Locks decide who may do
// what: <state>/lock is the coordinator's, <node>/supervisor.lock the supervisor's. The kernel gives both back.
//
// # Binaries
//
// A binary that uses the driver must call Main first in main, because supervisors are started from that same binary:
//
//	if handled, code := nspawn.Main(os.Args); handled {
//		os.Exit(code)
//	}
//
// When a coordinator runs as a systemd service, its unit needs KillMode=process and Delegate=yes, or a restart of it takes the nodes along.
package nspawn
