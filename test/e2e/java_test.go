//go:build e2e

package e2e

import (
	"archive/zip"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// sum is a page that only Java makes 6765 of: for the older names of the interfaces, as most web applications still are.
const sum = `<%@ page import="javax.servlet.http.HttpServletRequest" contentType="text/plain" session="false" %><%!
static long fib(int n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }
%><% String at = ((HttpServletRequest) request).getLocalAddr(); System.out.println("asked at " + at); %><%= fib(20) %> at <%= at %> for <%= request.getServerName() %>`

// war writes a web application.
func war(t *testing.T, path string, files map[string]string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := zip.NewWriter(f)
	for name, text := range files {
		member, err := w.Create(name)
		if err == nil {
			_, err = member.Write([]byte(text))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestConPaaSJava is the life of a web application in Java: a service of the Director on nodes of the image that has Java, and
// then the same archive as a tsuru app.
func TestConPaaSJava(t *testing.T) {
	t.Parallel()
	d := newDirector(t, directorNetwork+2)
	if out, err := d.command("image", "build", "--with", "java").CombinedOutput(); err != nil {
		t.Fatalf("image build: %v\n%s", err, out)
	}
	ann := d.user("ann")
	var types []string
	d.parse(d.curl(d.url+"/available_services"), &types)
	if !slices.Contains(types, "java") {
		t.Fatalf("got the types %q", types)
	}

	var service conpaasService
	ann.parse(ann.director("/start/java"), &service)
	d.want("name", service.Name, "New java service")
	var info struct{ Type string }
	ann.ask(service, "get_service_info", "", &info)
	d.want("type", info.Type, "JAVA")
	ann.tell(service, "startup", `{"cloud": "default"}`, nil)
	ann.reaches(service, "RUNNING")
	ip := ann.addresses(service, "web")[0]
	page := func(url string) string {
		t.Helper()
		return d.run("curl", "-sS", "-m", "60", "-w", " %{http_code}", url)
	}
	if got := page("http://" + ip + "/"); !strings.Contains(got, "Nothing has been deployed yet") || !strings.HasSuffix(got, " 200") {
		t.Errorf("before there is code: got %s", got)
	}

	upload := func(name string, files map[string]string) string {
		t.Helper()
		archive := filepath.Join(d.site.dir, name)
		war(t, archive, files)
		var code struct {
			ID string `json:"codeVersionId"`
		}
		ann.answer(ann.curl("https://"+service.Manager+"/", "-F", "method=upload_code_version", "-F", "code=@"+archive), "upload", &code)
		return code.ID
	}
	activate := func(code string) string {
		return ann.curl("https://"+service.Manager+"/", "-H", "Content-Type: application/json", "-d",
			fmt.Sprintf(`{"method": "update_java_configuration", "params": {"codeVersionId": %q}, "id": "1"}`, code))
	}
	first := upload("first.war", map[string]string{"index.jsp": sum, "about.txt": "static", "WEB-INF/web.xml": `<web-app version="3.0"/>`})
	d.want("update_java_configuration", activate(first), `{"result":{},"error":null,"id":"1"}`)
	ann.reaches(service, "RUNNING")
	serves := func(n int, want string) {
		t.Helper()
		all := ann.addresses(service, "web")
		d.want("nodes", len(all), n)
		for _, ip := range all {
			d.want("the page of "+ip, page("http://"+ip+"/"), fmt.Sprintf(want, ip)+" for "+ip+" 200")
		}
	}
	serves(1, "6765 at %s")
	d.want("a file", page("http://"+ip+"/about.txt"), "static 200")
	d.want("what is nobody's page", strings.HasSuffix(page("http://"+ip+"/WEB-INF/web.xml"), " 404"), true)
	d.want("by any other name", d.run("curl", "-sS", "-H", "Host: www.example.org", "http://"+ip+"/"), "6765 at "+ip+" for www.example.org")

	var nodes map[string][]string
	ann.ask(service, "list_nodes", "", &nodes)
	d.want("roles", len(nodes["proxy"])+len(nodes["web"])+len(nodes["backend"]), 3)
	d.await(30*time.Second, "what it prints", func() (bool, string) {
		var log struct{ Log string }
		ann.ask(service, "get_agent_log", fmt.Sprintf(`{"agentId": %q}`, nodes["web"][0]), &log)
		return strings.Contains(log.Log, "asked at "+ip), log.Log
	})

	ann.tell(service, "add_nodes", `{"backend": 1, "cloud": "default"}`, nil)
	ann.reaches(service, "RUNNING")
	serves(2, "6765 at %s")
	d.bothAnswer(service.SID)

	// Versions come and go without a request lost, also at the node's own address.
	load := d.load(ip, ip)
	second := upload("second.war", map[string]string{"index.jsp": "second " + sum})
	activate(second)
	ann.reaches(service, "RUNNING")
	serves(2, "second 6765 at %s")
	broken := upload("broken.war", map[string]string{"index.jsp": sum,
		"WEB-INF/web.xml": `<web-app version="3.0"><listener><listener-class>no.such.Listener</listener-class></listener></web-app>`})
	if out := activate(broken); !strings.Contains(out, "process web ended") || !strings.Contains(out, "did not start: java.lang.ClassNotFoundException: no.such.Listener") {
		t.Errorf("an application that does not start: got %s", out)
	}
	ann.reaches(service, "RUNNING")
	serves(2, "second 6765 at %s")
	if out := activate(upload("none.war", map[string]string{"readme.txt": "no web application"})); !strings.Contains(out, "there is no web application") {
		t.Errorf("an archive without a web application: got %s", out)
	}
	ann.reaches(service, "RUNNING")
	activate(first)
	ann.reaches(service, "RUNNING")
	serves(2, "6765 at %s")
	ann.tell(service, "delete_code_version", fmt.Sprintf(`{"codeVersionId": %q}`, second), nil)
	load.stop()
	if failed := load.since(); len(failed) > 0 {
		t.Errorf("%d requests failed, the first ones: %q", len(failed), failed[:min(len(failed), 5)])
	}

	ann.tell(service, "remove_nodes", `{"backend": 1}`, nil)
	ann.reaches(service, "RUNNING")
	serves(1, "6765 at %s")
	ann.tell(service, "shutdown", "{}", nil)
	ann.reaches(service, "STOPPED")
	if got, _ := exec.Command("curl", "-sS", "-m", "20", "http://"+ip+"/").CombinedOutput(); strings.Contains(string(got), "6765") {
		t.Errorf("after shutdown: got %s", got)
	}
	ann.tell(service, "startup", `{"cloud": "default"}`, nil)
	ann.reaches(service, "RUNNING")
	serves(1, "6765 at %s")

	t.Run("the same archive is a tsuru app", func(t *testing.T) {
		s := &tsuruSite{site: d.site, token: d.site.admin.Token, router: d.nodeWith("router").Address}
		var platforms []struct{ Name string }
		d.parse(s.do("GET", "/platforms", "", 200), &platforms)
		if !slices.ContainsFunc(platforms, func(p struct{ Name string }) bool { return p.Name == "java" }) {
			t.Errorf("got the platforms %v", platforms)
		}
		if out := s.do("POST", "/apps", `{"name":"tiny","platform":"java","memory":64}`, 400); !strings.Contains(out, "needs 128 MB") {
			t.Errorf("a unit that is too small: got %s", out)
		}
		s.do("POST", "/apps", `{"name":"shop","platform":"java","memory":128}`, 200)
		archive := filepath.Join(d.site.dir, "app.tar.gz")
		d.run("tar", "-C", d.site.dir, "-czf", archive, "first.war")
		if out := d.run("curl", "-sS", "-m", "240", "-H", "Authorization: bearer "+s.token, "-F", "file=@"+archive, d.site.url+"/apps/shop/deploy"); !strings.HasSuffix(out, "\nOK\n") {
			t.Fatalf("deploy: got %s", out)
		}
		s.serves("shop", "6765 at ")
		memory := s.do("GET", "/apps/shop", "", 200)
		if !strings.Contains(memory, `"started"`) {
			t.Errorf("got %s", memory)
		}
	})

	d.want("stop", ann.director(fmt.Sprintf("/stop/%d", service.SID)), "true")
	d.await(time.Minute, "the end of the service", func() (bool, string) { out := ann.curl(ann.url + "/list"); return out == "[]", out })
}
