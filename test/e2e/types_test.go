//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// notebooks are small applications, by type, that write what ?add= says into their database and show every row.
var notebooks = map[string]map[string]string{
	"phpmysql": {"htdocs/index.php": `<?php
$db = new mysqli(getenv('MYSQL_HOST'), getenv('MYSQL_USER'), getenv('MYSQL_PASSWORD'), getenv('MYSQL_DATABASE_NAME'));
$db->query('CREATE TABLE IF NOT EXISTS notes (text varchar(100))');
if (isset($_GET['add'])) {
    $db->execute_query('INSERT INTO notes VALUES (?)', [$_GET['add']]);
}
foreach ($db->query('SELECT text FROM notes') as $row) {
    echo $row['text'], "\n";
}
`},
	"phppgsql": {"htdocs/index.php": `<?php
$db = new PDO('pgsql:host=' . getenv('PG_HOST') . ';port=' . getenv('PG_PORT') . ';dbname=' . getenv('PG_DATABASE'), getenv('PG_USER'), getenv('PG_PASSWORD'));
$db->exec('CREATE TABLE IF NOT EXISTS notes (text varchar(100))');
if (isset($_GET['add'])) {
    $db->prepare('INSERT INTO notes VALUES (?)')->execute([$_GET['add']]);
}
foreach ($db->query('SELECT text FROM notes') as $row) {
    echo $row['text'], "\n";
}
`},
	"pythonmysql": {"requirements.txt": "", "app.py": strings.Replace(pythonNotebook, "CONNECT", `import pymysql
db = lambda: pymysql.connect(host=e["MYSQL_HOST"], port=int(e["MYSQL_PORT"]), user=e["MYSQL_USER"], password=e["MYSQL_PASSWORD"], database=e["MYSQL_DATABASE_NAME"])`, 1)},
	"pythonpgsql": {"app.py": strings.Replace(pythonNotebook, "CONNECT", `import psycopg2
db = lambda: psycopg2.connect(e["DATABASE_URL"])`, 1)},
	"nodejsmysql": {"package.json": `{"name": "notes", "version": "1.0.0"}`, "server.js": strings.Replace(nodeNotebook, "CONNECT", `
const db = require("mysql").createPool({host: e.MYSQL_HOST, port: e.MYSQL_PORT, user: e.MYSQL_USER, password: e.MYSQL_PASSWORD, database: e.MYSQL_DATABASE_NAME});
const query = (sql, values) => new Promise((ok, no) => db.query(sql.replace("$1", "?"), values, (err, rows) => err ? no(err) : ok(rows)));`, 1)},
	"nodejspgsql": {"server.js": strings.Replace(nodeNotebook, "CONNECT", `
const db = new (require("pg").Pool)({connectionString: e.DATABASE_URL});
const query = async (sql, values) => (await db.query(sql, values)).rows;`, 1)},
	"rubymysql": {"app.rb": strings.Replace(rubyNotebook, "CONNECT", `require "mysql2"
def notes(add)
  db = Mysql2::Client.new(host: ENV["MYSQL_HOST"], port: ENV["MYSQL_PORT"], username: ENV["MYSQL_USER"], password: ENV["MYSQL_PASSWORD"], database: ENV["MYSQL_DATABASE_NAME"])
  db.query("CREATE TABLE IF NOT EXISTS notes (text varchar(100))")
  db.prepare("INSERT INTO notes VALUES (?)").execute(add) if add
  db.query("SELECT text FROM notes").map { |row| row["text"] }
end`, 1)},
	"rubypgsql": {"app.rb": strings.Replace(rubyNotebook, "CONNECT", `require "pg"
def notes(add)
  db = PG.connect(ENV["DATABASE_URL"])
  db.exec("CREATE TABLE IF NOT EXISTS notes (text varchar(100))")
  db.exec_params("INSERT INTO notes VALUES ($1)", [add]) if add
  db.exec("SELECT text FROM notes").map { |row| row["text"] }
ensure
  db&.close
end`, 1)},
}

