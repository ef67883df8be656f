//go:build e2e

package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/test/hosts"
)

// facts are items 44 to 52. What is right is read on the host with its own tools.
func (c *coreHost) facts(t *testing.T) {
	shell := func(t *testing.T, script string) string {
		t.Helper()
		return c.h.Exec(t, "sh", "-c", script)
	}
	t.Run("44 cpu_stat", func(t *testing.T) {
		var first, second struct{ User, Nice, System, Idle *uint64 }
		c.into(t, "system.cpu_stat", `{}`, &first)
		c.into(t, "system.cpu_stat", `{}`, &second)
		for i, pair := range [][2]*uint64{{first.User, second.User}, {first.Nice, second.Nice}, {first.System, second.System}, {first.Idle, second.Idle}} {
			if pair[0] == nil || pair[1] == nil || *pair[1] < *pair[0] {
				t.Errorf("counter %d: got %v, want ints that never fall", i, pair)
			}
		}
	})
	t.Run("45 mem_info", func(t *testing.T) {
		var m map[string]uint64
		c.into(t, "system.mem_info", `{}`, &m)
		for key, name := range map[string]string{"total_real": "MemTotal", "total_swap": "SwapTotal"} {
			if want := shell(t, "awk '/^"+name+":/{print $2}' /proc/meminfo"); strconv.FormatUint(m[key], 10) != want {
				t.Errorf("%s: got %d, want %s", key, m[key], want)
			}
		}
		for _, key := range []string{"total_swap", "avail_swap", "total_real", "total_free", "shared", "buffer", "cached"} {
			if _, ok := m[key]; !ok || len(m) != 7 {
				t.Errorf("got %v, want %s among seven members", m, key)
			}
		}
	})
	t.Run("46 net_stats", func(t *testing.T) {
		var stats map[string]map[string]map[string]string // strings of JSON
		c.into(t, "system.net_stats", `{}`, &stats)
		for _, name := range strings.Fields(shell(t, "ls /sys/class/net")) {
			for _, direction := range []string{"receive", "transmit"} {
				for _, leaf := range []string{"bytes", "packets", "errors"} {
					if v := stats[name][direction][leaf]; v == "" || strings.Trim(v, "0123456789") != "" {
						t.Errorf("%s.%s.%s: got %q, want digits", name, direction, leaf, v)
					}
				}
			}
		}
		if stats["lo"] == nil || stats["host0"]["receive"]["bytes"] == "0" {
			t.Errorf("got %v, want lo, and what came over host0", stats)
		}
	})
	t.Run("47 disk_stats", func(t *testing.T) {
		type counts struct{ Num, Sectors, Bytes *uint64 }
		var disks map[string]struct{ Read, Write counts }
		c.into(t, "system.disk_stats", `{}`, &disks)
		for name, d := range disks {
			for _, n := range []counts{d.Read, d.Write} {
				if n.Num == nil || n.Sectors == nil || n.Bytes == nil || *n.Bytes != 512**n.Sectors {
					t.Errorf("%s: got %+v, want bytes = 512 × sectors", name, d)
				}
			}
		}
		if names := strings.Fields(shell(t, "awk '{print $3}' /proc/diskstats")); len(names) == 0 || len(disks) != len(names) {
			t.Errorf("got %d disks, want %q", len(disks), names)
		}
		// What kernels of other ages show, in place of this one's.
		fields := "5 2 80 7 4 3 16 9 0 11 12 13 14 15 16 17 18"
		for _, columns := range []int{14, 18, 20} {
			line := "8 0 sda " + strings.Join(strings.Fields(fields)[:columns-3], " ") + "\n"
			c.h.WriteFile(t, "/run/diskstats", 0o444, []byte(line))
			c.h.Exec(t, "mount", "--bind", "/run/diskstats", "/proc/diskstats")
			got := string(c.result(t, "system.disk_stats", `{}`))
			c.h.Exec(t, "umount", "/proc/diskstats")
			if want := `{"sda":{"read":{"num":5,"sectors":80,"bytes":40960},"write":{"num":4,"sectors":16,"bytes":8192}}}`; got != want {
				t.Errorf("%d columns: got %s, want %s", columns, got, want)
			}
		}
	})
	t.Run("48 load_average", func(t *testing.T) {
		if got := c.result(t, "system.load_average", `{}`); !regexp.MustCompile(`^\[\d+\.\d+,\d+\.\d+,\d+\.\d+\]$`).Match(got) {
			t.Errorf("got %s, want three numbers", got)
		}
	})
	t.Run("49 uname and dist", func(t *testing.T) {
		var uname, dist map[string]string
		c.into(t, "system.uname", `{}`, &uname)
		for key, option := range map[string]string{"kernel_name": "-s", "nodename": "-n", "kernel_release": "-r", "kernel_version": "-v", "machine": "-m", "hardware_platform": "-m"} {
			if want := c.h.Exec(t, "uname", option); uname[key] != want {
				t.Errorf("%s: got %q, want %q", key, uname[key], want)
			}
		}
		if _, ok := uname["processor"]; !ok || len(uname) != 7 {
			t.Errorf("got %v, want seven members", uname)
		}
		c.into(t, "system.dist", `{}`, &dist)
		if len(dist) != 3 || dist["distributor"] != "debian" || dist["codename"] != "bookworm" || dist["release"] != c.h.Exec(t, "cat", "/etc/debian_version") {
			t.Errorf("got %v", dist)
		}
	})
	t.Run("50 cpu_info", func(t *testing.T) {
		var cpus []map[string]string
		c.into(t, "system.cpu_info", `{}`, &cpus)
		if want := shell(t, "grep -c ^processor /proc/cpuinfo"); strconv.Itoa(len(cpus)) != want {
			t.Errorf("got %d CPUs, want %s", len(cpus), want)
		}
		for i, cpu := range cpus {
			if runtime.GOARCH == "amd64" && cpu["processor"] != strconv.Itoa(i) {
				t.Errorf("CPU %d: got processor %q", i, cpu["processor"])
			}
		}
	})
	t.Run("51 statvfs", func(t *testing.T) {
		var sizes map[string]*struct{ Total, Free uint64 }
		c.into(t, "system.statvfs", `{"mpoints": ["/", "/nope"]}`, &sizes)
		want := shell(t, `stat -f -c '%S %b' / | awk '{printf "%d", $1 * $2 / 1024}'`)
		if root := sizes["/"]; root == nil || strconv.FormatUint(root.Total, 10) != want || root.Free == 0 || root.Free > root.Total {
			t.Errorf("/: got %+v, want %s KB in all", root, want)
		}
		if none, listed := sizes["/nope"]; !listed || none != nil || len(sizes) != 2 {
			t.Errorf("got %v, want null for /nope", sizes)
		}
		for params, kind := range map[string]string{`{}`: "NoneType", `{"mpoints": "/"}`: "unicode"} {
			if got := c.failure(t, "system.statvfs", params); got != `Exception: Argument "mpoints" should be a list of strings, not <type '`+kind+`'>` {
				t.Errorf("%s: got %s", params, got)
			}
		}
	})
	t.Run("52 mounts", func(t *testing.T) {
		shell(t, "mkdir -p /srv/memory /data/developer && mount -t tmpfs none /srv/memory && mount --bind /srv /data/developer")
		defer shell(t, "umount /srv/memory /data/developer")
		var mounts map[string]struct {
			Device, MPoint, FSType, Options string
			Dump                            *string
			FSckOrder                       *string `json:"fsck_order"`
			Total, Free                     *uint64
		}
		c.into(t, "system.mounts", `{}`, &mounts)
		for name, m := range mounts {
			if m.MPoint != name || m.Device == "" || m.Options == "" || m.Dump == nil || m.FSckOrder == nil || m.Total == nil || m.Free == nil {
				t.Errorf("%s: got %+v, want every member", name, m)
			}
			if m.FSType == "tmpfs" || regexp.MustCompile(`^/(proc|sys|dev)(/|$)`).MatchString(name) {
				t.Errorf("got %s of type %s, want what holds data only", name, m.FSType)
			}
		}
		if root := mounts["/"].Total; root == nil || *root == 0 || mounts["/data/developer"].MPoint == "" {
			t.Errorf("got %v, want / and /data/developer", mounts)
		}
	})
}

