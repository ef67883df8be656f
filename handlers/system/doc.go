// Package system is the RPC namespace `system` (alias `sysinfo`): facts and counters of the host, its logs, and a few
// actions. Everything is read from /proc and /etc, so in a container the values are those of the host.
//
// Host paths read: /proc, /etc/os-release, /etc/debian_version, /etc/passwd, /etc/group, Options.LogFile and its two
// siblings, Options.ScriptLogDir, paths that scaling metric definitions name.
// Host paths written: /etc/hostname, /etc/hosts, /usr/local/bin/scalr-scripting.<id>/ while a
// script runs, Options.ScriptLogDir.
// Commands: python<x>.<y> -V, /usr/local/scalarizr/hooks/auth-shutdown, systemctl reboot, scripts and scaling metrics.
//
// gopsutil is not used: every value here is one line of /proc, with units and columns that the wire fixes.
//
// Source: spec agent-core 4.1 to 4.4.
package system
