package system_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/agent/operation"
	"github.com/reeve-paas/reeve/handlers"
	"github.com/reeve-paas/reeve/handlers/host"
	"github.com/reeve-paas/reeve/handlers/host/hosttest"
	"github.com/reeve-paas/reeve/handlers/system"
)

// env is a service on a copy of testdata/host.
type env struct {
	*hosttest.Host
	t       *testing.T
	methods map[string]handlers.Method
}

func start(t *testing.T, change ...func(*system.Options)) *env {
	t.Helper()
	h := hosttest.New(t)
	if err := os.CopyFS(h.Root, os.DirFS("testdata/host")); err != nil {
		t.Fatal(err)
	}
	o := options(t, h.Host)
	for _, c := range change {
		c(&o)
	}
	return &env{Host: h, t: t, methods: system.New(o).Methods()}
}

func options(t *testing.T, h *host.Host) system.Options {
	t.Helper()
	registry, err := operation.Open(operation.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return system.Options{
		Host: h, Operations: registry,
		PrivateIP: func() (netip.Addr, error) { return netip.MustParseAddr("10.0.0.5"), nil },
		SetKernelName: func(name string) error {
			return os.WriteFile(h.Path("/proc/sys/kernel/hostname"), []byte(name+"\n"), 0o644)
		},
	}
}

// real is a service on this machine, reading only.
func real(t *testing.T) *env {
	o := options(t, host.New(host.Options{}))
	o.SetKernelName = func(string) error { return errors.New("tests leave this machine's name alone") }
	return &env{t: t, methods: system.New(o).Methods()}
}

// call answers with the result as JSON.
func (e *env) call(method, params string) (string, error) {
	e.t.Helper()
	m, ok := e.methods[method]
	if !ok {
		e.t.Fatalf("no method %s", method)
	}
	value, err := m.Call(e.t.Context(), json.RawMessage(params))
	if err != nil {
		return "", err
	}
	data, err := json.Marshal(value)
	if err != nil {
		e.t.Fatal(err)
	}
	return string(data), nil
}

func (e *env) want(method, params, want string) {
	e.t.Helper()
	got, err := e.call(method, params)
	if err != nil {
		e.t.Fatalf("%s: %v", method, err)
	}
	if diff := cmp.Diff(decode(e.t, want), decode(e.t, got)); diff != "" {
		e.t.Errorf("%s: got %s, want %s\n%s", method, got, want, diff)
	}
}

func (e *env) wantError(method, params, want string) {
	e.t.Helper()
	got, err := e.call(method, params)
	typed, ok := errors.AsType[*agentapi.Error](err)
	if !ok || typed.Message() != want {
		e.t.Errorf("%s %s: got %s, %v, want %s", method, params, got, err, want)
	}
}

func (e *env) into(method, params string, v any) {
	e.t.Helper()
	got, err := e.call(method, params)
	if err != nil {
		e.t.Fatalf("%s: %v", method, err)
	}
	if err := json.Unmarshal([]byte(got), v); err != nil {
		e.t.Fatalf("%s: %s: %v", method, got, err)
	}
}

func decode(t *testing.T, text string) (v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return v
}

func unbase64(t *testing.T, s string) string {
	t.Helper()
	if !strings.HasSuffix(s, "\n") || strings.Count(s, "\n") != 1 {
		t.Errorf("got %q, want one line and a line feed", s)
	}
	data, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(s, "\n"))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// The published examples of spec agent-core 4.1, from the fixture host.
func TestFactsAndCounters(t *testing.T) {
	e := start(t)
	for method, want := range map[string]string{
		"cpu_stat":      `{"user": 1200, "nice": 3, "system": 450, "idle": 90000}`,
		"mem_info":      `{"total_swap": 1048572, "avail_swap": 1048572, "total_real": 2035840, "total_free": 310204, "shared": 1200, "buffer": 40960, "cached": 802816}`,
		"load_average":  `[0.25, 0.5, 0.75]`,
		"block_devices": `["loop0", "ram0", "vda", "sda1", "odd"]`,
		"net_stats": `{"lo": {"receive": {"bytes": "100", "packets": "2", "errors": "0"}, "transmit": {"bytes": "100", "packets": "2", "errors": "0"}},
			"eth0": {"receive": {"bytes": "90210", "packets": "77", "errors": "1"}, "transmit": {"bytes": "5150", "packets": "42", "errors": "3"}},
			"eth0:1": {"receive": {"bytes": "5", "packets": "1", "errors": "0"}, "transmit": {"bytes": "6", "packets": "1", "errors": "0"}}}`,
		"get_hostname": `"db1.example.net"`,
		"dist":         `{"distributor": "debian", "release": "12.11", "codename": "bookworm"}`,
		"cpu_info": `[{"processor": "0", "vendor_id": "ExampleVendor", "model name": "Example CPU @ 2.40GHz: special", "cpu MHz": "2400.000", "flags": "fpu vme de", "power management": ""},
			{"processor": "1", "vendor_id": "ExampleVendor", "model name": "Example CPU @ 2.40GHz: special", "cpu MHz": "2400.001", "flags": "fpu vme de", "power management": ""}]`,
	} {
		e.want(method, `{}`, want)
	}
}

// Conformance 47: disk_stats works on kernels with 14, 18 and 20 columns, and with the 7 of an old partition.
func TestConformance47_DiskStats(t *testing.T) {
	start(t).want("disk_stats", `{}`, `{
		"loop0": {"read": {"num": 0, "sectors": 0, "bytes": 0}, "write": {"num": 0, "sectors": 0, "bytes": 0}},
		"ram0": {"read": {"num": 5, "sectors": 40, "bytes": 20480}, "write": {"num": 0, "sectors": 0, "bytes": 0}},
		"vda": {"read": {"num": 10, "sectors": 80, "bytes": 40960}, "write": {"num": 4, "sectors": 16, "bytes": 8192}},
		"sda1": {"read": {"num": 1, "sectors": 8, "bytes": 4096}, "write": {"num": 2, "sectors": 24, "bytes": 12288}}}`)
	var disks map[string]struct {
		Read, Write struct{ Num, Sectors, Bytes uint64 }
	}
	real(t).into("disk_stats", `{}`, &disks)
	for name, d := range disks {
		if d.Read.Bytes != 512*d.Read.Sectors || d.Write.Bytes != 512*d.Write.Sectors {
			t.Errorf("%s: got %+v, want bytes = 512 × sectors", name, d)
		}
	}
}

// Conformance 44: cpu_stat is four ints that never fall.
func TestConformance44_CPUStat(t *testing.T) {
	e := real(t)
	var first, second map[string]uint64
	e.into("cpu_stat", `{}`, &first)
	e.into("cpu_stat", `{}`, &second)
	for _, key := range []string{"user", "nice", "system", "idle"} {
		if a, ok := first[key]; !ok || len(first) != 4 || second[key] < a {
			t.Errorf("%s: got %v, then %v", key, first, second)
		}
	}
}

// Conformance 45: mem_info is seven ints in KB.
func TestConformance45_MemInfo(t *testing.T) {
	var m map[string]uint64
	real(t).into("mem_info", `{}`, &m)
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		t.Fatal(err)
	}
	total := strings.Fields(string(data))[1]
	if got, _ := json.Marshal(m["total_real"]); len(m) != 7 || string(got) != total {
		t.Errorf("got %v, want seven members and total_real %s", m, total)
	}
}

