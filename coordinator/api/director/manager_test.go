package director_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/crypto/authority"
)

// manage calls a manager's method as the tools do.
func (b *bed) manage(cert *tls.Certificate, record map[string]any, verb, method string, params map[string]any) answer {
	b.Helper()
	a, err := b.tryManage(cert, record, verb, method, params)
	b.must(err)
	return a
}

func (b *bed) managerURL(record map[string]any) string {
	return fmt.Sprintf("https://%s:%d/", record["manager"], b.port)
}

func (b *bed) tryManage(cert *tls.Certificate, record map[string]any, verb, method string, params map[string]any) (answer, error) {
	b.Helper()
	data, err := json.Marshal(params)
	b.must(err)
	var r *http.Request
	if verb == "GET" {
		target := b.managerURL(record) + "?method=" + method + "&id=1"
		if params != nil {
			target += "&params=" + url.QueryEscape(string(data))
		}
		r, err = http.NewRequest(verb, target, nil)
	} else {
		body, _ := json.Marshal(map[string]any{"method": method, "params": params, "id": "1"})
		r, err = http.NewRequest(verb, b.managerURL(record), bytes.NewReader(body))
	}
	b.must(err)
	r.Header.Set("Content-Type", "application/json")
	return b.try(cert, r)
}

func (b *bed) result(a answer) map[string]any {
	b.Helper()
	v := a.object(b)
	result, ok := v["result"].(map[string]any)
	if !ok || v["error"] != nil {
		b.Fatalf("got %d %s, want a result", a.status, a.body)
	}
	return result
}

func (b *bed) wantRefusal(what string, a answer, text string) {
	b.Helper()
	v := a.object(b)
	_, has := v["result"]
	message, _ := v["error"].(string)
	if a.status != 200 || has || message == "" || !strings.Contains(message, text) {
		b.Errorf("%s: got %d %s, want an error with %q and no result", what, a.status, a.body, text)
	}
}

func (b *bed) state(u *someone, record map[string]any) string {
	b.Helper()
	return b.result(b.manage(u.cert, record, "GET", "get_service_info", nil))["state"].(string)
}

func (b *bed) uploadCode(u *someone, record map[string]any, name string, data []byte) answer {
	b.Helper()
	body := &bytes.Buffer{}
	form, kind := multipartFile("code", name, data, "method", "upload_code_version", "description", "a test")
	body.Write(form)
	r, err := http.NewRequest("POST", b.managerURL(record), body)
	b.must(err)
	r.Header.Set("Content-Type", kind)
	return b.do(u.cert, r)
}

// uploadAs calls a method that takes a file.
func (b *bed) uploadAs(u *someone, record map[string]any, method, field, filename string, data []byte) answer {
	b.Helper()
	body, kind := multipartFile(field, filename, data, "method", method)
	r, err := http.NewRequest("POST", b.managerURL(record), bytes.NewReader(body))
	b.must(err)
	r.Header.Set("Content-Type", kind)
	return b.do(u.cert, r)
}

func multipartFile(field, filename string, data []byte, pairs ...string) ([]byte, string) {
	var out bytes.Buffer
	for i := 0; i < len(pairs); i += 2 {
		fmt.Fprintf(&out, "--%s\r\nContent-Disposition: form-data; name=\"%s\"\r\n\r\n%s\r\n", boundary, pairs[i], pairs[i+1])
	}
	fmt.Fprintf(&out, "--%s\r\nContent-Disposition: form-data; name=\"%s\"; filename=\"%s\"\r\nContent-Type: application/octet-stream\r\n\r\n", boundary, field, filename)
	out.Write(data)
	fmt.Fprintf(&out, "\r\n--%s--\r\n\r\n", boundary)
	return out.Bytes(), "multipart/form-data; boundary=" + boundary
}

func targz(t testing.TB, members ...string) []byte {
	t.Helper()
	var out bytes.Buffer
	zw := gzip.NewWriter(&out)
	tw := tar.NewWriter(zw)
	for i := 0; i < len(members); i += 2 {
		must(t, tw.WriteHeader(&tar.Header{Name: members[i], Mode: 0o644, Size: int64(len(members[i+1])), Typeflag: tar.TypeReg}))
		_, err := tw.Write([]byte(members[i+1]))
		must(t, err)
	}
	must(t, tw.Close())
	must(t, zw.Close())
	return out.Bytes()
}

