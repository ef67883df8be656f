package apachetest

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers/web/webtest"
)

// Suites are groups of items; a subtest's name begins with the numbers of its items. Each suite begins by removing every
// site, so they can follow one another on one host, in this order.
var Suites = []struct {
	Name string
	Run  func(*testing.T, *Rig)
}{
	{"sites", sites}, {"TLS", tlsSites}, {"ports", ports}, {"update and delete", updateAndDelete}, {"reconfigure", reconfigure},
	{"statistics", statistics}, {"default certificate", defaultCertificate}, {"service", service},
}

func (r *Rig) begin(t *testing.T) {
	t.Helper()
	var paths []string
	r.do(t, "reconfigure", obj{"async": false, "vhosts": []any{}}, &paths)
	r.wantPage(t, "nobody.test", "default site")
}

func sites(t *testing.T, r *Rig) {
	r.begin(t)
	t.Run("5, 7: a site is served from its root, which stays as it is", func(t *testing.T) {
		root := r.Roots + "/own.test"
		r.Write(t, root+"/index.html", 0o640, []byte("mine"))
		r.exec(t, "chown", "-R", r.User, root)
		before := r.exec(t, "find", root, "-printf", "%p %m %u %T@\n")
		r.create(t, "own.test", r.Port)
		r.wantPage(t, "own.test", "mine")
		r.wantText(t, before, "find", root, "-printf", "%p %m %u %T@\n")
	})
	t.Run("6, 9: a root that is missing is made, and served from outside /var/www", func(t *testing.T) {
		r.create(t, "made.test", r.Port)
		r.wantPage(t, "made.test", "It works")
		for _, p := range []string{r.Roots + "/made.test", r.Roots + "/made.test/index.html"} {
			r.wantText(t, r.User, "stat", "-c", "%U", p)
		}
	})
	t.Run("8: directories of logs are made", func(t *testing.T) {
		for _, log := range []string{"access.log", "error.log"} {
			if !r.exists(t, r.Logs+"/made.test/"+log) {
				t.Errorf("Apache has opened no %s", log)
			}
		}
	})
	t.Run("10: the same call again writes nothing", func(t *testing.T) {
		before := r.exec(t, "stat", "-c", "%i %y", r.file("own.test", r.Port))
		r.create(t, "own.test", r.Port)
		r.wantText(t, before, "stat", "-c", "%i %y", r.file("own.test", r.Port))
	})
	t.Run("11: without reload the site waits for reload_service", func(t *testing.T) {
		late := r.site("late.test", r.Port)
		late["reload"] = "0"
		var path string
		r.do(t, "create_vhost", late, &path)
		if !r.exists(t, path) {
			t.Errorf("there is no %s", path)
		}
		r.wantPage(t, "late.test", "default site")
		r.null(t, "reload_service", obj{})
		r.wantPage(t, "late.test", "It works")
	})
	t.Run("17: an unknown directive is named, and the file is absent", func(t *testing.T) {
		defer r.unchanged(t)()
		bad := site("bad.test", r.Port, r.bogus("bad.test", r.Port))
		r.refused(t, "Bogus", "create_vhost", bad)
		r.refused(t, r.file("bad.test", r.Port), "create_vhost", bad)
	})
	t.Run("17: the version before a bad one stays, and a restart works", func(t *testing.T) {
		check := r.unchanged(t)
		r.refused(t, "InitdError: ", "create_vhost", site("own.test", r.Port, r.bogus("own.test", r.Port)))
		check()
		r.null(t, "restart_service", obj{"reason": "test"})
		r.wantPage(t, "own.test", "mine")
	})
	t.Run("18: an unclosed section is refused", func(t *testing.T) {
		defer r.unchanged(t)()
		r.refused(t, "ParseError: line 1: <VirtualHost> is not closed", "create_vhost", site("open.test", r.Port, "<VirtualHost *:80>\n"))
	})
	t.Run("21: bad names and ports make no file anywhere", func(t *testing.T) {
		before := r.paths(t)
		defer r.unchanged(t)()
		for _, name := range []string{"../../x", "a;b", "a\nb", "", "a{b", "a b", "-a.test", strings.Repeat("a.", 150) + "test", strings.Repeat("a", 64), "$HOME", `a"b`, "a/b", "..", "a..b", "a.test\x00"} {
			r.refused(t, "ValueError: ", "create_vhost", site(name, r.Port, r.template("x.test", r.Port)))
		}
		for _, port := range []any{0, 70000, -1, "0", "70000", "80x", "", "-1", "080", " 80", "1e3", "80\nListen 81"} {
			r.refused(t, "ValueError: ", "create_vhost", site("x.test", port, r.template("x.test", r.Port)))
		}
		if after := r.paths(t); after != before {
			t.Errorf("got paths\n%s\nwant\n%s", after, before)
		}
	})
	t.Run("S13: the system's own directories are no document roots", func(t *testing.T) {
		defer r.unchanged(t)()
		for _, root := range []string{
			"/", "/etc", "/usr", "/proc/x", "/var/../etc", "/dev/shm/x", r.PrivateDir + "/x", "/etc/reeve/private.d/keys", "/root/site/www",
			"/boot/a/b", "/sys/kernel", "/run/user/0/www", "/var/run/www",
		} {
			r.refused(t, "ValueError: ", "create_vhost",
				site("x.test", r.Port, fmt.Sprintf("<VirtualHost *:%d>\nDocumentRoot %s\n</VirtualHost>", r.Port, root)))
		}
	})
}

