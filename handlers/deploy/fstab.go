package deploy

import (
	"strings"

	"github.com/reeve-paas/reeve/handlers/host"
)

// Options of the lines we write. Names that begin with "x-" mean something to systemd or to us, and nothing to mount(8):
// the file is the record of which lines are ours and which unit lives on a bound directory.
const (
	volumeOptions = "defaults,nofail,x-systemd.device-timeout=5s"
	bindOption    = "bind"
	unitOption    = "x-reeve.unit="
	volumeOption  = "x-systemd.requires-mounts-for="
	volumeMark    = host.DeployMark
)

// ours says whether we wrote a line.
func ours(l host.FstabLine) bool { return l.Has(volumeMark) }

func isBind(l host.FstabLine) bool { return len(l.Options) > 0 && l.Options[0] == bindOption }

// unitOf is the service whose files lie in the bound directory, or "".
func unitOf(l host.FstabLine) string { return l.Option(unitOption) }

// volumeOf is the mount point of the volume that a bound directory lies on.
func volumeOf(l host.FstabLine) string { return l.Option(volumeOption) }

func volumeLine(device, mpoint, fstype string) host.FstabLine {
	pass := "0" // XFS repairs itself when it is mounted
	if fstype == "ext4" {
		pass = "2"
	}
	return host.FstabLine{Source: device, MPoint: mpoint, FSType: fstype, Options: append(strings.Split(volumeOptions, ","), volumeMark), Pass: pass}
}

func bindLine(source, target, mpoint, unit string) host.FstabLine {
	options := []string{bindOption, "nofail", volumeOption + mpoint, volumeMark}
	if unit != "" {
		options = append(options, unitOption+unit)
	}
	return host.FstabLine{Source: source, MPoint: target, FSType: "none", Options: options, Pass: "0"}
}

// oursAt finds our line of a mount point.
func oursAt(mpoint string) func(host.FstabLine) bool {
	return func(l host.FstabLine) bool { return ours(l) && l.MPoint == mpoint }
}

func setFstab(text []byte, want host.FstabLine) []byte {
	return host.SetFstab(text, want, oursAt(want.MPoint))
}

func removeFstab(text []byte, mpoint string) []byte { return host.RemoveFstab(text, oursAt(mpoint)) }
