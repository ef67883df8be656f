//go:build e2e

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/crypto/authority"
	"github.com/reeve-paas/reeve/crypto/keyring"
)

// conpaas is a user of the Director with curl and openssl.
type conpaas struct {
	*site
	url string // of the Director
	dir string // of the certificate's files
}

const directorNetwork = 77

func newDirector(t *testing.T, network int) *conpaas {
	t.Helper()
	port := freePort(t)
	s := newSiteWith(t, fmt.Sprintf(`agent_package: %s/dist/reeve-agent.deb
clouds:
  nspawn: {engine: nspawn, bridge: rve%d, subnet: 10.90.%d.0/24}
default_cloud: nspawn
service_zone: conpaas.test
director_listen: 127.0.0.1:%d
`, top, network, network, port))
	config, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(config), `listen: ""`, fmt.Sprintf(`listen: ":%d"`, freePort(t)), 1) // nodes fetch archives
	if err := os.WriteFile(s.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s.start(0)
	return &conpaas{site: s, url: fmt.Sprintf("https://127.0.0.1:%d", port)}
}

// as gives the user's certificate files to another directory of the same Director.
func (c *conpaas) as(dir string) *conpaas { return &conpaas{site: c.site, url: c.url, dir: dir} }

// run runs a program and returns what it says.
func (c *conpaas) run(name string, args ...string) string {
	c.t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		c.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func (c *conpaas) file(name string) string { return filepath.Join(c.dir, name) }

// curl asks with the user's certificate, which checks the other side's too.
func (c *conpaas) curl(url string, args ...string) string {
	c.t.Helper()
	out, err := c.tryCurl(url, args...)
	if err != nil {
		c.t.Fatalf("curl %s: %v\n%s", url, err, out)
	}
	return out
}

func (c *conpaas) tryCurl(url string, args ...string) (string, error) {
	all := []string{"-sS", "-m", "90"}
	if c.dir != "" {
		all = append(all, "--cacert", c.file("ca_cert.pem"), "--cert", c.file("cert.pem"), "--key", c.file("key.pem"))
	} else {
		all = append(all, "-k")
	}
	out, err := exec.Command("curl", append(append(all, args...), url)...).CombinedOutput()
	return string(out), err
}

// bothAnswer waits until the router has shown what each of a service's two nodes serves.
func (c *conpaas) bothAnswer(sid int64) {
	c.t.Helper()
	router := c.nodeWith("router")
	seen := map[string]bool{}
	c.await(30*time.Second, "both nodes to answer through the router", func() (bool, string) {
		status, body := c.fetch(router.Address, fmt.Sprintf("service-%d.conpaas.test", sid), "/")
		if status == 200 {
			seen[body] = true
		}
		return len(seen) == 2, fmt.Sprint(status, seen)
	})
}

// expired is a user with a certificate that the Director's own authority made for the past.
func (c *conpaas) expired(root string) *conpaas {
	c.t.Helper()
	dir := filepath.Join(c.site.dir, "expired")
	if err := writeExpired(filepath.Join(c.site.dir, "data"), dir); err != nil {
		c.t.Fatal(err)
	}
	c.run("cp", root, filepath.Join(dir, "ca_cert.pem"))
	return c.as(dir)
}

func writeExpired(data, dir string) error {
	sealer, err := keyring.OpenSealer(filepath.Join(data, "master.key"))
	if err != nil {
		return err
	}
	ca, err := authority.Open(data, authority.Director, sealer, nil)
	if err != nil {
		return err
	}
	pair, err := ca.IssuePair(authority.Order{Client: true, Life: -time.Minute, Identity: authority.Identity{CommonName: "ann", Role: authority.RoleUser, UID: 1}})
	if err != nil {
		return err
	}
	cert, key, err := authority.PEM(pair)
	if err != nil {
		return err
	}
	return errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(filepath.Join(dir, "cert.pem"), cert, 0o600), os.WriteFile(filepath.Join(dir, "key.pem"), key, 0o600))
}