func TestManager(t *testing.T) {
	b := newBed(t)
	u, bob := b.user("ann", "20"), b.user("bob", "5")
	record := b.start(u, "php")
	sid := sidOf(record)
	nodes := func() map[string]any { return b.result(b.manage(u.cert, record, "GET", "list_nodes", nil)) }
	reaches := func(want string) {
		t.Helper()
		b.until("state "+want, func() bool { return b.state(u, record) == want })
	}
	t.Run("75. it shows a certificate of a manager of its owner", func(t *testing.T) {
		conn, err := tls.Dial("tcp", fmt.Sprintf("%s:%d", record["manager"], b.port), &tls.Config{RootCAs: b.ca.Pool(), ServerName: record["manager"].(string),
			Certificates: []tls.Certificate{*u.cert}})
		b.must(err)
		defer conn.Close()
		wantSubject(t, conn.ConnectionState().PeerCertificates[0], map[string]string{oidCN: "ConPaaS", oidO: "Contrail", oidEmail: "info@conpaas.eu",
			oidRole: "manager", oidUID: itoa(u.uid), oidService: itoa(sid)})
	})
	t.Run("only the owner is answered", func(t *testing.T) {
		for name, cert := range map[string]*tls.Certificate{"nobody": nil, "another user": bob.cert, "another's manager": b.manager(bob, sid),
			"a manager of another service": b.manager(u, sid+1000)} {
			if a, err := b.tryManage(cert, record, "GET", "get_service_info", nil); err == nil && a.status != 403 {
				t.Errorf("%s: got %d %s", name, a.status, a.body)
			}
		}
		b.want("its own manager", b.manage(b.manager(u, sid), record, "GET", "get_service_info", nil).status, 200)
	})
	t.Run("errors of the protocol", func(t *testing.T) {
		send := func(verb, target, kind, body string) int {
			r, err := http.NewRequest(verb, b.managerURL(record)+target, strings.NewReader(body))
			b.must(err)
			if kind != "" {
				r.Header.Set("Content-Type", kind)
			}
			return b.do(u.cert, r).status
		}
		for _, c := range []struct {
			verb, target, kind, body string
			want                     int
		}{
			{"GET", "x?method=get_service_info&id=1", "application/json", "", 404},
			{"GET", "?id=1", "application/json", "", 400},
			{"GET", "?method=nosuch&id=1", "application/json", "", 404},
			{"GET", "?method=startup&id=1", "application/json", "", 404},
			{"POST", "", "application/json", `{"method":"get_service_info","params":{},"id":"1"}`, 404},
			{"POST", "", "application/json", `{"params":{},"id":"1"}`, 400},
			{"POST", "", "application/json", `nonsense`, 400},
			{"POST", "", "application/json; charset=utf-8", `{"method":"shutdown"}`, 415},
			{"POST", "", "", `{"method":"shutdown"}`, 415},
			{"PUT", "", "application/json", `{"method":"shutdown"}`, 405},
			{"GET", "?method=get_service_info&id=1&service_id=99999", "application/json", "", 404},
			{"GET", "?method=get_service_info&id=1&service_id=" + itoa(sid), "application/json", "", 200},
			{"POST", "", "application/json-rpc", `{"jsonrpc":"2.0","method":"nosuch","id":7}`, 404},
			{"GET", "?method=get_service_info&id=1&params=" + url.QueryEscape(`["x"]`), "application/json", "", 400},
			{"POST", "", "application/json", `{"method":"startup","params":["default"],"id":1}`, 400},
		} {
			if got := send(c.verb, c.target, c.kind, c.body); got != c.want {
				t.Errorf("%s %s %s %s: got %d, want %d", c.verb, c.target, c.kind, c.body, got, c.want)
			}
		}
		b.wantRefusal("an unknown parameter", b.manage(u.cert, record, "POST", "startup", map[string]any{"nosuch": 1}), "Unexpected arguments ['nosuch']")
	})
	t.Run("the web frontend says with an empty list that there are no parameters", func(t *testing.T) {
		frontend := b.forged(authority.Identity{CommonName: "front.test", Organization: "ConPaaS", Email: authority.DirectorEmail, Role: authority.RoleFrontend})
		send := func(verb, target, body string) answer {
			r, err := http.NewRequest(verb, b.managerURL(record)+target, strings.NewReader(body))
			b.must(err)
			r.Header.Set("Content-Type", "application/json")
			return b.do(frontend, r)
		}
		b.want("GET", b.result(send("GET", "?method=get_service_info&params=%5B%5D&id=1", ""))["state"], "INIT")
		b.want("GET list_volumes", string(send("GET", "?method=list_volumes&params=%5B%5D&id=1", "").body), `{"result":{"volumes":[]},"error":null,"id":1}`)
		b.wantRefusal("POST", send("POST", "", `{"method":"shutdown","params":[],"jsonrpc":"2.0","id":1}`), "INIT")
		b.wantRefusal("phpconf", send("POST", "", `{"method":"update_php_configuration","params":{"phpconf":[]},"jsonrpc":"2.0","id":1}`), "at least one")
	})
	t.Run("a new service runs nothing", func(t *testing.T) {
		b.want("info", fmt.Sprint(b.result(b.manage(u.cert, record, "GET", "get_service_info", nil))), "map[state:INIT type:PHP]")
		b.want("nodes", fmt.Sprint(nodes()), "map[backend:[] proxy:[] web:[]]")
		b.wantRefusal("shutdown", b.manage(u.cert, record, "POST", "shutdown", nil), "INIT")
		b.wantRefusal("add_nodes", b.manage(u.cert, record, "POST", "add_nodes", map[string]any{"backend": 1}), "INIT")
	})
	t.Run("a first code version is active, though nobody uploaded it", func(t *testing.T) {
		rows := b.result(b.manage(u.cert, record, "GET", "list_code_versions", nil))["codeVersions"].([]any)
		row := rows[0].(map[string]any)
		if len(rows) != 1 || row["codeVersionId"] != "code-default" || row["filename"] == "" || row["description"] == "" || row["time"].(float64) < 1e9 || row["current"] != true {
			t.Errorf("got %v", rows)
		}
		first := map[string]any{"codeVersionId": "code-default"}
		b.want("configuration", b.result(b.manage(u.cert, record, "GET", "get_configuration", nil))["codeVersionId"], "code-default")
		b.want("enable", len(b.result(b.manage(u.cert, record, "POST", "update_php_configuration", first))), 0)
		b.wantRefusal("download", b.manage(u.cert, record, "GET", "download_code_version", first), "there is no archive of it")
		b.wantRefusal("delete", b.manage(u.cert, record, "POST", "delete_code_version", first), "the active code version cannot be deleted")
	})
	var code string
	t.Run("code is uploaded, listed and fetched", func(t *testing.T) {
		code = b.result(b.uploadCode(u, record, "site.tar.gz", targz(t, "index.php", "<?php echo 1;")))["codeVersionId"].(string)
		rows := b.result(b.manage(u.cert, record, "GET", "list_code_versions", nil))["codeVersions"].([]any)
		row := rows[0].(map[string]any)
		if len(rows) != 2 || row["codeVersionId"] != code || row["filename"] != "site.tar.gz" || row["description"] != "a test" || row["time"].(float64) < 1e9 || row["current"] != nil {
			t.Errorf("got %v", rows)
		}
		got := b.manage(u.cert, record, "GET", "download_code_version", map[string]any{"codeVersionId": code})
		if !bytes.HasPrefix(got.body, []byte{0x1f, 0x8b}) || !strings.Contains(got.header.Get("Content-Disposition"), code) {
			t.Errorf("got %v %q", got.header, got.body)
		}
	})
	t.Run("what is no archive, or leads out of itself, is refused", func(t *testing.T) {
		for name, data := range map[string][]byte{"nonsense": []byte("nonsense"), "empty": nil, "parent": targz(t, "../x", "x"), "absolute": targz(t, "/etc/x", "x"),
			"zip": zipOf(t, "../../x", "x"), "cut": targz(t, "index.php", strings.Repeat("x", 1000))[:60]} {
			b.wantRefusal(name, b.uploadCode(u, record, "x.tar.gz", data), "ERROR")
		}
		b.result(b.uploadCode(u, record, "good.zip", zipOf(t, "a/index.php", "x")))
	})
	t.Run("a service is in one cloud", func(t *testing.T) {
		b.wantRefusal("startup elsewhere", b.manage(u.cert, record, "POST", "startup", map[string]any{"cloud": "nosuch"}), "in its own cloud, iaas, not in nosuch")
		b.wantRefusal("add_nodes elsewhere", b.manage(u.cert, record, "POST", "add_nodes", map[string]any{"backend": 1, "cloud": "nosuch"}), "not in nosuch")
		b.wantRefusal("of 2.x", b.manage(u.cert, record, "POST", "start_service", map[string]any{"service_id": sid, "cloud": "nosuch"}), "not in nosuch")
		b.want("state", b.state(u, record), "INIT")
	})
	t.Run("startup deploys", func(t *testing.T) {
		b.want("configure", string(b.manage(u.cert, record, "POST", "update_php_configuration", map[string]any{"codeVersionId": code, "phpconf": map[string]any{"memory_limit": "64M"}}).body), `{"result":{},"error":null,"id":"1"}`)
		b.want("startup", fmt.Sprint(b.result(b.manage(u.cert, record, "POST", "startup", map[string]any{"cloud": "default"}))), "map[state:PROLOGUE]")
		reaches("RUNNING")
		b.wantRefusal("again", b.manage(u.cert, record, "POST", "startup", map[string]any{"cloud": "default"}), "RUNNING")
		b.want("list says so too", b.get(u.cert, "/list").list(t)[0]["state"], "RUNNING")
		all := nodes()
		id := all["backend"].([]any)[0]
		b.want("nodes", fmt.Sprint(all), fmt.Sprintf("map[backend:[%v] proxy:[%v] web:[%v]]", id, id, id))
		b.want("the node's id", id, "iaas"+record["vmid"].(string))
		info := b.result(b.manage(u.cert, record, "GET", "get_node_info", map[string]any{"serviceNodeId": id}))["serviceNode"].(map[string]any)
		if info["cloud"] != "iaas" || info["vmid"] != record["vmid"] || info["isRunningProxy"] != true || len(b.cloud.put(info["ip"].(string))) != 1 {
			t.Errorf("got %v", info)
		}
		b.wantRefusal("another node", b.manage(u.cert, record, "GET", "get_node_info", map[string]any{"serviceNodeId": "iaas0"}), "serviceNodeId")
		conf := b.result(b.manage(u.cert, record, "GET", "get_configuration", nil))
		b.want("configuration", fmt.Sprintf("%v %v", conf["codeVersionId"], conf["phpconf"]), code+" map[display_errors:Off log_errors:On max_execution_time:30 max_input_time:60 memory_limit:64M post_max_size:8M upload_max_filesize:2M]")
		vhost := b.cloud.site(info["ip"].(string))
		for _, line := range []string{"php_value memory_limit 64M\n", "php_value display_errors Off\n"} {
			if !strings.Contains(vhost, line) {
				t.Errorf("the site has no %s: %s", line, vhost)
			}
		}
	})
	t.Run("what is not offered is refused in words that tools show", func(t *testing.T) {
		b.wantRefusal("migrate_nodes", b.manage(u.cert, record, "POST", "migrate_nodes", map[string]any{"migration_plan": []any{}, "delay": 0}), "not offered")
		b.wantRefusal("get_startup_script", b.manage(u.cert, record, "GET", "get_startup_script", nil), "not offered")
		b.wantRefusal("upload_authorized_key", b.uploadAs(u, record, "upload_authorized_key", "key", "id.pub", []byte("ssh-rsa x")), "not offered")
		b.wantRefusal("upload_startup_script", b.uploadAs(u, record, "upload_startup_script", "script", "s.sh", []byte("#!/bin/sh")), "not offered")
		b.wantRefusal("create_volume", b.manage(u.cert, record, "POST", "create_volume", map[string]any{"volumeName": "v", "volumeSize": 10, "agentId": "iaas1"}), "not offered")
		b.want("list_authorized_keys", string(b.manage(u.cert, record, "GET", "list_authorized_keys", nil).body), `{"result":{"authorizedKeys":[]},"error":null,"id":1}`)
	})
	t.Run("nodes are added for credit and taken away", func(t *testing.T) {
		before := b.credit(u)
		b.result(b.manage(u.cert, record, "POST", "add_nodes", map[string]any{"backend": 1, "web": 1, "cloud": "default"}))
		reaches("RUNNING")
		b.want("nodes", len(nodes()["backend"].([]any)), 2)
		b.want("credit", b.credit(u), before-1)
		for _, id := range nodes()["web"].([]any) {
			ip := b.result(b.manage(u.cert, record, "GET", "get_node_info", map[string]any{"serviceNodeId": id}))["serviceNode"].(map[string]any)["ip"].(string)
			if len(b.cloud.put(ip)) == 0 {
				t.Errorf("the node %v has no code", id)
			}
		}
		b.wantRefusal("a proxy", b.manage(u.cert, record, "POST", "add_nodes", map[string]any{"proxy": 1}), "proxy")
		b.wantRefusal("none", b.manage(u.cert, record, "POST", "add_nodes", map[string]any{"backend": 0}), "positive")
		b.wantRefusal("less than none", b.manage(u.cert, record, "POST", "add_nodes", map[string]any{"backend": -1}), "non-negative")
		b.wantRefusal("more than can be paid", b.manage(u.cert, record, "POST", "add_nodes", map[string]any{"nodes": map[string]any{"backend": 32}, "service_id": 0}), "")
		reaches("RUNNING")
		b.wantRefusal("all", b.manage(u.cert, record, "POST", "remove_nodes", map[string]any{"backend": 9}), "one stays")
		count := len(nodes()["backend"].([]any))
		b.result(b.manage(u.cert, record, "POST", "remove_nodes", map[string]any{"backend": count - 1}))
		reaches("RUNNING")
		b.want("nodes", len(nodes()["backend"].([]any)), 1)
	})
	t.Run("a node that cannot be added is paid back", func(t *testing.T) {
		before, nodesBefore := b.credit(u), 0
		nodesBefore, _ = b.cloud.count()
		b.cloud.fail("CreateNode", core.Errorf(core.Quota, core.ObjNode, "full"))
		b.result(b.manage(u.cert, record, "POST", "add_nodes", map[string]any{"backend": 2}))
		reaches("RUNNING")
		b.cloud.fail("CreateNode", nil)
		b.want("credit", b.credit(u), before)
		n, _ := b.cloud.count()
		b.want("nodes of the cloud", n, nodesBefore)
		b.want("nodes of the service", len(nodes()["backend"].([]any)), 1)
	})
	t.Run("a version that a node refuses is taken back", func(t *testing.T) {
		bad := b.result(b.uploadCode(u, record, "bad.tar.gz", targz(t, "index.php", "bad")))["codeVersionId"].(string)
		b.cloud.failOnce("PutRelease", core.Errorf(core.Invalid, core.ObjNode, "the archive is bad"))
		b.wantRefusal("activate", b.manage(u.cert, record, "POST", "update_php_configuration", map[string]any{"codeVersionId": bad}), "bad")
		reaches("RUNNING")
		b.want("active", b.result(b.manage(u.cert, record, "GET", "get_configuration", nil))["codeVersionId"], code)
		b.want("delete the other", string(b.manage(u.cert, record, "POST", "delete_code_version", map[string]any{"codeVersionId": bad}).body), `{"result":{},"error":null,"id":"1"}`)
		b.wantRefusal("delete the active", b.manage(u.cert, record, "POST", "delete_code_version", map[string]any{"codeVersionId": code}), "active")
		b.wantRefusal("activate nothing", b.manage(u.cert, record, "POST", "update_php_configuration", map[string]any{"codeVersionId": "code-999"}), "")
		b.wantRefusal("a setting that is none", b.manage(u.cert, record, "POST", "update_php_configuration", map[string]any{"phpconf": map[string]any{"auto_prepend_file": "/etc/passwd"}}), "phpconf")
		b.wantRefusal("a value that breaks out", b.manage(u.cert, record, "POST", "update_php_configuration", map[string]any{"phpconf": map[string]any{"memory_limit": "1M\nSetEnv"}}), "phpconf")
	})
	t.Run("what cannot even be taken back ends in ERROR, out of which the owner gets", func(t *testing.T) {
		bad := b.result(b.uploadCode(u, record, "bad.tar.gz", targz(t, "index.php", "bad")))["codeVersionId"].(string)
		breaks := func() {
			t.Helper()
			b.cloud.fail("PutRelease", core.Errorf(core.Invalid, core.ObjNode, "the disk is broken"))
			b.wantRefusal("activate", b.manage(u.cert, record, "POST", "update_php_configuration", map[string]any{"codeVersionId": bad}), "the disk is broken")
			b.cloud.fail("PutRelease", nil)
			b.want("state", b.state(u, record), "ERROR")
		}
		breaks()
		b.wantRefusal("startup", b.manage(u.cert, record, "POST", "startup", nil), "ERROR")
		b.result(b.manage(u.cert, record, "POST", "update_php_configuration", map[string]any{"codeVersionId": code}))
		b.want("state", b.state(u, record), "RUNNING")
		breaks()
		b.want("shutdown", fmt.Sprint(b.result(b.manage(u.cert, record, "POST", "shutdown", nil))), "map[state:EPILOGUE]")
		reaches("STOPPED")
		b.result(b.manage(u.cert, record, "POST", "delete_code_version", map[string]any{"codeVersionId": bad}))
		b.result(b.manage(u.cert, record, "POST", "startup", nil))
		reaches("RUNNING")
	})
	t.Run("an archive of 20 MB is lent, sent back whole, and forgotten", func(t *testing.T) {
		page := make([]byte, 20<<20) // nothing that can be packed
		_, err := rand.Read(page)
		b.must(err)
		big := b.result(b.uploadCode(u, record, "big.tar.gz", targz(t, "index.php", string(page))))["codeVersionId"].(string)
		b.result(b.manage(u.cert, record, "POST", "update_php_configuration", map[string]any{"codeVersionId": big}))
		got := b.manage(u.cert, record, "GET", "download_code_version", map[string]any{"codeVersionId": big})
		if len(got.body) < len(page) || got.header.Get("Content-Length") != fmt.Sprint(len(got.body)) {
			t.Errorf("got %d bytes, header %v", len(got.body), got.header)
		}
		zr, err := gzip.NewReader(bytes.NewReader(got.body))
		b.must(err)
		tr := tar.NewReader(zr)
		_, err = tr.Next()
		b.must(err)
		if back, err := io.ReadAll(tr); err != nil || !bytes.Equal(back, page) {
			t.Errorf("got %d bytes back, %v", len(back), err)
		}
		id := nodes()["web"].([]any)[0]
		ip := b.result(b.manage(u.cert, record, "GET", "get_node_info", map[string]any{"serviceNodeId": id}))["serviceNode"].(map[string]any)["ip"].(string)
		b.want("bytes at the node", b.cloud.size(ip), len(got.body))
		sum := fmt.Sprintf("%x", sha256.Sum256(got.body))
		again := b.result(b.uploadCode(u, record, "again.tar.gz", got.body))["codeVersionId"].(string)
		b.result(b.manage(u.cert, record, "POST", "update_php_configuration", map[string]any{"codeVersionId": code}))
		for _, id := range []string{big, again} { // both are the same file
			_, err := b.files.Open(sum)
			b.must(err)
			b.result(b.manage(u.cert, record, "POST", "delete_code_version", map[string]any{"codeVersionId": id}))
		}
		if _, err := b.files.Open(sum); core.KindOf(err) != core.NotFound {
			t.Errorf("the archive is still stored: %v", err)
		}
	})
	t.Run("logs and history tell", func(t *testing.T) {
		log := b.result(b.manage(u.cert, record, "GET", "getLog", nil))["log"].(string)
		if !strings.Contains(log, "service.startup completed") || !strings.Contains(log, "service.node failed") {
			t.Errorf("got %q", log)
		}
		var states []string
		for _, e := range b.result(b.manage(u.cert, record, "GET", "get_service_history", nil))["state_log"].([]any) {
			states = append(states, e.(map[string]any)["state"].(string))
		}
		if !slices.Equal(states[:5], []string{"INIT", "PROLOGUE", "RUNNING", "ADAPTING", "RUNNING"}) {
			t.Errorf("got %q", states)
		}
	})
	t.Run("shutdown stops and startup starts again", func(t *testing.T) {
		b.result(b.manage(u.cert, record, "POST", "add_nodes", map[string]any{"count": 1}))
		reaches("RUNNING")
		b.want("shutdown", fmt.Sprint(b.result(b.manage(u.cert, record, "POST", "shutdown", nil))), "map[state:EPILOGUE]")
		reaches("STOPPED")
		n, _ := b.cloud.count()
		b.want("nodes of the cloud", n, 1)
		b.result(b.manage(u.cert, record, "POST", "startup", map[string]any{"cloud": "default"}))
		reaches("RUNNING")
	})
	t.Run("a start that fails is stopped again and says why", func(t *testing.T) {
		b.result(b.manage(u.cert, record, "POST", "shutdown", nil))
		reaches("STOPPED")
		b.cloud.fail("CreateVHost", core.Errorf(core.Invalid, core.ObjNode, "apache does not like it"))
		b.result(b.manage(u.cert, record, "POST", "startup", nil))
		reaches("STOPPED")
		b.cloud.fail("CreateVHost", nil)
		if log := b.result(b.manage(u.cert, record, "GET", "getLog", nil))["log"].(string); !strings.Contains(log, "apache does not like it") {
			t.Errorf("got %q", log)
		}
	})
	t.Run("methods of 2.x", func(t *testing.T) {
		b.result(b.manage(u.cert, record, "POST", "start_service", map[string]any{"service_id": sid, "cloud": "default"}))
		reaches("RUNNING")
		info := b.result(b.manage(u.cert, record, "GET", "get_app_info", nil))
		b.want("states", fmt.Sprint(info["states"]), fmt.Sprintf("map[0:RUNNING %d:RUNNING]", sid))
		b.want("list_volumes", fmt.Sprint(b.result(b.manage(u.cert, record, "GET", "list_volumes", map[string]any{"service_id": sid}))), "map[volumes:[]]")
		b.want("check_process", len(b.result(b.manage(u.cert, record, "GET", "check_process", nil))), 0)
	})
	t.Run("one manager of 2.x answers for all services of its application", func(t *testing.T) {
		second := b.start(u, "mysql")
		other := b.post(u.cert, "/createapp", "name", "another").object(t)
		third := b.start(u, "mysql", "appid", itoa(int64(other["aid"].(float64))))
		ask := func(cert *tls.Certificate, service map[string]any, method string) answer {
			r, err := http.NewRequest("GET", fmt.Sprintf("%s?method=%s&id=1&service_id=%d", b.managerURL(record), method, sidOf(service)), nil)
			b.must(err)
			r.Header.Set("Content-Type", "application/json")
			return b.do(cert, r)
		}
		b.want("type", b.result(ask(u.cert, second, "get_service_info"))["type"], "galera")
		b.want("a service of another application", ask(u.cert, third, "get_service_info").status, 404)
		b.want("for another service's manager", ask(b.manager(u, sid), second, "get_service_info").status, 404)
		b.result(b.manage(u.cert, record, "POST", "start_service", map[string]any{"service_id": sidOf(second), "cloud": "default"}))
		b.until("RUNNING", func() bool { return b.state(u, second) == "RUNNING" })
		b.want("the first", b.state(u, record), "RUNNING")
		b.want("states", fmt.Sprint(b.result(b.manage(u.cert, record, "GET", "get_app_info", nil))["states"]), fmt.Sprintf("map[0:RUNNING %d:RUNNING %d:RUNNING]", sid, sidOf(second)))
		for _, one := range []map[string]any{second, third} {
			b.wantBody("stop", b.post(u.cert, fmt.Sprintf("/stop/%d", sidOf(one))), 200, "true")
		}
	})
	t.Run("delete ends all of it", func(t *testing.T) {
		b.want("delete", string(b.manage(u.cert, record, "POST", "delete", nil).body), `{"result":{},"error":null,"id":"1"}`)
		b.until("the end", func() bool {
			n, a := b.cloud.count()
			return n == 0 && a == 0 && len(b.get(u.cert, "/list").list(t)) == 0
		})
		if left, _ := filepath.Glob(filepath.Join(b.dir, "files", "??", "*")); len(left) > 0 {
			t.Errorf("the archives %q are left", left)
		}
		b.until("its listener to be closed", func() bool {
			_, err := b.tryManage(u.cert, record, "GET", "get_service_info", nil)
			return err != nil
		})
	})
}

