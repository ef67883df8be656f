package gandi_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/reeve-paas/reeve/coordinator/api/gandi"
	"github.com/reeve-paas/reeve/coordinator/core"
)

// transcript is what testdata/document.* print, whatever the language.
const transcript = `version 3.3.42
empty 0 0
dry run vhosts EC_TXT+EC_MISSINGMANDATORY vhost.test.fr nil You must put a TXT value in your zone
create paas_vm_create paas_disk_create rproxy_create
list My PaaS phpmysql_m running nil false 1
filtered 0 0 1
info FR vhost.hosted.test http:// 10.0
update paas_vm_update
delete paas_delete
fault 537542
`

// 88-93: the document's calls, from the first to the last, through the client library of each language it names. What is not
// installed is skipped by name; .ci/deps installs what Debian has, and npm's xmlrpc.
func TestTheDocumentInEachLanguage(t *testing.T) {
	script := func(extension string) string {
		path, err := filepath.Abs("testdata/document." + extension)
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, l := range []struct {
		name    string
		has     []string // a command that succeeds where the library is installed
		run     []string
		environ string
	}{
		{"Python", []string{"python3", "-c", "import xmlrpc.client"}, []string{"python3", script("py")}, ""},
		{"PHP", []string{"php", "-r", "exit(function_exists('xmlrpc_decode') ? 0 : 1);"}, []string{"php", "-d", "error_reporting=E_ALL&~E_DEPRECATED", script("php")}, ""},
		{"Node", []string{"node", "-e", "require('xmlrpc')"}, []string{"node", script("js")}, ""},
		{"Perl with RPC::XML", []string{"perl", "-MRPC::XML::Client", "-e", "1"}, []string{"perl", script("pl")}, ""},
		{"Perl with XMLRPC::Lite", []string{"perl", "-MXMLRPC::Lite", "-e", "1"}, []string{"perl", script("pl")}, "LITE=1"},
		{"Ruby", []string{"ruby", "-e", "require 'xmlrpc/client'"}, []string{"ruby", "-W0", script("rb")}, ""},
		{"C", []string{"sh", "-c", "echo '#include <xmlrpc-c/client.h>' | cc -E -"}, nil, ""},
	} {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			if out, err := command(l.has...).CombinedOutput(); err != nil {
				t.Skipf("the library is not installed: %v %.200s", err, out)
			}
			if l.run == nil {
				l.run = []string{compile(t, script("c"))}
			}
			b := newBed(t, func(_ *gandi.Options, co *core.Options) { co.MaxApps = 1 }).work() // deleting gives the place back
			cmd := command(l.run...)
			cmd.Env = append(cmd.Env, "URL="+b.url, "KEY="+b.key, l.environ)
			out, err := cmd.CombinedOutput()
			if err != nil || string(out) != transcript {
				t.Errorf("got %v\n%s\nwant\n%s", err, out, transcript)
			}
		})
	}
}

// nodeModules is where .ci/deps puts npm's packages.
const nodeModules = "/var/cache/reeve/npm/node_modules"

func command(args ...string) *exec.Cmd {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "NODE_PATH="+nodeModules)
	return cmd
}

func compile(t *testing.T, source string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "document")
	if out, err := exec.Command("cc", "-Wall", "-o", program, source, "-lxmlrpc_client", "-lxmlrpc", "-lxmlrpc_util").CombinedOutput(); err != nil {
		t.Fatalf("cc: %v %s", err, out)
	}
	return program
}
