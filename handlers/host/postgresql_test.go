package host

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

func TestPostgreSQL(t *testing.T) {
	debian := func(v string) string { return "/etc/postgresql/" + v + "/main/postgresql.conf" }
	for name, test := range map[string]struct {
		layout *Layout
		files  []string
		want   PostgreSQLCluster
	}{
		"Debian, the newest of several": {&Debian, []string{debian("9"), debian("13"), debian("17"), "/etc/postgresql/99/other/postgresql.conf", "/etc/postgresql/notes"},
			PostgreSQLCluster{17, "/etc/postgresql/17/main", "/var/lib/postgresql/17/main", "/usr/lib/postgresql/17/bin", "postgresql@17-main.service"}},
		"Red Hat, PostgreSQL's packages": {&RedHat, []string{"/var/lib/pgsql/16/data/postgresql.conf"},
			PostgreSQLCluster{16, "/var/lib/pgsql/16/data", "/var/lib/pgsql/16/data", "/usr/pgsql-16/bin", "postgresql-16.service"}},
		"Red Hat, its own packages": {&RedHat, []string{"/var/lib/pgsql/data/postgresql.conf"},
			PostgreSQLCluster{0, "/var/lib/pgsql/data", "/var/lib/pgsql/data", "/usr/bin", "postgresql.service"}},
		"Red Hat, moved by Scalarizr": {&RedHat, []string{debian("13"), "/var/lib/pgsql/13/data/PG_VERSION"},
			PostgreSQLCluster{13, "/etc/postgresql/13/main", "/var/lib/pgsql/13/data", "/usr/pgsql-13/bin", "postgresql-13.service"}},
		"not installed": {&Debian, nil, PostgreSQLCluster{}},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			for _, f := range test.files {
				if err := os.MkdirAll(filepath.Join(root, filepath.Dir(f)), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(root, f), nil, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			got, ok := New(Options{Root: root, Layout: test.layout}).PostgreSQL()
			if got != test.want || ok != (len(test.files) > 0) {
				t.Errorf("got %+v %t, want %+v", got, ok, test.want)
			}
		})
	}
}

// The names of every supported version, as its packages have them in each family.
func TestPostgreSQLOfEveryVersion(t *testing.T) {
	for _, v := range []int{13, 14, 15, 16, 17} {
		n := strconv.Itoa(v)
		for name, test := range map[string]struct {
			layout *Layout
			file   string
			want   PostgreSQLCluster
		}{
			"Debian": {&Debian, "/etc/postgresql/" + n + "/main/postgresql.conf",
				PostgreSQLCluster{v, "/etc/postgresql/" + n + "/main", "/var/lib/postgresql/" + n + "/main", "/usr/lib/postgresql/" + n + "/bin", "postgresql@" + n + "-main.service"}},
			"Red Hat": {&RedHat, "/var/lib/pgsql/" + n + "/data/postgresql.conf",
				PostgreSQLCluster{v, "/var/lib/pgsql/" + n + "/data", "/var/lib/pgsql/" + n + "/data", "/usr/pgsql-" + n + "/bin", "postgresql-" + n + ".service"}},
			"Red Hat, moved by Scalarizr": {&RedHat, "/etc/postgresql/" + n + "/main/postgresql.conf",
				PostgreSQLCluster{v, "/etc/postgresql/" + n + "/main", "/var/lib/pgsql/" + n + "/data", "/usr/pgsql-" + n + "/bin", "postgresql-" + n + ".service"}},
		} {
			t.Run(name+" "+n, func(t *testing.T) {
				root := t.TempDir()
				file := filepath.Join(root, test.file)
				if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, nil, 0o644)); err != nil {
					t.Fatal(err)
				}
				if got, ok := New(Options{Root: root, Layout: test.layout}).PostgreSQL(); got != test.want || !ok {
					t.Errorf("got %+v %t, want %+v", got, ok, test.want)
				}
			})
		}
	}
}