const pythonNotebook = `import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

e = os.environ
CONNECT

class Notes(BaseHTTPRequestHandler):
    def do_GET(self):
        with db() as d, d.cursor() as c:
            c.execute("CREATE TABLE IF NOT EXISTS notes (text varchar(100))")
            for text in parse_qs(urlsplit(self.path).query).get("add", []):
                c.execute("INSERT INTO notes VALUES (%s)", (text,))
            c.execute("SELECT text FROM notes")
            page = "".join(row[0] + "\n" for row in c.fetchall()).encode()
            d.commit()
        self.send_response(200)
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

ThreadingHTTPServer(("0.0.0.0", int(e["PORT"])), Notes).serve_forever()
`

const nodeNotebook = `const e = process.env;
CONNECT
require("http").createServer(async (request, response) => {
  try {
    const add = new URL(request.url, "http://x").searchParams.get("add");
    await query("CREATE TABLE IF NOT EXISTS notes (text varchar(100))", []);
    if (add) await query("INSERT INTO notes VALUES ($1)", [add]);
    response.end((await query("SELECT text FROM notes", [])).map((row) => row.text + "\n").join(""));
  } catch (err) {
    response.statusCode = 500;
    response.end(String(err));
  }
}).listen(e.PORT, "0.0.0.0");
`

const rubyNotebook = `require "webrick"
CONNECT
server = WEBrick::HTTPServer.new(Port: ENV["PORT"].to_i, BindAddress: "0.0.0.0")
server.mount_proc("/") { |request, response| response.body = notes(request.query["add"]).map { |text| text + "\n" }.join }
trap("TERM") { server.shutdown }
server.start
`

// TestInstancesOfEveryType lets instances of each platform and database live a short life, with what gandi.cli does with them:
// git over ssh+git:// and a command over ssh, both without a port.
func TestInstancesOfEveryType(t *testing.T) {
	t.Parallel()
	s := newSite(t, 47)
	gitPort := freePort(t)
	s.env = []string{fmt.Sprintf("REEVE_LISTEN=:%d", freePort(t)), // nodes fetch releases from there
		fmt.Sprintf("REEVE_LISTEN_GIT=127.0.0.1:%d", gitPort)}
	s.start(0)
	d := s.desk(gitPort)
	router := s.nodeWith("router")
	for i, kinds := range [][]string{{"phpmysql", "nodejspgsql", "pythonmysql", "rubypgsql"}, {"phppgsql", "nodejsmysql", "pythonpgsql", "rubymysql"}} {
		t.Run(strings.Join(kinds, " "), func(t *testing.T) { s.livesOf(t, d, router.Address, kinds, i == 0) })
	}
	var f *fault
	spec := instanceSpec("documents")
	spec["type"] = "pythonmongodb"
	s.t = t
	if err := s.gandi(nil, "paas.create", spec); !errors.As(err, &f) || f.Code != 500037 {
		t.Errorf("a type with MongoDB: got %v, want fault 500037", err)
	}
}

// desk is a machine with stock git and ssh; the settings of ssh name the port of the server, as a user's would.
type desk struct {
	s             *site
	dir, key, bin string
}

func (s *site) desk(port int) *desk {
	s.t.Helper()
	d := &desk{s: s, dir: s.t.TempDir()}
	d.key, d.bin = filepath.Join(d.dir, "id"), filepath.Join(d.dir, "bin")
	for _, name := range []string{"id", "stranger"} {
		if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(d.dir, name)).CombinedOutput(); err != nil {
			s.t.Fatalf("ssh-keygen: %v\n%s", err, out)
		}
	}
	settings := fmt.Sprintf("Host 127.0.0.1\nPort %d\nIdentitiesOnly yes\nUserKnownHostsFile %s/known\nStrictHostKeyChecking accept-new\nNumberOfPasswordPrompts 1\n", port, d.dir)
	ssh, err := exec.LookPath("ssh")
	if err != nil {
		s.t.Fatal(err)
	}
	err = errors.Join(os.Mkdir(d.bin, 0o700), os.WriteFile(filepath.Join(d.dir, "config"), []byte(settings), 0o600),
		os.WriteFile(filepath.Join(d.bin, "ssh"), fmt.Appendf(nil, "#!/bin/sh\nexec %s -F %s/config \"$@\"\n", ssh, d.dir), 0o700))
	if err != nil {
		s.t.Fatal(err)
	}
	return d
}