func zipOf(t testing.TB, name, text string) []byte {
	t.Helper()
	var out bytes.Buffer
	zw := zip.NewWriter(&out)
	w, err := zw.Create(name)
	must(t, err)
	_, err = w.Write([]byte(text))
	must(t, err)
	must(t, zw.Close())
	return out.Bytes()
}

func TestMySQLManager(t *testing.T) {
	b := newBed(t)
	u := b.user("ann", "9")
	record := b.start(u, "mysql")
	b.want("info", fmt.Sprint(b.result(b.manage(u.cert, record, "GET", "get_service_info", nil))), "map[state:INIT type:galera]")
	b.result(b.manage(u.cert, record, "POST", "startup", map[string]any{"cloud": "default"}))
	b.until("RUNNING", func() bool { return b.state(u, record) == "RUNNING" })
	b.want("nodes", len(b.result(b.manage(u.cert, record, "GET", "list_nodes", nil))["nodes"].([]any)), 1)
	b.wantRefusal("more nodes", b.manage(u.cert, record, "POST", "add_nodes", map[string]any{"nodes": 1}), "not replicated")
	b.wantRefusal("a balancer", b.manage(u.cert, record, "POST", "add_nodes", map[string]any{"glb_nodes": 1}), "glb_nodes")
	set := func(user, password string) answer {
		return b.manage(u.cert, record, "POST", "set_password", map[string]any{"user": user, "password": password})
	}
	b.want("set_password", len(b.result(set("mysqldb", "a good password"))), 0)
	b.wantRefusal("another user", set("root", "a good password"), "mysqldb")
	b.wantRefusal("a short one", set("mysqldb", "short"), "password")
	b.wantRefusal("code", b.uploadCode(u, record, "x.tar.gz", targz(t, "a", "b")), "no code")
	t.Run("a dump is loaded, and comes back as text", func(t *testing.T) {
		load := func(text string) answer {
			return b.uploadAs(u, record, "load_dump", "mysqldump_file", "dump.sql", []byte(text))
		}
		text := "CREATE TABLE t (n INT);\n" + strings.Repeat("-- more than a form may have\n", 100_000)
		b.want("load_dump", string(load(text).body), `{"result":{},"error":null,"id":null}`)
		got := b.manage(u.cert, record, "GET", "sqldump", nil)
		if string(got.body) != text || got.header.Get("Content-Disposition") != `attachement; filename="mysqldump.sql"` {
			t.Errorf("got %d bytes, %v", len(got.body), got.header)
		}
		b.cloud.failOnce("LoadDump", agentapi.Errorf(agentapi.KindInvalid, "LoadError", "ERROR 1064 at line 1"))
		b.wantRefusal("bad SQL", load("nonsense"), "ERROR 1064 at line 1")
		b.wantRefusal("no file", b.uploadAs(u, record, "load_dump", "other", "dump.sql", nil), "mysqldump_file")
		if left, _ := filepath.Glob(filepath.Join(b.dir, "files", "*", "*")); len(left) > 0 {
			t.Errorf("the dumps %q are left", left)
		}
		b.result(b.manage(u.cert, record, "POST", "shutdown", nil))
		b.until("STOPPED", func() bool { return b.state(u, record) == "STOPPED" })
		b.wantRefusal("when it is stopped", b.manage(u.cert, record, "GET", "sqldump", nil), "STOPPED")
		b.wantRefusal("when it is stopped", load(text), "STOPPED")
		php := b.start(u, "php")
		b.wantRefusal("a php service", b.manage(u.cert, php, "GET", "sqldump", nil), "no database")
	})
	if strings.Contains(b.log.String(), "a good password") {
		t.Error("the log has the password")
	}
}