// unbase64 is a text in the wire's form: base64 and a line feed.
func unbase64(t testing.TB, text string) string {
	t.Helper()
	line, ok := strings.CutSuffix(text, "\n")
	data, err := base64.StdEncoding.DecodeString(line)
	if err != nil || !ok {
		t.Fatalf("got %.100q, %v, want base64 and a line feed", text, err)
	}
	return string(data)
}

// actions are items 55 to 59.
func (c *coreHost) actions(t *testing.T) {
	log := func(t *testing.T, method string) string {
		t.Helper()
		var text string
		c.into(t, "system."+method, `{}`, &text)
		return unbase64(t, text)
	}
	t.Run("55 logs", func(t *testing.T) {
		if got := log(t, "get_update_log"); got != "Log file /var/log/scalarizr_update.log is not readable" {
			t.Errorf("got %q", got)
		}
		for method, file := range map[string]string{"get_log": "scalarizr.log", "get_debug_log": "scalarizr_debug.log", "get_update_log": "scalarizr_update.log"} {
			if got := log(t, method); method != "get_update_log" && !strings.Contains(got, "method=execute_scripts") {
				t.Errorf("%s: got %.200q, want the agent's journal", method, got)
			}
			c.h.WriteFile(t, "/var/log/"+file, 0o600, []byte("of an older agent\n"))
			if got := log(t, method); got != "of an older agent\n" {
				t.Errorf("%s: got %.200q, want the file", method, got)
			}
		}
	})
	t.Run("56 logs of scripts", func(t *testing.T) {
		logs := func(id string) (stdout, stderr string) {
			t.Helper()
			var got struct{ Stdout, Stderr string }
			c.into(t, "system.get_script_logs", fmt.Sprintf(`{"exec_script_id": %q}`, id), &got)
			return unbase64(t, got.Stdout), unbase64(t, got.Stderr)
		}
		const rotated = `Log file already rotatated and no more exists on server. You can increase "Rotate scripting logs" setting under "Advanced" tab in Farm Designer`
		c.result(t, "system.execute_scripts", `{"event_name": "HostUp", "scripts": [
			{"name": "short", "body": "#!/bin/sh\necho out\necho err >&2\nexit 1\n", "timeout": 20, "execution_id": "56a"},
			{"name": "long", "body": "#!/bin/sh\nhead -c 25000 /dev/zero | tr '\\0' x\n", "timeout": 20, "execution_id": "56b"}]}`)
		c.h.WriteFile(t, "/etc/x-out.log", 0o644, []byte("not a script's"))
		if out, err := logs("56a"); out != "out\n" || err != "err\n" {
			t.Errorf("got %q and %q", out, err)
		}
		const dir = "/var/log/scalarizr/scripting/"
		if out, err := logs("56b"); out != strings.Repeat("x", 20000)+"... Truncated. See the full log in "+dir+"long.HostUp.56b-out.log" || err != "" {
			t.Errorf("got %d bytes, %q and %q", len(out), out[max(0, len(out)-100):], err)
		}
		for _, id := range []string{"nope", "../../etc/x", "../../../etc/x", "*", "/etc/x"} {
			if out, err := logs(id); out != rotated || err != rotated {
				t.Errorf("%s: got %q and %q", id, out, err)
			}
		}
	})
	t.Run("57 scaling_metrics", c.scalingMetrics)
	t.Run("58 execute_scripts", func(t *testing.T) {
		if got := c.result(t, "system.execute_scripts", `{"event_name": "Test", "scripts": [{"name": "hello", "body": "#!/bin/sh\necho hi\n", "timeout": 10, "execution_id": "58"}]}`); string(got) != "null" {
			t.Errorf("got %s, want null", got)
		}
		wantText(t, c.h, "hi", "cat", "/var/log/scalarizr/scripting/hello.Test.58-out.log")
		hosts.Eventually(t, "ExecScriptResult is sent", func() bool {
			for _, m := range c.far.Messages() {
				var r agentapi.ExecScriptResult
				if m.Name != "ExecScriptResult" || json.Unmarshal(m.Body, &r) != nil || r.ExecutionID != "58" {
					continue
				}
				if m.Queue != "log" || r.ScriptName != "hello" || r.EventName != "Test" || r.ReturnCode != 0 || r.Stdout != "aGkK\n" || r.Stderr != "\n" {
					t.Errorf("got %s in %s", m.Body, m.Queue)
				}
				return true
			}
			return false
		})
	})
	t.Run("59 fqdn", func(t *testing.T) {
		c.Call(t, "/system", `{"method": "fqdn", "params": {}, "id": 1}`).WantError(t, -32601, "Method not found", "fqdn")
	})
}