// Conformance 46: the leaves of net_stats are strings of digits, lo is there.
func TestConformance46_NetStats(t *testing.T) {
	var stats map[string]map[string]map[string]string
	real(t).into("net_stats", `{}`, &stats)
	if stats["lo"] == nil {
		t.Error("lo is missing")
	}
	for name, directions := range stats {
		for _, d := range []string{"receive", "transmit"} {
			for _, leaf := range []string{"bytes", "packets", "errors"} {
				if v := directions[d][leaf]; v == "" || strings.Trim(v, "0123456789") != "" {
					t.Errorf("%s.%s.%s: got %q, want digits", name, d, leaf, v)
				}
			}
		}
	}
}

// Conformance 48: load_average is a list of three numbers, each with a fraction.
func TestConformance48_LoadAverage(t *testing.T) {
	e := start(t)
	e.WriteText("/proc/loadavg", "0.00 1.00 12.50 1/2 3\n")
	if got, err := e.call("load_average", `{}`); err != nil || got != "[0.0,1.0,12.5]" {
		t.Errorf("got %s, %v", got, err)
	}
	e.WriteText("/proc/loadavg", "0.00\n")
	if _, err := e.call("load_average", `{}`); err == nil {
		t.Error("a short file: got no error")
	}
}

// Conformance 49: uname has seven keys, dist three with a lower-case distributor.
func TestConformance49_UnameAndDist(t *testing.T) {
	e := real(t)
	var uname, dist map[string]string
	e.into("uname", `{}`, &uname)
	for _, key := range []string{"kernel_name", "nodename", "kernel_release", "kernel_version", "machine", "processor", "hardware_platform"} {
		if v, ok := uname[key]; !ok || v == "" && key != "processor" {
			t.Errorf("uname.%s: got %q", key, v)
		}
	}
	if len(uname) != 7 || uname["kernel_name"] != "Linux" {
		t.Errorf("got %v", uname)
	}
	e.into("dist", `{}`, &dist)
	if d := dist["distributor"]; len(dist) != 3 || d == "" || d != strings.ToLower(d) {
		t.Errorf("got %v", dist)
	}
}