func (c *conpaas) director(path string, fields ...string) string {
	c.t.Helper()
	var args []string
	for _, f := range fields {
		args = append(args, "--data-urlencode", f)
	}
	if len(fields) == 0 {
		args = []string{"-d", ""}
	}
	return c.curl(c.url+path, args...)
}

func (c *conpaas) parse(text string, v any) {
	c.t.Helper()
	if err := json.Unmarshal([]byte(text), v); err != nil {
		c.t.Fatalf("got %q: %v", text, err)
	}
}

func (c *conpaas) credit() string { c.t.Helper(); return c.curl(c.url + "/user_credit") }

type conpaasService struct {
	SID     int64  `json:"sid"`
	Name    string `json:"name"`
	State   string `json:"state"`
	Manager string `json:"manager"`
	VMID    string `json:"vmid"`
}

// ask calls a method of a service's manager that only reads.
func (c *conpaas) ask(s conpaasService, method, params string, result any) {
	c.t.Helper()
	args := []string{"-G", "-H", "Content-Type: application/json", "-d", "method=" + method, "-d", "id=1"}
	if params != "" {
		args = append(args, "--data-urlencode", "params="+params)
	}
	c.answer(c.curl("https://"+s.Manager+"/", args...), method, result)
}

// tell calls a method that changes something.
func (c *conpaas) tell(s conpaasService, method, params string, result any) {
	c.t.Helper()
	body := fmt.Sprintf(`{"method": %q, "params": %s, "id": "1"}`, method, params)
	c.answer(c.curl("https://"+s.Manager+"/", "-H", "Content-Type: application/json", "-d", body), method, result)
}

func (c *conpaas) answer(text, method string, result any) {
	c.t.Helper()
	var a struct {
		Result json.RawMessage
		Error  any
	}
	c.parse(text, &a)
	if a.Error != nil || a.Result == nil {
		c.t.Fatalf("%s: got %s", method, text)
	}
	if result != nil {
		c.parse(string(a.Result), result)
	}
}

func (c *conpaas) reaches(s conpaasService, state string) {
	c.t.Helper()
	c.await(2*time.Minute, "state "+state, func() (bool, string) {
		var info struct{ State string }
		c.ask(s, "get_service_info", "", &info)
		if info.State == "STOPPED" && state == "RUNNING" {
			var log struct{ Log string }
			c.ask(s, "getLog", "", &log)
			c.t.Fatalf("the service was stopped:\n%s", log.Log)
		}
		return info.State == state, info.State
	})
}

// addresses of the nodes that have a role.
func (c *conpaas) addresses(s conpaasService, role string) []string {
	c.t.Helper()
	var nodes map[string][]string
	c.ask(s, "list_nodes", "", &nodes)
	var all []string
	for _, id := range nodes[role] {
		var info struct {
			ServiceNode struct{ IP, Cloud string } `json:"serviceNode"`
		}
		c.ask(s, "get_node_info", fmt.Sprintf(`{"serviceNodeId": %q}`, id), &info)
		all = append(all, info.ServiceNode.IP)
	}
	return all
}

// certificates fetches a user's zip and unpacks it.
func (c *conpaas) certificates(name, password string) *conpaas {
	c.t.Helper()
	dir := filepath.Join(c.site.dir, "user-"+name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		c.t.Fatal(err)
	}
	zip := filepath.Join(dir, "certs.zip")
	c.curl(c.url+"/getcerts", "--data-urlencode", "username="+name, "--data-urlencode", "password="+password, "-o", zip)
	c.run("python3", "-m", "zipfile", "-e", zip, dir)
	return c.as(dir)
}

func (c *conpaas) user(name string) *conpaas {
	c.t.Helper()
	var user struct {
		UID      int64
		Username string
	}
	c.parse(c.director("/new_user", "username="+name, "fname=F", "lname=L", "email="+name+"@example.org", "affiliation=VU", "password=pw of "+name, "credit=10", "uuid=<none>"), &user)
	if user.UID == 0 || user.Username != name {
		c.t.Fatalf("new_user: got %+v", user)
	}
	return c.certificates(name, "pw of "+name)
}

