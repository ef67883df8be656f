// Package deploy puts apps and volumes on this host: namespace deploy, which is our own.
//
//	mount_volume unmount_volume              volume.go, bind.go, fstab.go
//	create_app delete_app list_apps          app.go, account.go, login.go, env.go
//	put_release switch_release               release.go, unpack.go
//	start_script stop_script list_scripts script_log    script.go
//	build_release                            build.go, manifest.go, blob.go
//	fetch_release                            fetch.go, blob.go, unpack.go
//	start_unit stop_unit list_units          unit.go, unit_render.go, unit_check.go, unit_watch.go, unit_drain.go, words.go
//	drain_router                             unit_drain.go
//	unit_log                                 unit_log.go
//	run_command                              run.go
//
// A platform (php, python, …) is one folder below platform/; platform.go says what it holds.
//
// # Where an app lies
//
//	<base>/<app>/                 root, 0755: the wall around the SFTP login
//	<base>/<app>/releases/<n>/    the app's; the web server's group may read it
//	<base>/<app>/current          -> releases/<n>, replaced in one step
//	<base>/<app>/current/htdocs   document root, the same path over all releases
//	<base>/<app>/shared/          kept over releases; the web server may write here, and only here
//	<base>/<app>/logs/            root; the app may read it
//	<base>/<app>/cache/           what builds download; only builds see it
//
// The app's files belong to the Unix user app-<app>. PHP runs inside Apache, as Apache's user. A login such as "2316" is a
// second name, with a password, of the same Unix user; sshd confines it to <base>/<app> and to SFTP. useradd refuses
// names that are numbers, so the account files are edited here: under lckpwdf's lock, line by line, one rename per file.
//
// # Units
//
// A unit is a copy of the app: one service of systemd per process, in a slice with the unit's limits,
//
//	reeve.slice
//	  reeve-<app, dashes as _>_<unit>.slice          MemoryMax, MemorySwapMax, CPUQuota, TasksMax
//	    reeve-<app>-<unit>-<process>.service         User=app-<app>, sandboxed; EnvironmentFile=<state>/deploy/units/….env
//
// with a record <state>/deploy/units/<app>.<unit>.json that is there before anything else of it and until nothing is. What
// runs sees its release as /home/application/current, whatever number it has and wherever the host keeps it, so that paths
// which a build wrote down stay right. Systemd starts a process that ends again after a second; when it gives up after
// five times in a minute, the agent goes on with pauses that grow from 10 s to 5 min (systemd could do that from 254 on).
//
// A command that ends (a hook, run_command) is a transient unit bound to the agent's own: it ends when the agent does,
// however that ends. Its environment is a file too, named as the unit, by which the next agent finds what was left.
//
// # Volumes
//
// fstab is the record of what is mounted: our lines carry the option x-reeve.volume. A directory of the host that moves
// onto a volume (say /var/lib/mysql) is copied once, then bound over the old one. Two drop-ins keep systemd from binding an
// empty directory, and the service from running on the files below, while the volume is not there. Start mounts what
// systemd did not, and starts the service if it is enabled: in a container systemd skips the devices of fstab.
//
// # Kills and failures
//
// A failed call takes its steps back. A killed agent leaves states that the same call completes: unfinished releases and
// copies have names of their own until they are whole and on disk, and a unit that was stopped is noted first.
//
// Host paths touched: <state>/deploy, the base directory, /etc/systemd/system/reeve-*.{service,slice} and their links, /etc/{passwd,group,shadow,gshadow}, /etc/.pwd.lock,
// /etc/ssh/sshd_config.d/reeve-<app>.conf, /etc/fstab, /etc/systemd/system/{<service>,<mount>}.d/reeve-volume.conf, mount points.
// Tested on Debian 12: OpenSSH 9.2, Apache 2.4 with PHP 8.2, systemd 252, util-linux 2.38, e2fsprogs 1.47, xfsprogs 6.1.
package deploy