func (c *coreHost) scalingMetrics(t *testing.T) {
	c.h.WriteFile(t, "/srv/m/five", 0o644, []byte("5.5\nx"))
	c.h.WriteFile(t, "/srv/m/exit3", 0o755, []byte("#!/bin/sh\nexit 3\n"))
	c.h.WriteFile(t, "/srv/m/slow", 0o755, []byte("#!/bin/sh\nsleep 9\n"))
	c.h.WriteFile(t, "/srv/m/run", 0o755, []byte("#!/bin/sh\necho ' 42 '\n"))
	type metric struct {
		ID, Name string
		Value    float64
		Error    string
	}
	var defined strings.Builder
	var want []metric
	define := func(path, method string, value float64, problem string) {
		id := strconv.Itoa(101 + len(want))
		fmt.Fprintf(&defined, `<metric id="%s" name="m%s"><path>%s</path><retrieve-method>%s</retrieve-method></metric>`, id, id, path, method)
		want = append(want, metric{id, "m" + id, value, problem})
	}
	define("/srv/m/slow", "execute", 0, "Timeouted")
	define("/srv/m/five", "read", 5.5, "")
	define("/srv/m/exit3", "execute", 0, "exitcode: 3")
	define("/srv/m/none", "read", 0, "File is not readable: '/srv/m/none'")
	define("/srv/m/five", "execute", 0, "File is not executable: '/srv/m/five'")
	define("/srv/m/run", "execute", 42, "")
	for len(want) < 27 {
		n := len(want)
		path := fmt.Sprintf("/srv/m/%d", n)
		c.h.WriteFile(t, path, 0o644, []byte(strconv.Itoa(n)))
		define(path, "read", float64(n), "")
	}
	c.far.Reply("get-scaling-metrics", "<metrics>"+defined.String()+"</metrics>")
	began := time.Now()
	var got []metric
	c.into(t, "system.scaling_metrics", `{}`, &got)
	if took := time.Since(began); took > 6*time.Second { // 3 s, and the start of shells on a machine that does other things too
		t.Errorf("took %s beside a script of 9 s", took)
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if out, err := c.h.Try(t, "pgrep", "-f", "sleep 9"); err == nil {
		t.Errorf("processes are left: %s", out)
	}
}