func tlsSites(t *testing.T, r *Rig) {
	r.begin(t)
	cert, key, chain := webtest.Certificate(t, "shop.test", true)
	_, otherKey, _ := webtest.Certificate(t, "other.test", false)
	r.Coordinator.Give("77", cert, key, chain)
	r.Coordinator.Give("78", cert, otherKey, nil)
	r.Coordinator.Give("79", []byte("junk"), key, nil)
	r.Coordinator.Asked()
	shop := func(id any, template string) obj {
		return obj{"hostname": "shop.test", "port": r.TLSPort, "template": template, "ssl": "1", "ssl_certificate_id": id}
	}
	template := r.tlsTemplate("shop.test")

	t.Run("12: without ssl no certificate is fetched and mod_ssl is not enabled", func(t *testing.T) {
		plain := r.site("plain.test", r.Port)
		plain["ssl_certificate_id"] = "77"
		var path string
		r.do(t, "create_vhost", plain, &path)
		r.wantPage(t, "plain.test", "It works")
		r.wantAsked(t)
		if r.TLSModule != "" && r.exists(t, r.TLSModule) {
			t.Errorf("%s is there", r.TLSModule)
		}
	})
	t.Run("16: a template without certificate directives is refused", func(t *testing.T) {
		defer r.unchanged(t)()
		r.refused(t, "ApacheError: ", "create_vhost", shop("77", r.template("shop.test", r.TLSPort)))
		r.wantAsked(t)
	})
	pid, uptime := r.pid(t), r.number(t, "ServerUptimeSeconds")
	t.Run("19: a key of another certificate is refused before the reload", func(t *testing.T) {
		reloads := r.reloads(t)
		defer r.unchanged(t)()
		r.refused(t, "do not fit together", "create_vhost", shop("78", template))
		r.refused(t, "do not fit together", "create_vhost", shop(79, template))
		if got := r.reloads(t); got != reloads {
			t.Errorf("Apache was reloaded %d times", got-reloads)
		}
		r.wantAsked(t, "78", "79")
	})
	t.Run("an unknown certificate is refused", func(t *testing.T) {
		defer r.unchanged(t)()
		r.refused(t, "there is no certificate", "create_vhost", shop("80", template))
		r.wantAsked(t, "80")
		r.refused(t, "ValueError: invalid certificate id", "create_vhost", shop("../80", template))
		r.wantAsked(t)
	})
	t.Run("13, 14: a fetched certificate is presented with its chain", func(t *testing.T) {
		var path string
		r.do(t, "create_vhost", shop(77, template), &path)
		r.wantAsked(t, "77")
		r.wantCertificates(t, "shop.test", cert, chain)
		for name, mode := range map[string]string{"https_77.key": "600", "https_77.crt": "644", "https_77-ca.crt": "644", "": "700"} {
			r.wantText(t, mode, "stat", "-c", "%a", r.key(name))
		}
	})
	t.Run("15: a certificate on disk is not asked for again", func(t *testing.T) {
		var path string
		r.do(t, "create_vhost", shop("77", template), &path)
		r.wantAsked(t)
	})
	t.Run("22: without a port an update keeps the port", func(t *testing.T) {
		r.null(t, "update_vhost", obj{"signature": []any{"shop.test", r.TLSPort}, "hostname": "shop2.test"})
		if r.exists(t, r.file("shop.test", r.TLSPort)) || !r.exists(t, r.file("shop2.test", r.TLSPort)) {
			t.Error("the file has not moved to the new name")
		}
		r.wantCertificates(t, "shop2.test", cert, chain)
	})
	t.Run("the template's own pair is checked too", func(t *testing.T) {
		defer r.unchanged(t)()
		own := shop(nil, strings.ReplaceAll(template, "/dummy/https.crt", r.key("https_77.crt")))
		own["ssl"] = "0"
		r.refused(t, "key file /dummy/https.key cannot be read", "create_vhost", own)
	})
	t.Run("19: five seconds later Apache still runs", func(t *testing.T) {
		eventually(t, "Apache has been up for five seconds more", func() bool { return r.number(t, "ServerUptimeSeconds") >= uptime+5 })
		if got := r.pid(t); got != pid {
			t.Errorf("Apache's process is %s, want %s as before", got, pid)
		}
	})
}

