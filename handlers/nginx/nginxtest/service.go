package nginxtest

import (
	"fmt"
	"net/http"
	"os"
	"path"
	"regexp"
	"strings"
	"testing"
)

func filesAndService(t *testing.T, r *Rig) {
	chmod := func(name string, mode os.FileMode) {
		t.Helper()
		if err := os.Chmod(r.Path(name), mode); err != nil {
			t.Fatal(err)
		}
	}
	chmod("nginx.conf", 0o640)
	b1 := r.Backend("B1")
	r.make("p.test", b1)

	r.item(t, "76: the operator's error pages and the files' modes survive", func(r *Rig) {
		r.Write("error-pages.include", r.Read("error-pages.include")+"# mine\n")
		chmod("proxies.include", 0o600)
		r.make("q.test", b1)
		r.OK("add_server", `{"backend": "q.test", "server": "192.0.2.9 down"}`)
		r.OK("recreate_proxying", `{"proxy_list": [{"hostname": "p.test", "port": %d, "backends": [{%s}]}, {"hostname": "q.test", "port": %d, "backends": [{%s}]}]}`, r.Port, Wire(b1), r.Port, Wire(b1))
		if !strings.HasSuffix(r.Read("error-pages.include"), "# mine\n") {
			r.T.Error("error-pages.include was overwritten")
		}
		for name, mode := range map[string]os.FileMode{"proxies.include": 0o600, "nginx.conf": 0o640} {
			if st, err := os.Stat(r.Path(name)); err != nil || st.Mode().Perm() != mode {
				r.T.Errorf("%s: got %v, %v, want mode %o", name, st, err, mode)
			}
		}
	})
	r.item(t, "76: blocks of an operator keep their bytes", func(r *Rig) {
		mine := fmt.Sprintf("# by hand\nserver { listen %d; server_name  hand.test ;\n\n  return 204; # odd\n}\n", r.FreePort())
		r.Write("proxies.include", mine+r.Read("proxies.include"))
		r.make("r.test", b1)
		r.OK("remove_proxy", `{"hostname": "q.test"}`)
		if got := r.Read("proxies.include"); !strings.HasPrefix(got, mine) {
			r.T.Errorf("got %s", got)
		}
	})
	r.item(t, "72: a port of another program leaves the previous configuration in force", func(r *Rig) {
		port := r.FreePort()
		l, err := r.Listen(fmt.Sprintf(":%d", port))
		if err != nil {
			r.T.Fatal(err)
		}
		defer l.Close()
		r.Refuses("nginx kept its old configuration", "make_proxy", `{"hostname": "busy.test", "port": %d, "backends": [{%s}]}`, port, Wire(b1))
		r.Wants("http://p.test/", "B1")
		r.Wants("http://busy.test/", "default site")
		r.make("after.test", b1) // what lies on disk is good
		r.Wants("http://after.test/", "B1")
	})
	r.item(t, "73: a broken configuration is reported and the running nginx stays", func(r *Rig) {
		good, workers := r.Read("nginx.conf"), r.workers()
		r.Write("nginx.conf", good+"bogus on;\n")
		for _, method := range []string{"configtest", "reload_service", "restart_service"} {
			r.Refuses("PopenError: ", method, `{}`)
			r.Refuses(path.Join(r.Dir, "nginx.conf"), method, `{}`)
		}
		r.Refuses("the configuration was broken before this call", "make_proxy", `{"hostname": "x.test", "port": %d, "backends": [{%s}]}`, r.Port, Wire(b1))
		r.Wants("http://p.test/", "B1")
		if got := r.workers(); strings.Join(got, " ") != strings.Join(workers, " ") {
			r.T.Errorf("got workers %s, want %s", got, workers)
		}
		r.Write("nginx.conf", good)
	})
	r.item(t, "73: start and restart work with worker_processes auto", func(r *Rig) {
		r.Write("nginx.conf", regexp.MustCompile(`worker_processes \w+;`).ReplaceAllString(r.Read("nginx.conf"), "worker_processes auto;"))
		r.has("nginx.conf", "worker_processes auto;")
		r.OK("restart_service", `{}`)
		r.Wants("http://p.test/", "B1")
		r.OK("stop_service", `{}`)
		r.silent(r.Port, "http://p.test/")
		r.OK("start_service", `{}`)
		r.Wants("http://p.test/", "B1")
	})
	r.item(t, "73: the service verbs and the status", func(r *Rig) {
		status := func(want string) {
			r.T.Helper()
			if got, err := r.Call(r.T.Context(), "nginx.get_service_status", []byte(`{}`)); string(got) != want || err != nil {
				r.T.Errorf("got %s, %v, want %s", got, err, want)
			}
		}
		r.OK("configtest", `{"reason": "look"}`)
		r.OK("stop_service", `{"reason": "test"}`)
		r.OK("stop_service", `{}`)
		status("3")
		r.OK("configtest", `{}`) // leaves an empty pid file
		status("3")
		r.OK("reload_service", `{}`)
		status("0")
		r.OK("start_service", `{}`)
		r.Wants("http://p.test/", "B1")
	})
	r.item(t, "78: a download completes across a reload", func(r *Rig) {
		started, finish := make(chan bool), make(chan bool)
		slow, _ := r.Serve("127.0.0.1", r.FreePort(), func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, "first half, ")
			w.(http.Flusher).Flush()
			close(started)
			<-finish
			fmt.Fprint(w, "second half")
		})
		r.make("slow.test", slow)
		got := make(chan string)
		go func() {
			answer, err := r.Visit(r.Port, "http://slow.test/")
			got <- fmt.Sprint(answer.Body, err)
		}()
		<-started
		before := r.workers()
		r.make("s.test", b1)
		r.Wants("http://s.test/", "B1")
		if now := r.workers(); strings.Join(now, " ") == strings.Join(before, " ") {
			r.T.Error("nginx was not reloaded")
		}
		close(finish)
		if body, want := <-got, "first half, second half<nil>"; body != want {
			r.T.Errorf("got %q, want %q", body, want)
		}
	})
}
