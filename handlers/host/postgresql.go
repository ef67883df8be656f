package host

import (
	"path"
	"slices"
	"strconv"
	"strings"
)

// PostgreSQLLayout says where a family of packages puts clusters. A * stands for the major version.
type PostgreSQLLayout struct {
	Dir                   string // its entries named by a number are the versions; "" means that the paths hold no version
	Conf, Data, Bin, Unit string
}

// PostgreSQLCluster is a cluster: one server with its databases. Data is where packages put the data; the server's own
// setting data_directory has the last word.
type PostgreSQLCluster struct {
	Major                       int // 0 when the paths do not tell
	ConfDir, Data, BinDir, Unit string
}

// PostgreSQL finds this host's cluster: the newest one that has a postgresql.conf. ok is false when PostgreSQL is not installed.
func (h *Host) PostgreSQL() (c PostgreSQLCluster, ok bool) {
	for _, l := range h.layout.PostgreSQL {
		for _, major := range h.majors(l.Dir) {
			c := l.at(major)
			if h.Exists(path.Join(c.ConfDir, "postgresql.conf")) {
				return c, true
			}
		}
	}
	return PostgreSQLCluster{}, false
}

// majors are the version numbers among the entries of a directory, the newest first.
func (h *Host) majors(dir string) []int {
	if dir == "" {
		return []int{0}
	}
	entries, _ := h.ReadDir(dir)
	var all []int
	for _, e := range entries {
		if n, err := strconv.Atoi(e.Name()); err == nil && n > 0 {
			all = append(all, n)
		}
	}
	slices.Sort(all)
	slices.Reverse(all)
	return all
}

func (l PostgreSQLLayout) at(major int) PostgreSQLCluster {
	fill := func(s string) string { return strings.ReplaceAll(s, "*", strconv.Itoa(major)) }
	return PostgreSQLCluster{Major: major, ConfDir: fill(l.Conf), Data: fill(l.Data), BinDir: fill(l.Bin), Unit: fill(l.Unit)}
}
