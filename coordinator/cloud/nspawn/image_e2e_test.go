//go:build e2e

package nspawn_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/coordinator/cloud/nspawn"
	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/test/hosts"
)

// buildDeb makes a package that looks like the agent's: a unit that is enabled and started by its maintainer script.
func buildDeb(t *testing.T, version string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"DEBIAN/control":                       "Package: probe-agent\nVersion: " + version + "\nArchitecture: all\nMaintainer: x <x@example.net>\nDescription: probe\n",
		"DEBIAN/postinst":                      "#!/bin/sh\nset -e\nsystemctl enable probe-agent.service\n/usr/sbin/policy-rc.d ssh restart && code=0 || code=$?\ntest $code = 101 || touch /started\n",
		"usr/lib/systemd/system/probe.service": "",
		"usr/lib/systemd/system/probe-agent.service": "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh -c 'echo " + version +
			" >/run/probe'\n[Install]\nWantedBy=multi-user.target\n",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	deb := filepath.Join(t.TempDir(), "probe.deb")
	if out, err := exec.Command("dpkg-deb", "--root-owner-group", "--build", dir, deb).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return deb
}

func TestTheAgentIsALayerOnTheBase(t *testing.T) {
	deb := buildDeb(t, fmt.Sprintf("1.%d", time.Now().UnixNano()))
	o := nspawn.ImageOptions{ID: "probe", AgentDeb: deb, Unlisted: true}
	began := time.Now()
	image, err := nspawn.BuildImage(t.Context(), o, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("a new agent took %s", time.Since(began))
	if len(image.Layers) != 2 {
		t.Fatalf("got layers %v, want the agent's and the base", image.Layers)
	}
	t.Cleanup(func() { os.RemoveAll(filepath.Dir(image.Layers[0])) })
	t.Run("it starts with the node, and nothing started while it was installed", func(t *testing.T) {
		i := hosts.NewInstance(t)
		opts := i.Options()
		opts.Images = []nspawn.Image{image}
		d, err := nspawn.Open(t.Context(), opts)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { d.Close() })
		h := (&hosts.Cloud{Driver: d, Instance: i}).Boot(t, hosts.Options{})
		if got := h.Exec(t, "cat", "/run/probe"); !strings.HasPrefix(got, "1.") {
			t.Errorf("got %q, want the package's version", got)
		}
		for _, path := range []string{"/started", "/usr/sbin/policy-rc.d", "/var/tmp/reeve-agent.deb"} {
			if _, err := h.Try(t, "test", "-e", path); err == nil {
				t.Errorf("%s is in the image", path)
			}
		}
		if got := h.Exec(t, "dpkg-query", "-W", "-f", "${Status}", "probe-agent"); got != "install ok installed" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("building again takes what is there, also at the same time", func(t *testing.T) {
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				again, err := nspawn.BuildImage(t.Context(), o, nil)
				if err != nil || strings.Join(again.Layers, ":") != strings.Join(image.Layers, ":") {
					t.Errorf("got %v, %v; want %v", again.Layers, err, image.Layers)
				}
			})
		}
		wg.Wait()
	})
	t.Run("an extra is a layer between both, and the base is shared", func(t *testing.T) {
		with := o
		with.Extras = []nspawn.Extra{{Name: "probe", Packages: []string{"tree"}}}
		got, err := nspawn.BuildImage(t.Context(), with, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(filepath.Dir(got.Layers[0])) })
		if len(got.Layers) != 3 || got.Layers[2] != image.Layers[1] || strings.Join(got.Extras, " ") != "probe" {
			t.Fatalf("got %+v, want a layer more than %v", got, image.Layers)
		}
		for what, want := range map[string]bool{"usr/bin/tree": true, "usr/bin/probe": false, "etc/resolv.conf": false, "usr/sbin/policy-rc.d": false} {
			if _, err := os.Stat(filepath.Join(got.Layers[1], what)); (err == nil) != want {
				t.Errorf("%s in the layer: got %v, want %v", what, err, want)
			}
		}
		status, err := os.ReadFile(filepath.Join(got.Layers[0], "var/lib/dpkg/status"))
		if err != nil || !strings.Contains(string(status), "Package: tree\n") || !strings.Contains(string(status), "Package: probe-agent\n") {
			t.Errorf("dpkg on the image knows not of both: %v", err)
		}
		with.Extras[0].Packages = []string{"no-such-package"}
		if _, err := nspawn.BuildImage(t.Context(), with, nil); core.KindOf(err) != core.Unavailable || !strings.Contains(err.Error(), "Unable to locate package no-such-package") {
			t.Errorf("got %v, want apt's own words", err)
		}
		if _, err := os.Stat(filepath.Join(filepath.Dir(filepath.Dir(filepath.Dir(got.Layers[0]))), "with.new")); !os.IsNotExist(err) {
			t.Errorf("the unfinished layer is still there: %v", err)
		}
	})
	t.Run("a package that does not install fails with its own words and leaves nothing", func(t *testing.T) {
		bad := filepath.Join(t.TempDir(), "bad.deb")
		if err := os.WriteFile(bad, []byte("no package"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := nspawn.BuildImage(t.Context(), nspawn.ImageOptions{AgentDeb: bad, Unlisted: true}, nil)
		if core.KindOf(err) != core.Unavailable || !strings.Contains(err.Error(), "dpkg-deb: error:") {
			t.Errorf("got %v, want dpkg's own words", err)
		}
		home := filepath.Dir(filepath.Dir(image.Layers[0]))
		if _, err := os.Stat(filepath.Join(home, "agent.new")); !os.IsNotExist(err) {
			t.Errorf("the unfinished layer is still there: %v", err)
		}
	})
}

// BenchmarkNode is the life of a node; the step to compare with a bare boot is "ready".
func BenchmarkNode(b *testing.B) {
	c := hosts.NewCloud(b, false)
	var ready, destroyed time.Duration
	n := 0
	for b.Loop() {
		began := time.Now()
		node, err := c.CreateNode(b.Context(), core.NodeSpec{Key: fmt.Sprint("bench-", n), Name: "bench"})
		if err == nil {
			err = c.WaitReady(b.Context(), node.ID)
		}
		if err != nil {
			b.Fatal(err)
		}
		up := time.Now()
		ready += up.Sub(began)
		if err := c.DestroyNode(b.Context(), node.ID); err != nil {
			b.Fatal(err)
		}
		destroyed += time.Since(up)
		n++
	}
	b.ReportMetric(float64(ready.Milliseconds())/float64(n), "ms/ready")
	b.ReportMetric(float64(destroyed.Milliseconds())/float64(n), "ms/destroyed")
}

// BenchmarkManyAtOnce boots eight nodes at the same time.
func BenchmarkManyAtOnce(b *testing.B) {
	c := hosts.NewCloud(b, false)
	round := 0
	for b.Loop() {
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				node, err := c.CreateNode(b.Context(), core.NodeSpec{Key: fmt.Sprint("many-", round, "-", i), Name: "many"})
				if err == nil {
					err = c.WaitReady(b.Context(), node.ID)
				}
				if err == nil {
					err = c.DestroyNode(b.Context(), node.ID)
				}
				if err != nil {
					b.Error(err)
				}
			})
		}
		wg.Wait()
		round++
	}
}