func (d *desk) public() string {
	d.s.t.Helper()
	line, err := os.ReadFile(d.key + ".pub")
	if err != nil {
		d.s.t.Fatal(err)
	}
	return strings.TrimSpace(string(line))
}

// run runs a program in a directory of the desk.
func (d *desk) run(dir, program string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(d.s.t.Context(), 2*time.Minute)
	defer cancel()
	if program == "ssh" {
		program = filepath.Join(d.bin, program)
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = filepath.Join(d.dir, dir)
	cmd.Env = append(os.Environ(), "PATH="+d.bin+":"+os.Getenv("PATH"), "GIT_SSH_COMMAND=ssh -i "+d.key, "SSHPASS=correct-horse-42", "SSH_AUTH_SOCK=", "GIT_CONFIG_GLOBAL=/dev/null",
		"GIT_AUTHOR_NAME=A", "GIT_AUTHOR_EMAIL=a@example.org", "GIT_COMMITTER_NAME=A", "GIT_COMMITTER_EMAIL=a@example.org")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (d *desk) must(dir, program string, args ...string) string {
	d.s.t.Helper()
	out, err := d.run(dir, program, args...)
	if err != nil {
		d.s.t.Fatalf("%s %q: %v\n%s", program, args, err, out)
	}
	return out
}

// live is an instance of the test.
type live struct {
	kind, vhost, repository string
	id                      int64
	at                      string // user@host of its repositories
}

func (l live) url() string { return "ssh+git://" + l.at + "/" + l.repository }

// push clones a repository, as `gandi paas clone` does, and pushes files.
func (d *desk) push(l live, files map[string]string) string {
	d.s.t.Helper()
	d.must("", "git", "clone", "-q", l.url(), l.repository)
	for name, text := range files {
		file := filepath.Join(d.dir, l.repository, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, []byte(text), 0o600)); err != nil {
			d.s.t.Fatal(err)
		}
	}
	d.must(l.repository, "git", "add", "-A")
	d.must(l.repository, "git", "commit", "-qm", "notes")
	return d.must(l.repository, "git", "push", "origin", "master")
}

// deploy is the command of `gandi deploy`.
func (d *desk) deploy(l live, branch string) (string, error) {
	return d.run("", "ssh", "-i", d.key, l.at, "deploy "+l.repository+" "+branch)
}

// livesOf creates instances at once, gives them code, and deletes them. With long one of PHP and one with units live on a while.
func (s *site) livesOf(t *testing.T, d *desk, router string, kinds []string, long bool) {
	whole := s.t
	s.t = t
	defer func() { s.t = whole }()
	var lives []live
	created := map[string][]gandiOperation{}
	for _, kind := range kinds {
		spec := instanceSpec(kind, kind+".test")
		spec["type"], spec["ssh_key"] = kind, d.public()
		var ops []gandiOperation
		s.mustGandi(&ops, "paas.create", spec)
		created[kind] = ops
	}
	for _, kind := range kinds {
		s.done(created[kind]...)
		var info map[string]any
		s.mustGandi(&info, "paas.info", created[kind][0].PaasID)
		if info["type"] != kind || info["state"] != "running" || info["catalog_name"] != kind+"_s" || info["git_server"] != "127.0.0.1" {
			t.Errorf("got %v %v, git at %v", info["type"], info["state"], info["git_server"])
		}
		l := live{kind, kind + ".test", "default.git", created[kind][0].PaasID, fmt.Sprintf("%.0f@%s", info["user"], info["git_server"])}
		if strings.HasPrefix(kind, "php") {
			l.repository = l.vhost + ".git"
		}
		lives = append(lives, l)
		if code, body := s.fetch(router, l.vhost, "/"); code != 200 || !strings.Contains(body, "instance is running.") {
			t.Errorf("%s: got %d %s, want the welcome page", kind, code, body)
		}
	}
	for _, l := range lives {
		s.codeComesIn(t, d, router, l)
	}
	if long {
		s.strangers(t, d, lives)
		s.sitesOfTheirOwn(t, d, router, lives[0])
		s.unitsChange(t, d, router, lives[2])
	}
	for _, l := range lives {
		var op gandiOperation
		s.mustGandi(&op, "paas.delete", l.id)
		created[l.kind] = []gandiOperation{op}
	}
	for _, kind := range kinds {
		s.done(created[kind]...)
	}
	for _, l := range lives {
		s.assertDeleted(router, l.vhost, l.id)
	}
}

// codeComesIn pushes an application, which serves nothing yet, deploys it, and lets it use its database.
func (s *site) codeComesIn(t *testing.T, d *desk, router string, l live) {
	d.s.t = t
	defer os.RemoveAll(filepath.Join(d.dir, l.repository))
	if out := d.push(l, notebooks[l.kind]); !strings.Contains(out, "remote: Stored.") {
		t.Errorf("%s: got %q from the push", l.kind, out)
	}
	if code, body := s.fetch(router, l.vhost, "/"); code != 200 || !strings.Contains(body, "instance is running.") {
		t.Errorf("%s: after the push alone: got %d %s, want the welcome page", l.kind, code, body)
	}
	if out, err := d.deploy(l, "nowhere"); err == nil || !strings.Contains(out, "the repository has no nowhere") {
		t.Errorf("%s: a branch that is not there: got %q, %v", l.kind, out, err)
	}
	if out, err := d.deploy(l, "master"); err != nil || !strings.HasSuffix(out, "OK\n") {
		t.Fatalf("%s: deploy: %v\n%s", l.kind, err, out)
	}
	if code, body := s.fetch(router, l.vhost, "/?add=hello-"+l.kind); code != 200 || body != "hello-"+l.kind+"\n" {
		t.Errorf("%s: got %d %q, want the row that was written", l.kind, code, body)
	}
	if code, body := s.fetch(router, l.vhost, "/"); code != 200 || body != "hello-"+l.kind+"\n" {
		t.Errorf("%s: got %d %q, want the row in a later request too", l.kind, code, body)
	}
}

// strangers do not get in, and nobody gets at another instance's code.
func (s *site) strangers(t *testing.T, d *desk, lives []live) {
	one, other := lives[0], lives[1]
	if out, err := d.run("", "git", "clone", "-q", strings.Replace(one.url(), one.at, other.at, 1), "taken"); err == nil || !strings.Contains(out, "there is no repository") {
		t.Errorf("the code of %s under the login of %s: got %q, %v", one.kind, other.kind, out, err)
	}
	if out, err := d.run("", "ssh", "-oBatchMode=yes", "-i", filepath.Join(d.dir, "stranger"), one.at, "deploy "+one.repository); err == nil || !strings.Contains(out, "Permission denied") {
		t.Errorf("a stranger's key: got %q, %v", out, err)
	}
	if out, err := d.run("", "sshpass", "-pbattery-staple-7", "ssh", "-oPubkeyAuthentication=no", one.at, "deploy "+one.repository); err == nil || !strings.Contains(out, "Permission denied") {
		t.Errorf("a wrong password: got %q, %v", out, err)
	}
	if out, err := d.run("", "sshpass", "-e", "ssh", "-oPubkeyAuthentication=no", one.at, "deploy "+one.repository); err != nil || !strings.HasSuffix(out, "OK\n") {
		t.Errorf("the password: got %q, %v", out, err)
	}
	for _, command := range []string{"sh", "deploy ../" + one.repository, "deploy " + one.repository + " --output=x", "git-upload-pack '/../hooks'"} {
		if out, err := d.run("", "ssh", "-i", d.key, one.at, command); err == nil {
			t.Errorf("%s: got %q", command, out)
		}
	}
}

// sitesOfTheirOwn gives a PHP instance another vhost, whose code is its own.
func (s *site) sitesOfTheirOwn(t *testing.T, d *desk, router string, l live) {
	var op gandiOperation
	more := l
	more.vhost = "more-" + l.vhost
	more.repository = more.vhost + ".git"
	s.mustGandi(&op, "paas.vhost.create", map[string]any{"paas_id": l.id, "vhost": more.vhost})
	s.done(op)
	d.push(more, map[string]string{"index.html": "not served"})
	if out, err := d.deploy(more, "master"); err == nil || !strings.Contains(out, "no directory htdocs") {
		t.Errorf("a source without htdocs: got %q, %v", out, err)
	}
	if err := os.RemoveAll(filepath.Join(d.dir, more.repository)); err != nil {
		t.Fatal(err)
	}
	d.push(more, map[string]string{"htdocs/index.html": "another site"})
	if out, err := d.deploy(more, "master"); err != nil {
		t.Errorf("deploy: %v\n%s", err, out)
	}
	for host, want := range map[string]string{more.vhost: "another site", l.vhost: "hello-" + l.kind + "\n"} {
		if code, body := s.fetch(router, host, "/"); code != 200 || body != want {
			t.Errorf("%s: got %d %q, want %q", host, code, body, want)
		}
	}
	s.mustGandi(&op, "paas.vhost.delete", more.vhost)
	s.done(op)
	if code, _ := s.fetch(router, more.vhost, "/"); code == 200 {
		t.Error("the deleted vhost still answers 200")
	}
	if code, body := s.fetch(router, l.vhost, "/"); code != 200 || body != "hello-"+l.kind+"\n" {
		t.Errorf("%s: got %d %q", l.vhost, code, body)
	}
}

// unitsChange does with an instance that runs as units what is done with one of PHP.
func (s *site) unitsChange(t *testing.T, d *desk, router string, l live) {
	served := func(host string) {
		t.Helper()
		s.await(time.Minute, "the page with its row under "+host, func() (bool, string) {
			code, body := s.fetch(router, host, "/")
			return code == 200 && body == "hello-"+l.kind+"\n", body
		})
	}
	var ops []gandiOperation
	s.mustGandi(&ops, "paas.update", l.id, map[string]any{"size": "m", "quantity": 1, "password": "battery-staple-7"})
	s.done(ops...)
	served(l.vhost)
	var info map[string]any
	s.mustGandi(&info, "paas.info", l.id)
	if info["size"] != "m" || info["datadisk_total_size"] != 11.0 || info["catalog_name"] != l.kind+"_m" {
		t.Errorf("got %v of %v", info["size"], info["datadisk_total_size"])
	}
	if out, err := s.sftp(l.id, "battery-staple-7", "ls\n"); err != nil || !strings.Contains(out, "shared") {
		t.Errorf("sftp: got %q, %v, want the app's directory", out, err)
	}
	for password, want := range map[string]string{"correct-horse-42": "Permission denied", "battery-staple-7": "the repository has no nowhere"} {
		out, err := d.run("", "sshpass", "-p"+password, "ssh", "-oPubkeyAuthentication=no", l.at, "deploy "+l.repository+" nowhere")
		if err == nil || !strings.Contains(out, want) {
			t.Errorf("git with the password %s: got %q, %v, want %q", password, out, err, want)
		}
	}
	s.mustGandi(&ops, "paas.restart", l.id)
	s.done(ops...)
	served(l.vhost)
	var op gandiOperation
	s.mustGandi(&op, "paas.vhost.create", map[string]any{"paas_id": l.id, "vhost": "more-" + l.vhost})
	s.done(op)
	served("more-" + l.vhost)
	s.mustGandi(&op, "paas.vhost.delete", "more-"+l.vhost)
	s.done(op)
	if code, _ := s.fetch(router, "more-"+l.vhost, "/"); code == 200 {
		t.Error("the deleted vhost still answers 200")
	}
}