func ports(t *testing.T, r *Rig) {
	r.begin(t)
	t.Run("20: a port is listened on while a site has it", func(t *testing.T) {
		one := r.site("one.test", r.OtherPort)
		one["allow_port"] = true
		var path string
		r.do(t, "create_vhost", one, &path)
		r.create(t, "two.test", r.OtherPort) // a second Listen of the same port would be a syntax error
		r.wantPageAt(t, r.OtherPort, "one.test", "It works")
		r.wantPageAt(t, r.OtherPort, "two.test", "It works")
		r.remove(t, "one.test", r.OtherPort)
		r.wantPageAt(t, r.OtherPort, "two.test", "It works")
		r.remove(t, "two.test", r.OtherPort)
		if got, err := r.get(r.OtherPort, "http://two.test/"); err == nil {
			t.Errorf("the port still answers %d", got.Status)
		}
		r.wantPage(t, "nobody.test", "default site")
	})
}

func updateAndDelete(t *testing.T, r *Rig) {
	r.begin(t)
	r.create(t, "a.test", r.Port)
	r.create(t, "z.test", r.Port)
	root := r.exec(t, "sha256sum", r.Roots+"/a.test/index.html")
	signature := []any{"a.test", r.Port}

	t.Run("3, 23: identical data is null", func(t *testing.T) {
		defer r.unchanged(t)()
		r.null(t, "update_vhost", obj{"signature": signature})
		r.null(t, "update_vhost", obj{"signature": signature, "hostname": "a.test", "port": r.Port, "template": r.template("a.test", r.Port), "ssl": "0"})
	})
	t.Run("24: a broken template leaves file and site", func(t *testing.T) {
		defer r.unchanged(t)()
		r.refused(t, "Bogus", "update_vhost", obj{"signature": signature, "template": r.bogus("a.test", r.Port)})
		r.refused(t, "Bogus", "update_vhost", obj{"signature": signature, "hostname": "c.test", "template": r.bogus("c.test", r.Port)})
		r.refused(t, "ParseError: ", "update_vhost", obj{"signature": signature, "template": "<VirtualHost *:80>\n"})
		r.wantText(t, root, "sha256sum", r.Roots+"/a.test/index.html")
	})
	t.Run("22: a rename moves the file and is served", func(t *testing.T) {
		r.null(t, "update_vhost", obj{"signature": signature, "hostname": "b.test", "port": fmt.Sprint(r.Port)})
		if r.exists(t, r.file("a.test", r.Port)) {
			t.Error("the old file is there")
		}
		if text := r.exec(t, "cat", r.file("b.test", r.Port)); !strings.Contains(text, "ServerName b.test") {
			t.Errorf("got %s", text)
		}
		r.wantPage(t, "b.test", "It works")
		r.wantPage(t, "a.test", "default site")
	})
	t.Run("an unknown site without a template is an error", func(t *testing.T) {
		defer r.unchanged(t)()
		r.refused(t, "ValueError: ", "update_vhost", obj{"signature": []any{"none.test", 80}, "hostname": "x.test"})
	})
	t.Run("27: only parsed files of ours are listed", func(t *testing.T) {
		unparsed := r.file("unparsed.test", r.Port)
		r.Write(t, r.PrivateDir+"/vhosts/x.conf", 0o644, []byte("Bogus\n"))
		r.Write(t, unparsed, 0o644, []byte("<IfModule no_such_module>\n"+r.template("unparsed.test", r.Port)+"</IfModule>\n"))
		var got []string
		r.do(t, "list_served_virtual_hosts", obj{}, &got)
		if want := []string{fmt.Sprintf("b.test-%d.vhost.conf", r.Port), fmt.Sprintf("z.test-%d.vhost.conf", r.Port)}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		r.exec(t, "rm", unparsed, r.PrivateDir+"/vhosts/x.conf")
	})
	t.Run("25: a deleted site falls back to the default one and keeps its root", func(t *testing.T) {
		r.remove(t, "b.test", r.Port)
		if r.exists(t, r.file("b.test", r.Port)) {
			t.Error("the file is there")
		}
		r.wantPage(t, "b.test", "default site")
		r.wantText(t, root, "sha256sum", r.Roots+"/a.test/index.html")
	})
	t.Run("25: one that is named twice is deleted once", func(t *testing.T) {
		r.create(t, "twice.test", r.Port)
		ref := []any{"twice.test", r.Port}
		r.null(t, "delete_vhosts", obj{"vhosts": []any{ref, ref}})
		r.wantPage(t, "twice.test", "default site")
	})
	t.Run("3, 26: deleting what is not there, or nothing, is null", func(t *testing.T) {
		defer r.unchanged(t)()
		r.null(t, "delete_vhosts", obj{"vhosts": []any{[]any{"nope", 80}}})
		r.null(t, "delete_vhosts", obj{"vhosts": []any{}})
		r.wantPage(t, "z.test", "It works")
	})
}