func TestDistOfOtherFamilies(t *testing.T) {
	for release, want := range map[string]string{
		"ID=ubuntu\nVERSION_ID=\"22.04\"\nVERSION_CODENAME=jammy\n": `{"distributor":"ubuntu","release":"22.04","codename":"jammy"}`,
		"ID=\"rhel\"\nVERSION_ID=\"9.4\"\n":                         `{"distributor":"redhat","release":"9.4","codename":""}`,
		"ID=\"amzn\"\nVERSION_ID=\"2023\"\n":                        `{"distributor":"amazon","release":"2023","codename":""}`,
	} {
		e := start(t)
		e.WriteText("/etc/os-release", release)
		e.want("dist", `{}`, want)
	}
	e := start(t)
	e.WriteText("/etc/debian_version", "trixie/sid\n")
	e.want("dist", `{}`, `{"distributor":"debian","release":"12","codename":"bookworm"}`)
}

// Conformance 50: one object per CPU, string values, the key processor on x86.
func TestConformance50_CPUInfo(t *testing.T) {
	var cpus []map[string]string
	real(t).into("cpu_info", `{}`, &cpus)
	if len(cpus) == 0 {
		t.Fatal("got no CPU")
	}
	if runtime.GOARCH == "amd64" && cpus[0]["processor"] != "0" {
		t.Errorf("got %q, want processor 0", cpus[0]["processor"])
	}
}

// Conformance 51: statvfs of a mount point and of a path that is none.
func TestConformance51_StatVFS(t *testing.T) {
	e := real(t)
	var sizes map[string]*struct{ Total, Free uint64 }
	e.into("statvfs", `{"mpoints": ["/", "/nope"]}`, &sizes)
	if root := sizes["/"]; root == nil || root.Total == 0 || root.Free > root.Total {
		t.Errorf("/: got %+v", root)
	}
	if none, listed := sizes["/nope"]; !listed || none != nil {
		t.Errorf("/nope: got %v, listed %v, want null", none, listed)
	}
	for params, kind := range map[string]string{
		`{}`: "NoneType", `{"mpoints": null}`: "NoneType", `{"mpoints": "/"}`: "unicode", `{"mpoints": 5}`: "int",
		`{"mpoints": {"a": 1}}`: "dict", `{"mpoints": true}`: "bool", `{"mpoints": 1.5}`: "float", `{"mpoints": ["/", 7]}`: "int",
	} {
		e.wantError("statvfs", params, `Exception: Argument "mpoints" should be a list of strings, not <type '`+kind+`'>`)
	}
	fake := start(t)
	os.Mkdir(fake.Path("/data"), 0o755)
	fake.into("statvfs", `{"mpoints": ["/data", "/dev/vdb", "/with blank", "/etc"]}`, &sizes)
	if sizes["/data"] == nil || sizes["/dev/vdb"] != nil || sizes["/with blank"] != nil || sizes["/etc"] != nil {
		t.Errorf("got %v, want only /data, which is mounted and answers", sizes)
	}
}

