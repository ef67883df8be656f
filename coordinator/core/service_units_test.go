package core_test

import (
	"archive/zip"
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/coordinator/core"
)

// javaBed is a bed whose second image has Java.
func javaBed(t *testing.T) *bed {
	b := newBed(t, func(o *core.Options) {
		o.PlatformNames = []string{"java", "python", "static"}
		o.PlatformNeeds = map[string]core.PlatformNeeds{"java": {Image: true, MemoryMB: 128}}
	})
	b.must(b.store.Update(t.Context(), func(tx core.Tx) error { return tx.GiveCredit(b.alice.Account.ID, 10) }))
	return b.work()
}

func (b *bed) javaImage() {
	b.world.mu.Lock()
	defer b.world.mu.Unlock()
	b.world.images = append(b.world.images, core.Image{ID: "image-java", Name: "Debian and java", Platforms: []string{"java"}})
}

// uploadWar uploads a web application of one file.
func (b *bed) uploadWar(num int64, text string) int64 {
	b.Helper()
	var war bytes.Buffer
	zw := zip.NewWriter(&war)
	f, err := zw.Create("index.jsp")
	b.must(err)
	_, err = f.Write([]byte(text))
	b.must(err)
	b.must(zw.Close())
	v, err := b.UploadCode(b.Context(), b.alice, num, core.CodeVersion{Filename: "app.war"}, bytes.NewReader(war.Bytes()), int64(war.Len()))
	b.must(err)
	return v.Num
}

func (b *bed) service(num int64) core.Service {
	b.Helper()
	s, err := b.Core.Service(b.Context(), b.alice, num)
	b.must(err)
	return s
}

func (b *bed) reaches(num int64, state core.ServiceState) core.Service {
	b.Helper()
	b.until(string(state), func() bool { return b.service(num).State == state && len(b.unfinished()) == 0 })
	return b.service(num)
}

// fronted says that every node of a service has one unit of the release, to which its own web server is turned.
func (b *bed) fronted(s core.Service, release int) {
	b.Helper()
	if len(s.App.Units) != len(s.App.Nodes) {
		b.Fatalf("got the units %+v on %d nodes", s.App.Units, len(s.App.Nodes))
	}
	b.world.mu.Lock()
	defer b.world.mu.Unlock()
	for _, u := range s.App.Units {
		h := b.world.hosts[u.Address]
		if want := []string{fmt.Sprintf("%s:%d", u.Address, u.Port)}; u.Release != release || u.State != core.UnitStarted || !slices.Equal(h.balance[fmt.Sprintf("service-%d.internal", s.App.Num)], want) {
			b.Errorf("unit %+v, release %d; the node sends requests to %v", u, release, h.balance)
		}
		if len(h.units) != 1 || h.units[u.ID].Release != release {
			b.Errorf("the node runs %v", h.units)
		}
	}
}

func TestPlatformsThatNeedAnImage(t *testing.T) {
	b := javaBed(t)
	offered := func(want bool) {
		t.Helper()
		types, err := b.ServiceTypes(t.Context())
		b.must(err)
		if slices.Contains(types, "java") != want || slices.Contains(b.Platforms(t.Context()), "java") != want || !slices.Contains(types, "php") {
			t.Errorf("got the types %v and platforms %v, want java: %v", types, b.Platforms(t.Context()), want)
		}
	}
	offered(false)
	if _, err := b.CreateService(t.Context(), b.alice, core.ServiceSpec{Type: "java"}); core.KindOf(err) != core.Invalid {
		t.Errorf("without an image: got %v", err)
	}
	if err := b.EnsurePool(t.Context(), "java"); core.KindOf(err) != core.Unavailable || !strings.Contains(err.Error(), "image build --with java") {
		t.Errorf("without an image: got %v", err)
	}
	b.javaImage()
	offered(true)
	b.world.sizes = []core.Size{{ID: "tiny", Name: "tiny", MemoryMB: 256}}
	if _, err := b.CreateService(t.Context(), b.alice, core.ServiceSpec{Type: "java"}); core.KindOf(err) != core.Unavailable || !strings.Contains(err.Error(), "needs 128 MB") {
		t.Errorf("where nodes are too small: got %v", err)
	}

	// Nodes of the pool that were there before are not for it, and stay for others.
	b.must(b.EnsurePool(t.Context(), ""))
	b.must(b.EnsurePool(t.Context(), "java"))
	b.must(b.EnsurePool(t.Context(), "java"))
	b.must(b.EnsurePool(t.Context(), ""))
	images := map[string]int{}
	for _, n := range b.nodes(core.NodeFilter{Role: core.RolePool}) {
		images[n.ImageID]++
	}
	if fmt.Sprint(images) != "map[image-1:2 image-java:2]" {
		t.Errorf("got the pool %v", images)
	}
}

