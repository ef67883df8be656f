package agentapi

// The deploy namespace is our own: what the coordinator needs on a host to run an app. Every method may be repeated with
// the same parameters without further effect.

// MountVolumeParams are the parameters of deploy.mount_volume: put a filesystem on the device when it has none, mount it,
// keep it mounted after a reboot, and move directories of the host onto it.
//
// Result:  VolumeMount
// Errors:  not_found (no such device), conflict (another device is mounted there), FileSystemError, LinuxError
// Effects: the filesystem, /etc/fstab, the mount point; a bound directory's content is copied once, when its source is new
type MountVolumeParams struct {
	Device string      `json:"device" rpc:"required"` // e.g. "/dev/reeve-vol-1"
	MPoint string      `json:"mpoint" rpc:"required"`
	FSType string      `json:"fstype,omitempty"` // ext4 (default) or xfs
	Binds  []BindMount `json:"binds,omitempty"`
}

// BindMount moves a directory of the host onto a volume.
type BindMount struct {
	Source string `json:"source"`         // relative to the mount point
	Target string `json:"target"`         // absolute; its content seeds a new source, with owners and modes
	Unit   string `json:"unit,omitempty"` // stopped while the directory moves, started again if it was running
}

// VolumeMount is a mounted volume. Sizes are bytes.
type VolumeMount struct {
	Device    string `json:"device"`
	MPoint    string `json:"mpoint"`
	FSType    string `json:"fstype"`
	SizeBytes int64  `json:"size_bytes"`
	FreeBytes int64  `json:"free_bytes"`
}

// GrowVolumeParams are the parameters of deploy.grow_volume: let the mounted filesystem fill its device, which became larger.
// Everything on it stays in use, unless the host lets no mounted ext4 grow: then services and units that live on it are stopped and it is
// unmounted for as long as it takes. One that fills its device already is left alone.
//
// Result:  VolumeMount
// Errors:  not_found (nothing is mounted there), unsupported (the filesystem), conflict (something uses it), FileSystemError
type GrowVolumeParams struct {
	MPoint string `json:"mpoint" rpc:"required"`
}

// UnmountVolumeParams are the parameters of deploy.unmount_volume: the reverse of mount_volume; data stays on the device.
// Units of bound directories are stopped and stay so: below lies what was there before the volume came.
//
// Result:  null
// Errors:  conflict (something uses it, or it was not mounted by mount_volume)
type UnmountVolumeParams struct {
	MPoint string `json:"mpoint" rpc:"required"`
}

// CreateAppParams are the parameters of deploy.create_app: the app's user, directories and environment on this host, and
// release 0, a page that says that nothing was deployed yet. Called again it replaces Env and Login by what it is given,
// nothing included. Apache sees a new environment after its next reload, which is the caller's.
//
// Result:  AppPaths
// Errors:  invalid, unsupported (platform; no web server installed), conflict (other platform or base; a login that is
// taken), config_test (sshd)
type CreateAppParams struct {
	App      string            `json:"app" rpc:"required"`      // [a-z0-9][a-z0-9-]{0,39}
	Platform string            `json:"platform" rpc:"required"` // php or static
	Base     string            `json:"base,omitempty"`          // directory that holds it; default /srv/data/apps
	Env      map[string]Secret `json:"env,omitempty"`           // values never reach a world-readable file
	Login    *AppLogin         `json:"login,omitempty"`
}

// AppLogin lets the app's owner in over SSH, as the app's own Unix user: over SFTP below the app's directory only or, with
// Shell, with a shell and the whole host to look at. delete_app ends what runs in a shell's name.
type AppLogin struct {
	User         string   `json:"user"`                    // e.g. "2316"; a number is at least 1000 and no account's id
	PasswordHash Secret   `json:"password_hash,omitempty"` // crypt(3) form, e.g. "$6$…" or "$y$…"; "" lets no password in
	Keys         []string `json:"keys,omitempty"`          // public keys, lines of authorized_keys without options
	Shell        bool     `json:"shell,omitempty"`
}

// SetLoginParams are the parameters of deploy.set_login: replace an app's login, or end it. Nothing else of the app
// changes, and sessions that are open go on.
//
// Result:  null
// Errors:  not_found (no such app), invalid, conflict (a login that is taken), config_test (sshd)
type SetLoginParams struct {
	App   string    `json:"app" rpc:"required"`
	Login *AppLogin `json:"login,omitempty"` // null: nobody may log in
	// KeepPassword keeps the password that the login has on this host; Login has none then.
	KeepPassword Bool `json:"keep_password,omitempty"`
}

// AppPaths tell where an app lies on the host.
type AppPaths struct {
	Home         string `json:"home"`
	DocumentRoot string `json:"document_root"` // stays the same over releases
	EnvInclude   string `json:"env_include"`   // httpd configuration that sets the environment; 0600
	LogDir       string `json:"log_dir"`
	User         string `json:"user"` // Unix user
	Release      int    `json:"release"`
	SFTP         bool   `json:"sftp"` // an SSH server is installed; without one a Login waits for it
}

// PutReleaseParams are the parameters of deploy.put_release: unpack a release beside the current one and switch to it.
// Release numbers only grow; the same number with the same archive is a no-op, with another archive a conflict. An archive
// without a directory htdocs at its root becomes htdocs itself. The ten newest releases are kept. For php a running Apache
// is reloaded, which would serve parts of the old release from its caches otherwise.
//
// The archive comes with the request or, when it is too big for one, is fetched from Source.
//
// Result:  AppPaths
// Errors:  invalid (the archive, its sum), not_found (no such app), conflict, unavailable (the blob cannot be reached)
// Limits:  512 MiB unpacked, 100,000 entries
type PutReleaseParams struct {
	App     string `json:"app" rpc:"required"`
	Release int    `json:"release" rpc:"required"`
	Archive []byte `json:"archive,omitempty"` // tar.gz, base64 on the wire; no links out of it, no absolute paths
	Source  *Blob  `json:"source,omitempty"`  // instead of Archive; with its SHA256
}

// SwitchReleaseParams are the parameters of deploy.switch_release: roll back, or forward, to a stored release.
//
// Result:  AppPaths
// Errors:  not_found (app or release)
type SwitchReleaseParams struct {
	App     string `json:"app" rpc:"required"`
	Release int    `json:"release" rpc:"required"`
}

// AppParams name one app. deploy.app_paths answers with its AppPaths, or not_found. deploy.delete_app removes everything create_app and put_release made, shared files and logs
// included; an app that is not there is no error. Result null.
type AppParams struct {
	App string `json:"app" rpc:"required"`
}

// AppInfo is one row of deploy.list_apps.
type AppInfo struct {
	App      string `json:"app"`
	Platform string `json:"platform"`
	Release  int    `json:"release"`
	Releases []int  `json:"releases"`
}

// EnableServiceParams are the parameters of deploy.enable_service: start a service of the host at every boot. Nothing is
// started now. Those of deploy.disable_service are the same: at no boot any more, and nothing is stopped now.
//
// Errors:  invalid (ValueError: a service we do not know), unsupported (InitdError: it is not installed)
type EnableServiceParams struct {
	Service string `json:"service" rpc:"required"` // apache, nginx, mysql, postgresql or mongodb
}