// Conformance 52: mounts leaves out what holds no data.
func TestConformance52_Mounts(t *testing.T) {
	e := start(t)
	for _, dir := range []string{"/data/developer", "/with blank", "/dev/disk/by-uuid"} {
		os.MkdirAll(e.Path(dir), 0o755)
	}
	e.WriteText("/dev/vda1", "")
	os.Symlink("../../vda1", e.Path("/dev/disk/by-uuid/1234"))
	var mounts map[string]map[string]any
	e.into("mounts", `{}`, &mounts)
	var names []string
	for name, m := range mounts {
		names = append(names, name)
		if m["total"].(float64) <= 0 || m["free"].(float64) < 0 || m["mpoint"] != name {
			t.Errorf("%s: got %v", name, m)
		}
	}
	slices.Sort(names)
	if want := []string{"/", "/data", "/data/developer", "/with blank"}; !slices.Equal(names, want) {
		t.Errorf("got %q, want %q", names, want)
	}
	root := mounts["/"]
	if root["device"] != "/dev/vda1" || root["fstype"] != "ext4" || root["dump"] != "0" || root["fsck_order"] != "1" || root["options"] != "rw,relatime" {
		t.Errorf("got %v", root)
	}
	var here map[string]map[string]any
	real(t).into("mounts", `{}`, &here)
	for name, m := range here {
		if m["fstype"] == "tmpfs" || strings.HasPrefix(name, "/proc/") || strings.HasPrefix(name, "/sys/") || strings.HasPrefix(name, "/dev/") {
			t.Errorf("got %s of type %v", name, m["fstype"])
		}
	}
}

