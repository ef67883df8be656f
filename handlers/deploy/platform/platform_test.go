package platform_test

import (
	"bytes"
	"os"
	"slices"
	"testing"

	"github.com/reeve-paas/reeve/handlers/deploy/platform"
)

func TestEveryFolderIsAPlatform(t *testing.T) {
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	var folders []string
	for _, e := range entries {
		if e.IsDir() {
			folders = append(folders, e.Name())
		}
	}
	if got := platform.Names(); !slices.Equal(got, folders) || len(got) < 7 {
		t.Errorf("got the platforms %v, want the folders %v", got, folders)
	}
}

func TestEveryPlatformIsWhole(t *testing.T) {
	builds := map[string]map[string][]byte{}
	for _, name := range platform.Names() {
		p, known := platform.Get(name)
		if !known {
			t.Errorf("%s is listed and not known", name)
		}
		if pages, err := p.PlaceholderFiles(); err != nil || len(pages) == 0 {
			t.Errorf("%s has no placeholder: %v", name, err)
		}
		list, err := p.BuildFiles()
		if err != nil {
			t.Fatal(err)
		}
		builds[name] = map[string][]byte{}
		for _, f := range list {
			builds[name][f.Name] = f.Text
		}
		if builds[name][platform.BuildFile] == nil && name != "generic" {
			t.Errorf("%s has no build", name)
		}
	}
	for _, file := range []string{"apache.conf", "serve"} { // embedded files cannot be links
		if one := builds["static"][file]; len(one) == 0 || !bytes.Equal(one, builds["php"][file]) {
			t.Errorf("%s of static and php differ", file)
		}
	}
	if _, known := platform.Get("cobol"); known {
		t.Error("a platform without a folder is known")
	}
}
