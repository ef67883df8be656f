package storage

import (
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
)

// metadataOf is a machine's metadata service, of the kind that wants a session token where token is not "".
func metadataOf(t *testing.T, token string, names map[string]string) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/api/token" && token != "":
			if r.Method != http.MethodPut || r.Header.Get("X-aws-ec2-metadata-token-ttl-seconds") == "" {
				w.WriteHeader(http.StatusBadRequest)
				return
			}
			_, _ = w.Write([]byte(token))
		case token != "" && r.Header.Get("X-aws-ec2-metadata-token") != token:
			w.WriteHeader(http.StatusUnauthorized)
		default:
			name := strings.TrimPrefix(r.URL.Path, "/meta-data/block-device-mapping/")
			if device, ok := names[name]; ok {
				_, _ = w.Write([]byte(device + "\n"))
				return
			}
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func TestEC2Ephemeral(t *testing.T) {
	for name, token := range map[string]string{"with a token": "t0ken", "without": ""} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			b := f.bed(t)
			b.metadataURL = metadataOf(t, token, map[string]string{"ephemeral0": "sdb", "ephemeral1": "/dev/sdc", "ephemeral2": "sdd", "ephemeral3": "../etc/passwd"})
			empty := strings.Repeat("\x00", 512)
			f.WriteText("/dev/xvdb", empty) // what the kernel of a Xen machine calls sdb
			f.WriteText("/dev/sdc", empty)
			v := b.ok(t, "create", "volume", object{"type": "ec2_ephemeral", "name": "ephemeral0", "fstype": "ext4", "mpoint": "/mnt/e"}, "mkfs", true, "mount", true, "fstab", true)
			if v.Text("device") != "/dev/xvdb" || !strings.HasPrefix(v.Text("id"), "vol-ec2_ephemeral-") || !strings.Contains(f.Text("/etc/fstab"), "/dev/xvdb /mnt/e ext4 defaults,comment=scalr,nofail 0 0") {
				t.Errorf("got %v, fstab %q", v, f.Text("/etc/fstab"))
			}
			if other := b.ok(t, "create", "volume", object{"type": "ec2_ephemeral", "name": "ephemeral1"}); other.Text("device") != "/dev/sdc" {
				t.Errorf("got %v", other)
			}
			// It belongs to the machine: detached, it is unmounted, and its device stays.
			gone := b.ok(t, "detach", "volume", v)
			if gone.Text("device") != "/dev/xvdb" || strings.Contains(f.Text("/etc/fstab"), "/mnt/e") || !f.Exists("/dev/xvdb") {
				t.Errorf("got %v, fstab %q", gone, f.Text("/etc/fstab"))
			}
			b.fails(t, "ec2_ephemeral volume type does not' support grow.", "grow", "volume", v, "growth", object{"size": 2})
			for disk, want := range map[string]string{
				"ephemeral2": "ephemeral2 is sdd in the machine's metadata, and there is no such device",
				"ephemeral3": "there is no such device",
				"ephemeral9": "ask the machine's metadata for ephemeral9: the answer is 404",
				"":           "AssertionError: Attribute should be specified: name",
				"../../x":    "AssertionError: Attribute should be specified: name",
			} {
				b.fails(t, want, "create", "volume", object{"type": "ec2_ephemeral", "name": disk})
			}
		})
	}
}

func TestEC2EphemeralWithoutMetadata(t *testing.T) {
	f := newFake(t)
	b := f.bed(t)
	b.metadataURL = "http://127.0.0.1:1"
	b.fails(t, "ask the machine's metadata for ephemeral0", "create", "volume", object{"type": "ec2_ephemeral", "name": "ephemeral0"})
}

func TestGCEEphemeral(t *testing.T) {
	f := newFake(t)
	b := f.bed(t)
	f.WriteText("/dev/sdb", strings.Repeat("\x00", 512))
	if err := os.MkdirAll(f.Path("/dev/disk/by-id"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../../sdb", f.Path("/dev/disk/by-id/google-ephemeral-disk-0")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"google-ephemeral-disk-0", "ephemeral-disk-0"} {
		v := b.ok(t, "create", "volume", object{"type": "gce_ephemeral", "name": name})
		if v.Text("device") != "/dev/sdb" || v.Text("name") != "ephemeral-disk-0" {
			t.Errorf("%s: got %v", name, v)
		}
	}
	b.fails(t, "this machine has no disk /dev/disk/by-id/google-ephemeral-disk-1", "create", "volume", object{"type": "gce_ephemeral", "name": "ephemeral-disk-1"})
	b.fails(t, "AssertionError: Attribute should be specified: name", "create", "volume", object{"type": "gce_ephemeral", "name": "../sdb"})
}