var uuid = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

func reconfigure(t *testing.T, r *Rig) {
	r.begin(t)
	set := func(sites ...obj) obj { return obj{"async": false, "vhosts": append([]obj{}, sites...)} }
	broken := func(name string) obj { return site(name, r.Port, r.bogus(name, r.Port)) }
	r.create(t, "third.test", r.Port)

	t.Run("28, 29: exactly the list is left, after one reload", func(t *testing.T) {
		reloads := r.reloads(t)
		var got []string
		r.do(t, "reconfigure", set(r.site("b.test", r.Port), r.site("a.test", r.Port)), &got)
		if want := []string{r.file("b.test", r.Port), r.file("a.test", r.Port)}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		if n := r.reloads(t) - reloads; n != 1 {
			t.Errorf("got %d reloads, want one", n)
		}
		if r.exists(t, r.file("third.test", r.Port)) {
			t.Error("the third file is there")
		}
		r.wantPage(t, "third.test", "default site")
		r.wantPage(t, "a.test", "It works")
		r.wantPage(t, "b.test", "It works")
	})
	for item, rollback := range map[string]string{"30": "1", "31": "0"} {
		t.Run(item+": a broken element leaves everything as it was", func(t *testing.T) {
			defer r.unchanged(t)()
			params := set(r.site("c.test", r.Port), broken("d.test"))
			params["rollback_on_error"] = rollback
			r.refused(t, "Bogus", "reconfigure", params)
			r.wantPage(t, "a.test", "It works")
			r.wantPage(t, "b.test", "It works")
			r.wantPage(t, "c.test", "default site")
		})
	}
	inBackground := func(t *testing.T, params obj) string {
		t.Helper()
		delete(params, "async") // true is the default
		var id string
		if r.do(t, "reconfigure", params, &id); !uuid.MatchString(id) {
			t.Fatalf("got %q, want an operation's id", id)
		}
		return id
	}
	t.Run("32: in the background", func(t *testing.T) {
		record := r.ended(t, inBackground(t, set(r.site("e.test", r.Port))))
		if got := fmt.Sprintf("%s", record.Result); record.Status != agentapi.OperationCompleted || record.Name != "api.apache.reconfigure" || !strings.Contains(got, r.file("e.test", r.Port)) {
			t.Errorf("got %+v", record)
		}
		r.wantPage(t, "e.test", "It works")
	})
	t.Run("32: in the background, one that fails says why", func(t *testing.T) {
		defer r.unchanged(t)()
		record := r.ended(t, inBackground(t, set(broken("f.test"))))
		if record.Status != agentapi.OperationFailed || record.Error == nil || !strings.Contains(*record.Error, "Bogus") {
			t.Errorf("got %+v", record)
		}
	})
	t.Run("33: a second one beside it is refused", func(t *testing.T) {
		defer r.unchanged(t)()
		release := r.Coordinator.hold(t, "held")
		id := inBackground(t, set(obj{"hostname": "held.test", "port": r.TLSPort, "ssl": "1", "ssl_certificate_id": "held", "template": r.tlsTemplate("held.test")}))
		for _, async := range []bool{true, false} {
			_, err := r.try(t, "reconfigure", obj{"vhosts": []any{}, "async": async})
			if err == nil || !strings.HasPrefix(err.Error(), "AlreadyInProgressError: ") || !strings.Contains(err.Error(), "api.apache.reconfigure") || !strings.Contains(err.Error(), id) {
				t.Errorf("async %v: got %v, want an AlreadyInProgressError that names %s", async, err, id)
			}
		}
		release()
		if record := r.ended(t, id); record.Status != agentapi.OperationFailed || record.Error == nil || !strings.Contains(*record.Error, "there is no certificate") {
			t.Errorf("got %+v", record)
		}
	})
	t.Run("34: without a list the coordinator's is taken", func(t *testing.T) {
		r.Coordinator.SetSites(agentapi.VHost{Hostname: "far.test", Port: agentapi.Text(fmt.Sprint(r.Port)), Template: r.template("far.test", r.Port)})
		var got []string
		r.do(t, "reconfigure", obj{"async": "0", "vhosts": nil}, &got)
		if want := []string{r.file("far.test", r.Port)}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		r.wantPage(t, "far.test", "It works")
		r.wantPage(t, "e.test", "default site")
	})
	t.Run("34: an empty list leaves no site", func(t *testing.T) {
		if got, err := r.try(t, "reconfigure", set()); err != nil || string(got) != "[]" {
			t.Errorf("got %s, %v, want []", got, err)
		}
		r.wantText(t, "", "find", r.PrivateDir+"/vhosts", "-type", "f")
		r.wantPage(t, "far.test", "default site")
	})
}

