package deploy

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/test/ports"
)

// trickyEnv is values that mean something to httpd, or to whoever quotes badly.
var trickyEnv = map[string]agentapi.Secret{
	"PLAIN":      "mysql://u:p@localhost/db",
	"EMPTY":      "",
	"QUOTES":     `say "hi" and 'ho'`,
	"BACKSLASH":  `c:\dir\" \\ \n end\`,
	"VARIABLE":   "$HOME ${HOME} ${NOPE} $ ${ $${HOME}} %{HOME}e",
	"MARKUP":     "# ; <VirtualHost> </VirtualHost> | &&",
	"SPACES":     "a  b   c",
	"UNICODE":    "пароль é 🔑",
	"_UNDER_1":   "x",
	"MY_DOLLAR":  "${REEVE_DOLLAR}",
	"DOUBLE_ESC": `\${HOME} \\${HOME}`,
}

func TestRenderEnv(t *testing.T) { golden(t, "env", string(renderEnv("shop", trickyEnv))) }

// TestEnvInApache lets a private httpd read what we render, and say what it understood.
func TestEnvInApache(t *testing.T) {
	httpd, err := exec.LookPath("apache2")
	modules := "/usr/lib/apache2/modules"
	if _, statErr := os.Stat(modules + "/mod_headers.so"); err != nil || statErr != nil {
		t.Skip("needs apache2 and its modules")
	}
	dir := t.TempDir()
	addr := freeAddress(t)
	conf := "ServerRoot " + dir + "\nServerName localhost\nListen " + addr + "\nPidFile " + dir + "/pid\nErrorLog " + dir + "/error.log\n" +
		"User nobody\nGroup nogroup\n"
	for name, file := range map[string]string{"mpm_prefork": "mod_mpm_prefork", "authz_core": "mod_authz_core", "env": "mod_env", "headers": "mod_headers"} {
		conf += fmt.Sprintf("LoadModule %s_module %s/%s.so\n", name, modules, file)
	}
	conf += "<VirtualHost *>\nInclude " + dir + "/env.conf\n"
	for name := range trickyEnv {
		conf += fmt.Sprintf("Header always set X-%s \"[%%{%s}e]\"\n", strings.ReplaceAll(name, "_", "-"), name)
	}
	conf += "</VirtualHost>\n"
	for name, text := range map[string]string{"httpd.conf": conf, "env.conf": string(renderEnv("shop", trickyEnv))} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run(t, exec.Command(httpd, "-f", dir+"/httpd.conf", "-DFOREGROUND"))
	res := get(t, "http://"+addr+"/", dir+"/error.log")
	for name, want := range trickyEnv {
		got := strings.TrimSuffix(strings.TrimPrefix(res.Header.Get("X-"+strings.ReplaceAll(name, "_", "-")), "["), "]")
		if got != string(want) {
			t.Errorf("%s: got %q, want %q", name, got, string(want))
		}
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	return fmt.Sprintf("127.0.0.1:%d", ports.Free(t))
}

// run starts a daemon in the foreground and ends it with the test.
func run(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		cmd.Wait()
	})
}

// eventually asks again until a condition of another process holds.
func eventually(t *testing.T, what string, ok func() error) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(30 * time.Second)
	for {
		err := ok()
		if err == nil {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("%s: %v", what, err)
		case <-tick.C:
		}
	}
}

func get(t *testing.T, url, errorLog string) (res *http.Response) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	eventually(t, "GET "+url, func() (err error) {
		if res, err = client.Get(url); err != nil {
			log, _ := os.ReadFile(errorLog)
			return fmt.Errorf("%w\n%s", err, log)
		}
		return nil
	})
	t.Cleanup(func() { res.Body.Close() })
	return res
}