// Conformance 53: get_hostname and set_hostname.
func TestConformance53_Hostname(t *testing.T) {
	t.Run("sets the three names", func(t *testing.T) {
		e := start(t)
		e.want("set_hostname", `{"hostname": "new.example.net"}`, `"new.example.net"`)
		e.want("get_hostname", `{}`, `"new.example.net"`)
		if got := e.Text("/etc/hostname"); got != "new.example.net\n" {
			t.Errorf("/etc/hostname: got %q", got)
		}
		want := "127.0.0.1\tlocalhost\n10.0.0.9 old.example.net old # keep\n10.0.0.5\tnew.example.net\n# 10.0.0.7 new.example.net\n"
		if got := e.Text("/etc/hosts"); got != want {
			t.Errorf("/etc/hosts: got %q, want %q", got, want)
		}
	})
	t.Run("adds a line when the name has none", func(t *testing.T) {
		e := start(t)
		e.WriteText("/etc/hosts", "127.0.0.1 localhost")
		e.want("set_hostname", `{"hostname": "web1"}`, `"web1"`)
		if got, want := e.Text("/etc/hosts"), "127.0.0.1 localhost\n10.0.0.5\tweb1\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
	t.Run("refuses an empty name with an empty assertion", func(t *testing.T) {
		e := start(t)
		before := e.Tree("/")
		e.wantError("set_hostname", `{}`, "AssertionError: ")
		e.wantError("set_hostname", `{"hostname": ""}`, "AssertionError: ")
		e.wantError("set_hostname", `{"hostname": null}`, "AssertionError: ")
		for _, bad := range []string{"a b", "a\\n10.0.0.1 b", "-a", "a..b", "a_b", strings.Repeat("a", 64), strings.Repeat("a.", 40) + "b"} {
			if got, err := e.call("set_hostname", `{"hostname": "`+bad+`"}`); err == nil {
				t.Errorf("%s: got %s, want an error", bad, got)
			}
		}
		if got := e.Tree("/"); got != before {
			t.Errorf("a refused name changed files:\n%s", got)
		}
	})
	t.Run("changes nothing when the kernel refuses", func(t *testing.T) {
		e := start(t, func(o *system.Options) {
			o.SetKernelName = func(string) error { return os.ErrPermission }
		})
		os.Remove(e.Path("/etc/hostname")) // minimal images have none
		before := e.Tree("/")
		if _, err := e.call("set_hostname", `{"hostname": "new"}`); !errors.Is(err, os.ErrPermission) {
			t.Errorf("got %v, want %v", err, os.ErrPermission)
		}
		if got := e.Tree("/"); got != before {
			t.Errorf("got\n%s, want\n%s", got, before)
		}
	})
	t.Run("changes nothing when a step fails", func(t *testing.T) {
		e := start(t)
		os.Remove(e.Path("/etc/hosts"))
		e.WriteText("/etc/hosts/in-the-way", "")
		before := e.Tree("/")
		if _, err := e.call("set_hostname", `{"hostname": "new"}`); err == nil {
			t.Fatal("got no error")
		}
		if got := e.Tree("/"); got != before {
			t.Errorf("got\n%s, want\n%s", got, before)
		}
	})
}

// Conformance 54: call_auth_shutdown_hook.
func TestConformance54_AuthShutdownHook(t *testing.T) {
	root := t.TempDir()
	e := &env{t: t, methods: system.New(options(t, host.New(host.Options{Root: root}))).Methods()}
	missing := "Exception: File not exists: /usr/local/scalarizr/hooks/auth-shutdown"
	e.wantError("call_auth_shutdown_hook", `{}`, missing)
	hook := filepath.Join(root, "usr/local/scalarizr/hooks/auth-shutdown")
	if err := os.MkdirAll(filepath.Dir(hook), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(hook, []byte("#!/bin/sh\necho ' yes '\necho no >&2\nexit 1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	e.wantError("call_auth_shutdown_hook", `{}`, missing)
	os.Chmod(hook, 0o755)
	e.want("call_auth_shutdown_hook", `{}`, `"yes"`)
}

// Conformance 59: fqdn is not offered.
func TestConformance59_NoFQDN(t *testing.T) {
	if _, ok := start(t).methods["fqdn"]; ok {
		t.Error("fqdn is offered")
	}
}

func TestReadOnlyMethods(t *testing.T) {
	for name, m := range start(t).methods {
		writes := slices.Contains([]string{"reboot", "set_hostname", "execute_scripts", "call_auth_shutdown_hook"}, name)
		if m.ReadOnly == writes {
			t.Errorf("%s: got read-only %v, want %v (spec agent-core 2)", name, m.ReadOnly, !writes)
		}
	}
}

func TestReboot(t *testing.T) {
	e := start(t)
	e.Runner.Succeed("systemctl")
	e.want("reboot", `{}`, `null`)
	if got, want := e.Calls(), []string{"run systemctl --no-block reboot"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	e.FailCommand(1)
	if _, err := e.call("reboot", `{}`); err == nil {
		t.Error("a refused reboot: got no error")
	}
}

func TestPythons(t *testing.T) {
	e := start(t)
	for _, p := range []string{"/usr/bin/python2.7", "/usr/bin/python3.11", "/usr/bin/python3", "/usr/bin/python3.11-config", "/usr/local/bin/python3.11", "/usr/bin/python3.9"} {
		e.WriteText(p, "")
	}
	e.Runner.Handle("python2.7", func(host.Cmd) (host.Output, error) { return host.Output{Stderr: []byte("Python 2.7.18\n")}, nil })
	e.Runner.Print("python3.11", "Python 3.11.2\n")
	e.Runner.Handle("python3.9", func(host.Cmd) (host.Output, error) { return host.Output{Code: 1}, nil })
	e.want("pythons", `{}`, `["2.7.18", "3.11.2"]`)
	e.want("get_hostname", `{}`, `"db1.example.net"`)
}

func BenchmarkCPUStat(b *testing.B) {
	s := system.New(system.Options{Host: host.New(host.Options{})})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.CPUStat(b.Context(), handlers.NoParams{}); err != nil {
			b.Fatal(err)
		}
	}
}