// TestGenericManager lives a service of scripts with the calls of cps-generic.
func TestGenericManager(t *testing.T) {
	b := newBed(t)
	u := b.user("ann", "9")
	record := b.start(u, "generic")
	b.want("name", record["name"], "New generic service")
	running := func() { t.Helper(); b.until("RUNNING", func() bool { return b.state(u, record) == "RUNNING" }) }
	execute := func(command, parameters string) answer {
		return b.manage(u.cert, record, "POST", "execute_script", map[string]any{"command": command, "parameters": parameters})
	}
	nodes := func() (ids, ips []string) {
		all := b.result(b.manage(u.cert, record, "GET", "list_nodes", nil))
		for _, id := range append(all["master"].([]any), all["node"].([]any)...) {
			info := b.result(b.manage(u.cert, record, "GET", "get_node_info", map[string]any{"serviceNodeId": id}))["serviceNode"].(map[string]any)
			ids, ips = append(ids, id.(string)), append(ips, info["ip"].(string))
		}
		return ids, ips
	}
	status := func() map[string]any {
		return b.result(b.manage(u.cert, record, "GET", "get_script_status", nil))["agents"].(map[string]any)
	}
	b.want("info", fmt.Sprint(b.result(b.manage(u.cert, record, "GET", "get_service_info", nil))), "map[state:INIT type:generic]")
	b.wantRefusal("before it is started", execute("run", ""), "INIT")
	b.result(b.manage(u.cert, record, "POST", "startup", map[string]any{"cloud": "default"}))
	running()
	b.wantRefusal("without code", execute("run", ""), "no code version")

	code := b.result(b.uploadCode(u, record, "app.tar.gz", targz(t, "init.sh", "i", "notify.sh", "n", "run.sh", "r", "interrupt.sh", "x")))["codeVersionId"].(string)
	t.Run("where nodes cannot reach us code is refused at once, and nothing is changed", func(t *testing.T) {
		b.cloud.fail("reach us", core.Errorf(core.Unsupported, core.ObjNode, "its operator has to set listen"))
		b.wantRefusal("enable_code", b.manage(u.cert, record, "POST", "enable_code", map[string]any{"codeVersionId": code}), "its operator has to set listen")
		b.cloud.fail("reach us", nil)
		b.want("state", b.state(u, record), "RUNNING")
		b.want("active code", b.result(b.manage(u.cert, record, "GET", "get_configuration", nil))["codeVersionId"], "code-default")
	})
	b.want("enable_code", string(b.manage(u.cert, record, "POST", "enable_code", map[string]any{"codeVersionId": code}).body), `{"result":{},"error":null,"id":"1"}`)
	running()
	ids, ips := nodes()
	n, with := b.cloud.wasStarted(ips[0], "init.sh")
	if n != 1 || with.Env["MY_IP"] != agentapi.Secret(ips[0]) || with.Env["MY_ROLE"] != "master" || with.Env["MASTER_IP"] != with.Env["MY_IP"] ||
		!strings.Contains(with.Files["/var/cache/cpsagent/agents.json"], `"role":"master"`) {
		t.Errorf("init.sh: got %d times with %+v", n, with)
	}
	b.cloud.ends(ips[0], "init.sh", 0)
	b.want("status", fmt.Sprint(status()[ids[0]]), "map[cleanup.sh:NEVER STARTED init.sh:STOPPED (return code = 0) interrupt.sh:NEVER STARTED notify.sh:NEVER STARTED run.sh:NEVER STARTED]")

	t.Run("nodes that come are set up, and the others are told", func(t *testing.T) {
		b.result(b.manage(u.cert, record, "POST", "add_nodes", map[string]any{"count": 1, "cloud": "default"}))
		running()
		ids, ips = nodes()
		for what, c := range map[string]struct {
			ip, script string
			want       int
		}{"init of the first": {ips[0], "init.sh", 1}, "init of the second": {ips[1], "init.sh", 1}, "notify of the first": {ips[0], "notify.sh", 1}, "notify of the second": {ips[1], "notify.sh", 0}} {
			n, _ := b.cloud.wasStarted(c.ip, c.script)
			b.want(what, n, c.want)
		}
		_, with := b.cloud.wasStarted(ips[1], "init.sh")
		if with.Env["MY_ROLE"] != "node" || with.Env["MASTER_IP"] != agentapi.Secret(ips[0]) {
			t.Errorf("got %+v", with)
		}
	})
	t.Run("run.sh runs everywhere, once at a time", func(t *testing.T) {
		b.want("run", string(execute("run", "-n 3").body), `{"result":{"state":"RUNNING"},"error":null,"id":"1"}`)
		for _, ip := range ips {
			n, with := b.cloud.wasStarted(ip, "run.sh")
			if n != 1 || fmt.Sprint(with.Arguments) != "[-n 3]" {
				t.Errorf("got %d times with %q", n, with.Arguments)
			}
		}
		b.wantRefusal("again", execute("run", ""), "already running")
		b.wantRefusal("what the code lacks", execute("cleanup", ""), "has no cleanup.sh")
		b.wantRefusal("what is no command", execute("init", ""), "invalid command")
		b.want("log", b.result(b.manage(u.cert, record, "GET", "get_agent_log", map[string]any{"agentId": ids[1]}))["log"], "printed on "+ips[1]+"\n")
		b.wantRefusal("a file of the node", b.manage(u.cert, record, "GET", "get_agent_log", map[string]any{"agentId": ids[1], "filename": "/etc/shadow"}), "filename")
		b.wantRefusal("another node", b.manage(u.cert, record, "GET", "get_agent_log", map[string]any{"agentId": "iaas0"}), "agentId")
	})
	t.Run("interrupt ends what interrupt.sh left running", func(t *testing.T) {
		done := make(chan answer)
		go func() { done <- execute("interrupt", "") }()
		for _, ip := range ips {
			b.until("interrupt.sh", func() bool { n, _ := b.cloud.wasStarted(ip, "interrupt.sh"); return n == 1 })
			b.cloud.ends(ip, "interrupt.sh", 0)
		}
		b.want("interrupt", (<-done).status, 200)
		for _, id := range ids {
			b.want("run.sh", status()[id].(map[string]any)["run.sh"], "STOPPED")
		}
		b.wantRefusal("again", execute("interrupt", ""), "Nothing to interrupt")
	})
	t.Run("nodes that go, and the end", func(t *testing.T) {
		b.cloud.ends(ips[0], "notify.sh", 0)
		b.result(b.manage(u.cert, record, "POST", "remove_nodes", map[string]any{"count": 1}))
		running()
		n, _ := b.cloud.wasStarted(ips[0], "notify.sh")
		b.want("notify", n, 2)
		b.result(b.manage(u.cert, record, "POST", "shutdown", nil))
		b.until("STOPPED", func() bool { return b.state(u, record) == "STOPPED" })
		b.wantRefusal("scripts of a php service", b.manage(u.cert, b.start(u, "php"), "POST", "run", nil), "no scripts")
	})
}