func (c *conpaas) want(what string, got, want any) {
	c.t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		c.t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func TestConPaaSWithCurlAndOpenSSL(t *testing.T) {
	t.Parallel()
	d := newDirector(t, directorNetwork)
	ann, bob := d.user("ann"), d.user("bob")

	// The certificate says who it is and chains to the authority, and so does the Director's.
	d.run("openssl", "verify", "-x509_strict", "-CAfile", ann.file("ca_cert.pem"), ann.file("cert.pem"))
	subject := d.run("openssl", "x509", "-in", ann.file("cert.pem"), "-noout", "-subject", "-nameopt", "RFC2253,sep_multiline")
	for _, part := range []string{"CN=ann", "role=user", "UID=", "serviceLocator=0", "emailAddress=ann@example.org"} {
		if !strings.Contains(subject, part) {
			t.Errorf("the subject %q has no %s", subject, part)
		}
	}
	d.want("the authority", strings.Contains(d.run("openssl", "x509", "-in", ann.file("ca_cert.pem"), "-noout", "-subject"), "CN = CA"), true)

	var types []string
	d.parse(d.curl(d.url+"/available_services"), &types)
	if !slices.Contains(types, "php") || !slices.Contains(types, "mysql") {
		t.Fatalf("got the types %q", types)
	}

	// A site from nothing to 200.
	var service conpaasService
	ann.parse(ann.director("/start/php"), &service)
	d.want("state and name", service.State+" "+service.Name, "INIT New php service")
	d.want("credit", ann.credit(), 9)
	archive := filepath.Join(d.site.dir, "site.tar.gz")
	if err := os.WriteFile(filepath.Join(d.site.dir, "index.php"), []byte(`<?php echo "sum ", 40 + 2, " at ", $_SERVER["SERVER_ADDR"];`), 0o644); err != nil {
		t.Fatal(err)
	}
	d.run("tar", "-C", d.site.dir, "-czf", archive, "index.php")
	var code struct {
		ID string `json:"codeVersionId"`
	}
	ann.answer(ann.curl("https://"+service.Manager+"/", "-F", "method=upload_code_version", "-F", "description=first", "-F", "code=@"+archive), "upload", &code)
	ann.tell(service, "startup", `{"cloud": "default"}`, nil)
	ann.reaches(service, "RUNNING")
	ann.tell(service, "update_php_configuration", fmt.Sprintf(`{"codeVersionId": %q}`, code.ID), nil)
	ann.reaches(service, "RUNNING")
	serves := func(n int) {
		t.Helper()
		all := ann.addresses(service, "web")
		d.want("nodes", len(all), n)
		for _, ip := range all {
			d.want("the page of "+ip, d.run("curl", "-sS", "-m", "20", "-w", " %{http_code}", "http://"+ip+"/"), "sum 42 at "+ip+" 200")
		}
	}
	serves(1)

	// Two nodes, by the routers' name as well.
	ann.tell(service, "add_nodes", `{"backend": 1, "cloud": "default"}`, nil)
	ann.reaches(service, "RUNNING")
	d.want("credit", ann.credit(), 8)
	serves(2)
	d.bothAnswer(service.SID)

	// An archive that is too big for a request reaches both nodes, and the one before it comes back.
	if err := os.WriteFile(filepath.Join(d.site.dir, "index.php"), []byte(`<?php echo hash_file("sha256", "big.bin");`), 0o644); err != nil {
		t.Fatal(err)
	}
	d.run("dd", "if=/dev/urandom", "of="+filepath.Join(d.site.dir, "big.bin"), "bs=1M", "count=20", "status=none")
	sum, _, _ := strings.Cut(d.run("sha256sum", filepath.Join(d.site.dir, "big.bin")), " ")
	d.run("tar", "-C", d.site.dir, "-czf", archive, "index.php", "big.bin")
	var big struct {
		ID string `json:"codeVersionId"`
	}
	ann.answer(ann.curl("https://"+service.Manager+"/", "-F", "method=upload_code_version", "-F", "code=@"+archive), "upload", &big)
	ann.tell(service, "update_php_configuration", fmt.Sprintf(`{"codeVersionId": %q}`, big.ID), nil)
	ann.reaches(service, "RUNNING")
	for _, ip := range ann.addresses(service, "web") {
		d.want("the 20 MB on "+ip, d.run("curl", "-sS", "-m", "20", "http://"+ip+"/"), sum)
	}
	ann.tell(service, "update_php_configuration", fmt.Sprintf(`{"codeVersionId": %q}`, code.ID), nil)
	ann.reaches(service, "RUNNING")
	ann.tell(service, "delete_code_version", fmt.Sprintf(`{"codeVersionId": %q}`, big.ID), nil)
	serves(2)

	// Names, lists, and a coordinator that is killed meanwhile.
	d.want("rename", ann.director(fmt.Sprintf("/rename/%d", service.SID), "name=My site"), "true")
	d.site.process.Process.Kill()
	<-d.site.exited
	d.site.start(0)
	var rows []conpaasService
	d.await(20*time.Second, "the list after the restart", func() (bool, string) {
		out, err := ann.tryCurl(ann.url + "/list")
		return err == nil && json.Unmarshal([]byte(out), &rows) == nil, out
	})
	if len(rows) != 1 || rows[0].Name != "My site" || rows[0].State != "RUNNING" || rows[0].SID != service.SID {
		t.Errorf("got %+v", rows)
	}
	d.await(20*time.Second, "the manager after the restart", func() (bool, string) {
		out, err := ann.tryCurl("https://"+service.Manager+"/?method=get_service_info&id=1", "-H", "Content-Type: application/json")
		return err == nil && strings.Contains(out, "RUNNING"), out
	})
	serves(2)
	d.want("credit", ann.credit(), 8)

	t.Run("certificates that are not ann's get nowhere", func(t *testing.T) {
		d.want("bob's list", bob.curl(bob.url+"/list"), "[]")
		d.want("bob's stop", bob.director(fmt.Sprintf("/stop/%d", service.SID)), "false")
		out := bob.curl("https://"+service.Manager+"/?method=get_service_info&id=1", "-H", "Content-Type: application/json", "-w", " %{http_code}")
		d.want("bob at the manager", strings.HasSuffix(out, " 403"), true)
		nobody := d.as("")
		d.want("nobody", nobody.curl(nobody.url+"/list", "-w", " %{http_code}"), "false 401")
		if out, err := nobody.tryCurl("https://"+service.Manager+"/?method=get_service_info&id=1", "-H", "Content-Type: application/json", "-w", " %{http_code}"); err == nil && !strings.HasSuffix(out, " 403") {
			t.Errorf("nobody at the manager: got %s", out)
		}

		foreign := d.as(filepath.Join(d.site.dir, "foreign"))
		if err := os.MkdirAll(foreign.dir, 0o700); err != nil {
			t.Fatal(err)
		}
		d.run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", foreign.file("key.pem"), "-out", foreign.file("cert.pem"), "-days", "1", "-subj", "/CN=CA/UID=1/role=user")
		d.run("cp", ann.file("ca_cert.pem"), foreign.file("ca_cert.pem"))
		// openssl keeps a certificate to itself that the other side would not know; what is shown ends the handshake.
		if out, err := foreign.tryCurl(foreign.url+"/list", "-w", " %{http_code}"); err == nil && out != "false 401" {
			t.Errorf("a foreign certificate: got %s", out)
		}

		expired := d.expired(ann.file("ca_cert.pem"))
		if out, err := expired.tryCurl(expired.url + "/list"); err == nil || !strings.Contains(out, "expired") {
			t.Errorf("an expired certificate: got %v, %s", err, out)
		}

		// The manager's own: it spends credit and has agents' keys signed, and is no user.
		manager := d.as(filepath.Join(d.site.dir, "manager"))
		if out, err := d.command("manager-certificate", fmt.Sprint(service.SID), "--dir", manager.dir).CombinedOutput(); err != nil {
			t.Fatalf("manager-certificate: %v\n%s", err, out)
		}
		d.want("a manager as a user", manager.curl(manager.url+"/list", "-w", " %{http_code}"), "false 401")
		callback := func() string {
			return manager.director("/callback/decrementUserCredit.php", fmt.Sprintf("sid=%d", service.SID), "decrement=2")
		}
		d.want("its callback", callback(), `{"error":false}`)
		d.want("credit", ann.credit(), 6)
		d.run("openssl", "req", "-new", "-sha1", "-newkey", "rsa:2048", "-nodes", "-keyout", manager.file("agent.key"), "-out", manager.file("agent.csr"), "-subj", "/CN=CA/UID=1/role=user")
		cert := manager.curl(manager.url+"/ca/get_cert.php", "-F", "csr=@"+manager.file("agent.csr"))
		if err := os.WriteFile(manager.file("agent.pem"), []byte(cert), 0o600); err != nil {
			t.Fatal(err)
		}
		d.run("openssl", "verify", "-CAfile", manager.file("ca_cert.pem"), manager.file("agent.pem"))
		subject := d.run("openssl", "x509", "-in", manager.file("agent.pem"), "-noout", "-subject", "-nameopt", "RFC2253,sep_multiline")
		if !strings.Contains(subject, "role=agent") || strings.Contains(subject, "CN=CA") {
			t.Errorf("got the agent %q", subject)
		}

		// Its service ends, and with it what it may do.
		d.want("stop", ann.director(fmt.Sprintf("/stop/%d", service.SID)), "true")
		d.await(time.Minute, "the end of the service", func() (bool, string) {
			out := ann.curl(ann.url + "/list")
			return out == "[]", out
		})
		d.want("the revoked manager", manager.curl(manager.url+"/callback/decrementUserCredit.php", "-d", fmt.Sprintf("sid=%d&decrement=1", service.SID), "-w", " %{http_code}"), "false 401")
		d.want("again", ann.director(fmt.Sprintf("/stop/%d", service.SID)), "false")
	})

	// Nothing of it is left: no node but the router, and no address on the bridge but the host's.
	for _, n := range d.nodes() {
		if !slices.Contains(n.Roles, "router") {
			t.Errorf("the node %s is left", n.Name)
		}
	}
	bridge, err := net.InterfaceByName(fmt.Sprintf("rve%d", directorNetwork))
	if err != nil {
		t.Fatal(err)
	}
	addresses, err := bridge.Addrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addresses {
		if ip := a.(*net.IPNet).IP.To4(); ip != nil && !strings.HasSuffix(ip.String(), ".1") {
			t.Errorf("the address %s is left", ip)
		}
	}

	t.Run("scripts of a generic service run on its node, until the credit is used up", func(t *testing.T) {
		var service conpaasService
		bob.parse(bob.director("/start/generic"), &service)
		for name, text := range map[string]string{
			"init.sh":      "echo set up as $MY_ROLE >> /home/application/shared/seen",
			"run.sh":       "cat /home/application/shared/seen /var/cache/cpsagent/agents.json; echo told $1; id -un; cat /etc/shadow; sleep 1000",
			"interrupt.sh": "echo stopping",
			"cleanup.sh":   "rm /home/application/shared/seen; exit 3",
		} {
			if err := os.WriteFile(filepath.Join(bob.dir, name), []byte(text+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		archive := bob.file("scripts.tar.gz")
		d.run("tar", "-C", bob.dir, "-czf", archive, "init.sh", "run.sh", "interrupt.sh", "cleanup.sh")
		var code struct {
			ID string `json:"codeVersionId"`
		}
		bob.answer(bob.curl("https://"+service.Manager+"/", "-F", "method=upload_code_version", "-F", "code=@"+archive), "upload", &code)
		bob.tell(service, "enable_code", fmt.Sprintf(`{"codeVersionId": %q}`, code.ID), nil)
		bob.tell(service, "startup", `{"cloud": "default"}`, nil)
		bob.reaches(service, "RUNNING")
		var nodes struct{ Master, Node []string }
		bob.ask(service, "list_nodes", "", &nodes)
		script := func(name, want string) {
			t.Helper()
			bob.await(time.Minute, name+" "+want, func() (bool, string) {
				var status struct{ Agents map[string]map[string]string }
				bob.ask(service, "get_script_status", "", &status)
				return status.Agents[nodes.Master[0]][name] == want, fmt.Sprint(status)
			})
		}
		script("init.sh", "STOPPED (return code = 0)")
		bob.tell(service, "execute_script", `{"command": "run", "parameters": "a-parameter"}`, nil)
		script("run.sh", "RUNNING")
		bob.await(30*time.Second, "what run.sh prints", func() (bool, string) {
			var log struct{ Log string }
			bob.ask(service, "get_agent_log", fmt.Sprintf(`{"agentId": %q}`, nodes.Master[0]), &log)
			for _, part := range []string{"set up as master", `"role":"master"`, "told a-parameter", "app-", "/etc/shadow: Permission denied"} {
				if !strings.Contains(log.Log, part) {
					return false, part + " is not in " + log.Log
				}
			}
			return true, ""
		})
		bob.tell(service, "execute_script", `{"command": "interrupt"}`, nil)
		script("run.sh", "STOPPED")
		script("interrupt.sh", "STOPPED (return code = 0)")
		bob.tell(service, "execute_script", `{"command": "cleanup"}`, nil)
		script("cleanup.sh", "STOPPED (return code = 3)")

		// The credit goes, and the hour is over: the service ends by itself.
		if out, err := d.command("user", "credit", "--email", "bob@example.org", "--add", "-1000").CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != "0" {
			t.Fatalf("got %v, %s", err, out)
		}
		d.want("before the hour is over", strings.Contains(bob.curl(bob.url+"/list"), "RUNNING"), true)
		d.run("python3", "-c", "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], timeout=30); c.execute('UPDATE lease SET paid_until = 0'); c.commit()", filepath.Join(d.site.dir, "data", "reeve.db"))
		d.await(time.Minute, "the end of what cannot be paid", func() (bool, string) { out := bob.curl(bob.url + "/list"); return out == "[]", out })
		d.want("credit", bob.credit(), 0)
	})

	t.Run("without credit nothing starts", func(t *testing.T) {
		if out, err := d.command("user", "credit", "--email", "bob@example.org", "--add", "-1000").CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != "0" {
			t.Fatalf("got %v, %s", err, out)
		}
		if out := bob.director("/start/php"); !strings.Contains(out, "Not enough credits") {
			t.Errorf("got %s", out)
		}
		d.want("list", bob.curl(bob.url+"/list"), "[]")
	})
}

// TestConPaaSDatabaseAndOtherDialects starts a database as the administrator, who is seen through the Gandi API too.
func TestConPaaSDatabaseAndOtherDialects(t *testing.T) {
	t.Parallel()
	d := newDirector(t, directorNetwork+1)
	admin := d.certificates(d.site.admin.Email, d.site.admin.Password)
	var service conpaasService
	admin.parse(admin.director("/start/mysql"), &service)
	admin.tell(service, "startup", `{"cloud": "default"}`, nil)
	admin.reaches(service, "RUNNING")
	admin.tell(service, "set_password", `{"user": "mysqldb", "password": "correct-horse-42"}`, nil)
	ip := admin.addresses(service, "nodes")[0]
	d.want("a table", d.run("mysql", "-h", ip, "-u", "mysqldb", "-pcorrect-horse-42", "-N", "-B", "-e", "CREATE TABLE t (n INT); INSERT INTO t VALUES (42); SELECT n FROM t", "mysqldb"), "42\n")
	query := func(sql string) string {
		return d.run("mysql", "-h", ip, "-u", "mysqldb", "-pcorrect-horse-42", "-N", "-B", "-e", sql, "mysqldb")
	}
	dump := admin.file("dump.sql")
	admin.curl("https://"+service.Manager+"/", "-G", "-H", "Content-Type: application/json", "-d", "method=sqldump", "-d", "id=1", "-o", dump)
	query("DROP TABLE t")
	load := func(file string) string {
		return admin.curl("https://"+service.Manager+"/", "-F", "method=load_dump", "-F", "mysqldump_file=@"+file)
	}
	d.want("load_dump", load(dump), `{"result":{},"error":null,"id":null}`)
	d.want("the table of the dump", query("SELECT n FROM t"), "42\n")
	evil := admin.file("evil.sql")
	if err := os.WriteFile(evil, []byte("CREATE USER evil@'%';\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := load(evil); !strings.Contains(out, "ERROR 1227") {
		t.Errorf("a dump that makes users: got %s", out)
	}

	var instances []struct {
		ID   int64  `json:"id"`
		Name string `json:"name"`
	}
	d.mustGandi(&instances, "paas.list")
	if len(instances) != 1 || instances[0].ID != service.SID {
		t.Errorf("paas.list: got %+v", instances)
	}
	var ops []gandiOperation
	d.mustGandi(&ops, "paas.create", instanceSpec("shop", "shop.test"))
	var rows []conpaasService
	admin.parse(admin.curl(admin.url+"/list"), &rows)
	if len(rows) != 2 || rows[1].Name != "shop" {
		t.Errorf("list: got %+v", rows)
	}
	d.done(ops...)
	d.want("stop theirs", admin.director(fmt.Sprintf("/stop/%d", rows[1].SID)), "true")
	var op gandiOperation
	d.mustGandi(&op, "paas.delete", service.SID)
	d.done(op)
	d.await(time.Minute, "an empty list", func() (bool, string) { out := admin.curl(admin.url + "/list"); return out == "[]", out })
}

// TestConPaaSDownload makes a bare machine a node with nothing but what the Director lets anybody download, and a token.
func TestConPaaSDownload(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	m := newMetal(t, 1, fmt.Sprintf("director_listen: \":%d\"\n", port))
	d := &conpaas{site: m.site, url: fmt.Sprintf("https://127.0.0.1:%d", port)}
	host := m.hosts[0]
	admin := d.certificates(m.admin.Email, m.admin.Password)

	// Whether it is the Director's own, its authority's signature tells.
	d.run("curl", "-sS", "-f", "--cacert", admin.file("ca_cert.pem"), "-o", admin.file("ConPaaS.tar.gz"), d.url+"/download/ConPaaS.tar.gz")
	d.run("tar", "-C", admin.dir, "-xzf", admin.file("ConPaaS.tar.gz"))
	d.run("openssl", "x509", "-in", admin.file("ca_cert.pem"), "-pubkey", "-noout", "-out", admin.file("signer.pem"))
	d.run("openssl", "dgst", "-sha256", "-verify", admin.file("signer.pem"), "-signature", admin.file("ConPaaS/SHA256SUMS.sig"), admin.file("ConPaaS/SHA256SUMS"))
	for _, secret := range []string{"ca.key", "director-ca.key", "master.key"} {
		if _, err := os.Stat(admin.file("ConPaaS/" + secret)); err == nil {
			t.Errorf("%s is in it", secret)
		}
	}

	out, err := m.reeve("node", "enroll", "--name", "bare-1", "--token")
	if err != nil {
		t.Fatal(err)
	}
	token, _, _ := strings.Cut(out, "\n")
	gateway := strings.TrimSuffix(strings.TrimPrefix(m.url, "https://"), m.url[strings.LastIndex(m.url, ":"):])
	host.CopyIn(t, admin.file("ca_cert.pem"), "/root/ca_cert.pem")
	host.WriteFile(t, "/root/token", 0o600, []byte(token+"\n"))
	host.WriteFile(t, "/root/run.sh", 0o700, []byte(fmt.Sprintf(`set -e
cd /root
curl -sS -f --cacert ca_cert.pem -o ConPaaS.tar.gz https://%s:%d/download/ConPaaS.tar.gz
tar xzf ConPaaS.tar.gz
sh ConPaaS/bootstrap.sh %s </root/token
`, gateway, port, m.url)))
	if said := host.Exec(t, "sh", "/root/run.sh"); !strings.Contains(said, "this host is node bare-1") {
		t.Errorf("got %s", said)
	}
	m.await(time.Minute, "the coordinator to take the machine in", func() (bool, string) {
		out, err := m.reeve("node", "call", "bare-1", "system.get_hostname")
		return err == nil && strings.TrimSpace(out) == `"metal-0"`, fmt.Sprint(out, err)
	})
}
