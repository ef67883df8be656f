package cloud_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/reeve-paas/reeve/coordinator/cloud"
	"github.com/reeve-paas/reeve/coordinator/cloud/fake"
	"github.com/reeve-paas/reeve/coordinator/core"
)

func TestSet(t *testing.T) {
	a, b := fake.New(), fake.New()
	s, err := cloud.NewSet("beta", cloud.Named{Name: "beta", Driver: b}, cloud.Named{Name: "alpha", Driver: a})
	if err != nil {
		t.Fatal(err)
	}
	t.Run("names begin with default and are sorted", func(t *testing.T) {
		if got, want := s.Names(), []string{"default", "alpha", "beta"}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
	t.Run("default is the standard cloud and is stored under its name", func(t *testing.T) {
		if got, ok := s.Cloud("default"); !ok || got != core.Cloud(b) {
			t.Errorf("got %v, want beta", got)
		}
		if got := s.Canonical("default"); got != "beta" {
			t.Errorf("got canonical name %q, want beta", got)
		}
		if got := s.Canonical("alpha"); got != "alpha" {
			t.Errorf("got canonical name %q, want alpha", got)
		}
	})
	t.Run("an unknown name is not found", func(t *testing.T) {
		if _, ok := s.Cloud("gamma"); ok {
			t.Error("got a cloud, want none")
		}
	})
	t.Run("a cloud that is named default wins over the standard", func(t *testing.T) {
		s, err := cloud.NewSet("alpha", cloud.Named{Name: "alpha", Driver: a}, cloud.Named{Name: "default", Driver: b})
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := s.Cloud("default"); got != core.Cloud(b) || s.Canonical("default") != "default" {
			t.Errorf("got %v as %q, want the cloud of that name", got, s.Canonical("default"))
		}
		if got, want := s.Names(), []string{"default", "alpha"}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
	t.Run("a set that makes no sense is refused", func(t *testing.T) {
		for name, clouds := range map[string][]cloud.Named{
			"no cloud":         nil,
			"a doubled name":   {{Name: "alpha", Driver: a}, {Name: "alpha", Driver: b}},
			"a missing driver": {{Name: "alpha"}},
			"another standard": {{Name: "other", Driver: a}},
		} {
			if _, err := cloud.NewSet("alpha", clouds...); err == nil {
				t.Errorf("%s: got no error", name)
			}
		}
	})
}

func TestABrokenCloudSaysWhyAndIsNeverEmpty(t *testing.T) {
	d := cloud.Broken(core.CloudInfo{Type: "nspawn", Name: "nspawn", Volumes: true}, errors.New("no root"))
	if d.Info().Volumes {
		t.Error("it declares volumes but has no such methods")
	}
	list, err := d.Nodes(t.Context())
	if list != nil || core.KindOf(err) != core.Unavailable {
		t.Errorf("got %v, %v; want unavailable", list, err)
	}
}