func statistics(t *testing.T, r *Rig) {
	r.begin(t)
	t.Run("35: Apache's own numbers", func(t *testing.T) {
		got := r.statistics(t)
		for _, key := range []string{"Uptime", "Total Accesses", "Total kBytes", "BusyWorkers", "IdleWorkers", "Scoreboard"} {
			if got[key] == "" {
				t.Errorf("%s is missing in %v", key, got)
			}
		}
		if strings.Count(got["CurrentTime"], ":") != 2 || got["errmsg"] != "" {
			t.Errorf("got time %q, %q", got["CurrentTime"], got["errmsg"])
		}
	})
	fails := func(t *testing.T, want string) {
		t.Helper()
		if got := r.statistics(t); len(got) != 1 || got["errmsg"] != want {
			t.Errorf("got %v, want errmsg %q", got, want)
		}
	}
	t.Run("36: where they may not be read", func(t *testing.T) {
		denied := r.SitesDir + "/zz-status-denied.conf"
		r.Write(t, denied, 0o644, []byte("<Location /server-status>\n   Require all denied\n</Location>\n"))
		r.null(t, "reload_service", obj{})
		fails(t, "HTTP Error 403: Forbidden")
		r.exec(t, "rm", denied)
	})
	t.Run("36: without mod_status", func(t *testing.T) {
		r.exec(t, "mv", r.StatusModule, r.StatusModule+".off")
		r.null(t, "reload_service", obj{})
		fails(t, "mod_status is not enabled")
		r.exec(t, "mv", r.StatusModule+".off", r.StatusModule)
		r.null(t, "reload_service", obj{})
		if got := r.statistics(t); got["Scoreboard"] == "" {
			t.Errorf("with it again: got %v", got)
		}
	})
	t.Run("36: a stopped Apache", func(t *testing.T) {
		r.null(t, "stop_service", obj{})
		fails(t, "Connection refused")
		r.null(t, "start_service", obj{})
	})
}

