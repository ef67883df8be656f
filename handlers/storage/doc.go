// Package storage makes, grows, copies and removes volumes of this host: namespace storage.
//
//	create snapshot detach destroy grow replace_raid_disk     storage.go; parameters: params.go
//
// Every method is an operation of agent/operation. What all types share (filesystem, mount, fstab, detach, destroy) is in
// attach.go and grow.go; a type is a driver (driver.go) in a file of its own:
//
//	base            a block device that is there anyway
//	loop            a file: file, size (GB, or "75%root"), zerofill, adjust_size                          loop.go
//	tmpfs           memory: size (MB)                                                                     tmpfs.go
//	lvm             a logical volume: pvs, vg, name, size ("80%VG", GB, "512M")                           lvm.go
//	raid            a logical volume on an mdadm array: disks, level (0, 1, 5, 10), vg                    raid.go
//	eph             a logical volume on disks that a stop empties: vg, disk or disks, size, cloudfs_dir   eph.go, transfer.go
//	ebs csvol cinder gce_persistent    volumes of a cloud, through a Provider                             cloud.go
//	nspawn          a volume of the coordinator's own cloud, the same way: size (GB)                      cloud.go
//	ec2_ephemeral gce_ephemeral        disks of the machine                                               instance.go
//
// Filesystems are ext3, ext4, xfs and btrfs. A filesystem is made only where nothing at all is. A loop volume is copied with
// shared blocks where the filesystem that holds its file can (btrfs, xfs): then a snapshot takes no time and no space.
//
// # Nothing half-done
//
// A change (work.go) notes how to take each step back, as data, in a journal in the state directory before it does the step.
// A failed change takes its steps back itself; what a killed agent left is taken back at the next start, before anything else
// is changed, and tried again each minute while it cannot be, such as without the coordinator. Steps that name what a reboot takes
// away, or gives to another device, are void after one. Deleting cannot be taken back: it comes last, in an order that a repetition
// of the call completes; that of a cloud's volume the next agent completes.
//
// # Clouds
//
// The SDKs of clouds would not fit the agent. Provider is the little that is needed of one; the coordinator's driver of the
// cloud has the rest. Without a Provider a volume that is attached already is used as it is, and everything else is an error
// that says what to do.
//
// Host paths touched: <state>/storage, image files where they are asked for (default /mnt/loopdev<time>), mount points,
// /etc/fstab, mdadm's configuration, /dev/mapper, /dev/md*. Programs: util-linux, e2fsprogs, and as needed xfsprogs, btrfs-progs,
// lvm2, mdadm, tar. Tested on Debian 12; lvm and raid on Debian's kernel in an emulated machine (make test-kernel).
package storage