func TestServiceOfUnits(t *testing.T) {
	b := javaBed(t)
	b.javaImage()
	b.world.sizes = []core.Size{{ID: "s", MemoryMB: 512}, {ID: "m", MemoryMB: 1024}, {ID: "l", MemoryMB: 2048}}
	b.router()
	s, err := b.CreateService(t.Context(), b.alice, core.ServiceSpec{Type: "java"})
	b.must(err)
	num := s.App.Num
	if n := s.App.Nodes[0]; n.ImageID != "image-java" || n.SizeID != "m" || s.App.MemoryMB != (1024-128)/2 {
		t.Errorf("got a node of image %s and size %s, with units of %d MB", n.ImageID, n.SizeID, s.App.MemoryMB)
	}
	b.must(b.StartupService(t.Context(), b.alice, num))
	b.fronted(b.reaches(num, core.ServiceRunning), 1) // the page before there is code
	builds := func() int { return strings.Count(strings.Join(b.world.made(), " "), "BuildRelease") }

	first, second := b.uploadWar(num, "one"), b.uploadWar(num, "two")
	b.must(b.ConfigureService(t.Context(), b.alice, num, first, nil))
	b.fronted(b.reaches(num, core.ServiceRunning), 2)
	b.must(b.GrowService(t.Context(), b.alice, num, 1))
	b.fronted(b.reaches(num, core.ServiceRunning), 2)
	if n := builds(); n != 2 {
		t.Errorf("got %d builds, want one of each version", n)
	}

	t.Run("a version that does not start leaves the one before, which is not started again", func(t *testing.T) {
		before := b.service(num).App.Units
		b.world.always("StartUnit", &agentapi.Error{Kind: agentapi.KindInvalid, Class: "UnitError", Text: "process web ended"})
		if err := b.ConfigureService(t.Context(), b.alice, num, second, nil); err == nil || !strings.Contains(err.Error(), "process web ended") {
			t.Errorf("got %v", err)
		}
		b.world.always("StartUnit", nil)
		s := b.reaches(num, core.ServiceRunning)
		b.fronted(s, 2)
		if s.Version != first || s.App.Units[0].ID != before[0].ID || !s.App.Units[0].CreatedAt.Equal(before[0].CreatedAt) {
			t.Errorf("got version %d, units %+v, want those of before: %+v", s.Version, s.App.Units, before)
		}
	})
	t.Run("a version that cannot be built is built anew the next time", func(t *testing.T) {
		third := b.uploadWar(num, "three")
		b.world.always("BuildRelease", &agentapi.Error{Kind: agentapi.KindInvalid, Class: "BuildError", Text: "no web application"})
		if err := b.ConfigureService(t.Context(), b.alice, num, third, nil); err == nil || !strings.Contains(err.Error(), "no web application") {
			t.Errorf("got %v", err)
		}
		b.world.always("BuildRelease", nil)
		b.reaches(num, core.ServiceRunning)
		b.must(b.ConfigureService(t.Context(), b.alice, num, third, nil))
		b.fronted(b.reaches(num, core.ServiceRunning), 5)
		b.must(b.ConfigureService(t.Context(), b.alice, num, first, nil))
		b.fronted(b.reaches(num, core.ServiceRunning), 2)
		files := b.world.files.count()
		b.must(b.DeleteCode(t.Context(), b.alice, num, third))
		if left := b.world.files.count(); left != files-2 {
			t.Errorf("got %d files, want the archive and what was built of it gone from %d", left, files)
		}
	})
	t.Run("whatever call fails, all nodes have one version or the other", func(t *testing.T) {
		versions, releases := []int64{second, first}, []int{0, 2} // by whether the first is active
		active := 1
		for _, failure := range []error{temporary, permanent} {
			for n := 1; ; n++ {
				b.world.arm(map[int]error{n: failure})
				err := b.ConfigureService(t.Context(), b.alice, num, versions[1-active], nil)
				s := b.reaches(num, core.ServiceRunning)
				made := b.world.made()
				b.world.arm(nil)
				if err == nil {
					active = 1 - active
				}
				if failure == temporary && err != nil || s.Version != versions[active] {
					t.Errorf("call %d (%s): got %v and version %d", n, made[min(n, len(made))-1], err, s.Version)
				}
				if releases[active] == 0 {
					releases[active] = s.App.Units[0].Release
				}
				b.must(b.Heal(t.Context(), "unit")) // what a node did not end when it was told to
				b.fronted(s, releases[active])
				if n > len(made) {
					break
				}
			}
		}
		b.must(b.ConfigureService(t.Context(), b.alice, num, first, nil))
		b.fronted(b.reaches(num, core.ServiceRunning), 2)
	})
	t.Run("other dialects leave its units to its manager", func(t *testing.T) {
		if _, err := b.ChangeUnits(t.Context(), b.alice, s.AppID, 1); core.KindOf(err) != core.Unsupported {
			t.Errorf("got %v", err)
		}
	})
	b.must(b.ShrinkService(t.Context(), b.alice, num, 1))
	b.fronted(b.reaches(num, core.ServiceRunning), 2)
	b.must(b.ShutdownService(t.Context(), b.alice, num))
	if s := b.reaches(num, core.ServiceStopped); len(s.App.Units) != 0 || len(b.world.hosts[s.App.Nodes[0].Address].units)+len(b.world.hosts[s.App.Nodes[0].Address].proxies) != 0 {
		t.Errorf("a stopped service has %+v", s.App.Units)
	}
	b.must(b.StartupService(t.Context(), b.alice, num))
	b.fronted(b.reaches(num, core.ServiceRunning), 2)
	b.must(b.StopService(t.Context(), b.alice, num))
	b.until("the end", func() bool { return len(b.nodes(core.NodeFilter{})) == 1 && b.world.files.count() == 0 })
}