func service(t *testing.T, r *Rig) {
	r.begin(t)
	r.create(t, "a.test", r.Port)
	status := func(t *testing.T, want string) {
		t.Helper()
		if got, err := r.try(t, "get_service_status", obj{}); string(got) != want || err != nil {
			t.Errorf("status: got %s, %v, want %s", got, err, want)
		}
	}
	t.Run("3, 38, 39: each verb returns null and does what it says", func(t *testing.T) {
		r.null(t, "configtest", obj{})
		status(t, "0")
		pid := r.pid(t)
		r.null(t, "start_service", obj{})
		r.null(t, "reload_service", obj{"reason": "test"})
		if got := r.pid(t); got != pid {
			t.Error("starting or reloading a running Apache replaced it")
		}
		r.null(t, "restart_service", obj{"reason": "test"})
		if got := r.pid(t); got == pid {
			t.Error("a restart kept the process")
		}
		r.wantPage(t, "a.test", "It works")
		r.null(t, "stop_service", obj{"reason": "test"})
		r.null(t, "stop_service", obj{})
		status(t, "3")
		if got, err := r.get(r.Port, "http://a.test/"); err == nil {
			t.Errorf("a stopped Apache answers %d", got.Status)
		}
		r.null(t, "reload_service", obj{})
		status(t, "0")
		r.wantPage(t, "a.test", "It works")
		r.null(t, "start_service", obj{})
	})
	t.Run("38: what was started serves at once, and can be reloaded", func(t *testing.T) {
		for range 3 {
			r.null(t, "restart_service", obj{})
			r.wantPage(t, "a.test", "It works")
			r.null(t, "stop_service", obj{})
			r.null(t, "reload_service", obj{}) // starts it
			r.null(t, "reload_service", obj{})
			r.wantPage(t, "a.test", "It works")
		}
	})
	t.Run("4, 38: a line that was broken by hand is named and keeps Apache as it is", func(t *testing.T) {
		r.exec(t, "cp", "-p", r.Conf, r.Conf+".good")
		r.Write(t, r.Conf, 0o644, []byte(r.exec(t, "cat", r.Conf)+"\nBogus on\n"))
		check := r.unchanged(t)
		for _, method := range []string{"configtest", "restart_service", "reload_service"} {
			r.refused(t, "InitdError: ", method, obj{})
			r.refused(t, r.Conf, method, obj{})
		}
		r.refused(t, "the configuration was broken before this call", "create_vhost", r.site("b.test", r.Port))
		check()
		r.exec(t, "mv", r.Conf+".good", r.Conf)
		r.null(t, "configtest", obj{})
		r.create(t, "b.test", r.Port)
		r.wantPage(t, "b.test", "It works")
	})
}

func defaultCertificate(t *testing.T, r *Rig) {
	r.begin(t)
	r.EnableTLSSite(t)
	system, packaged := []byte(r.exec(t, "cat", r.SystemCert)), r.exec(t, "cat", r.TLSSite)
	method := "set_default_ssl_certificate"
	sets := func(t *testing.T, id any, file string, want ...[]byte) {
		t.Helper()
		reloads := r.reloads(t)
		r.null(t, method, obj{"id": id})
		if n := r.reloads(t) - reloads; n != 0 {
			t.Errorf("%v: got %d reloads, want none", id, n)
		}
		if text := r.exec(t, "cat", r.TLSSite); !strings.Contains(text, file) {
			t.Errorf("%v: the site names no %s:\n%s", id, file, text)
		}
		before := r.Tree(t)
		r.null(t, method, obj{"id": id})
		if r.Tree(t) != before {
			t.Errorf("%v: a repeated call changed files", id)
		}
		pid := r.pid(t)
		r.null(t, "reload_service", obj{})
		if got := r.wantCertificates(t, "default.test", want...); !strings.Contains(got.Body, "default site") || r.pid(t) != pid {
			t.Errorf("%v: got %q of process %s, want the default site of %s", id, got.Body, r.pid(t), pid)
		}
	}
	t.Run("3, 37: with files the TLS site names them, with their chain", func(t *testing.T) {
		cert, _, chain := r.pair(t, r.key("https_577"), "default.test")
		sets(t, "577", r.key("https_577.crt"), cert)
		other, _, _ := r.pair(t, r.key("https_578"), "default.test")
		sets(t, 578, r.key("https_578.key"), other)
		r.Write(t, r.key("https_577-ca.crt"), 0o644, chain)
		sets(t, "577", r.key("https_577-ca.crt"), cert, chain)
	})
	t.Run("37: without them, or without the key, it is the system's pair", func(t *testing.T) {
		r.Coordinator.Asked()
		sets(t, "999", r.SystemCert, system)
		cert, _, _ := webtest.Certificate(t, "default.test", false)
		r.Write(t, r.key("https_5.crt"), 0o644, cert)
		sets(t, "5", r.SystemKey, system)
		sets(t, nil, r.SystemCert, system)
		r.wantAsked(t)
	})
	t.Run("the rest of the site stays as the package has it", func(t *testing.T) {
		normal := func(text string) string { return strings.Join(strings.Fields(text), " ") }
		if got, want := normal(r.exec(t, "cat", r.TLSSite)), normal(packaged); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	})
	t.Run("37: no id is the default certificate", func(t *testing.T) {
		cert, _, _ := r.pair(t, r.key("https"), "default.test")
		for _, id := range []any{nil, "", "0"} {
			sets(t, id, r.key("https.crt"), cert)
		}
	})
	t.Run("what Apache would die of is refused", func(t *testing.T) {
		cert, _, _ := webtest.Certificate(t, "default.test", false)
		_, key, _ := webtest.Certificate(t, "default.test", false)
		r.Write(t, r.key("https_6.crt"), 0o644, cert)
		r.Write(t, r.key("https_6.key"), 0o600, key)
		r.Write(t, r.key("https_577-ca.crt"), 0o644, nil)
		r.exec(t, "rm", r.SystemKey)
		defer r.unchanged(t)()
		r.refused(t, "ValueError: certificate and key do not fit together", method, obj{"id": "6"})
		r.refused(t, "ValueError: invalid certificate id", method, obj{"id": "../x"})
		r.refused(t, "InitdError: ", method, obj{"id": "577"})
		r.refused(t, `ApacheError: certificate "999" is not on this host, and neither is the system's own`, method, obj{"id": "999"})
	})
	t.Run("a configuration that was broken before is not blamed on the call", func(t *testing.T) {
		other := r.SitesDir + "/other.conf"
		r.Write(t, other, 0o644, []byte("Bogus on\n"))
		check := r.unchanged(t)
		r.refused(t, "InitdError: nothing was changed, since the configuration was broken before this call", method, obj{"id": "578"})
		check()
		r.exec(t, "rm", other)
	})
	t.Run("a site without certificates, and no site at all, are clear errors", func(t *testing.T) {
		r.Write(t, r.TLSSite, 0o644, []byte("<VirtualHost *:1>\n</VirtualHost>\n"))
		r.refused(t, "default-ssl.conf lacks SSLCertificateFile", method, obj{"id": "578"})
		r.exec(t, "rm", r.TLSSite, r.SitesDir+"/default-ssl.conf")
		r.refused(t, "ApacheError: there is no default TLS site", method, obj{"id": "578"})
	})
}
