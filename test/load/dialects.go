package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/reeve-paas/reeve/coordinator/auth"
	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/coordinator/store/sqlite"
	"github.com/reeve-paas/reeve/crypto/keyring"
	"github.com/reeve-paas/reeve/test/ports"
)

const (
	span = 4 * time.Second
	// one client that waits for each answer would measure itself: a request takes it longer than our answer
	nodeClients = 16
	instances   = 1000
	pageSize    = 500 // the most paas.list gives at once

	loadEmail, loadPassword = "load@localhost.test", "load-password"
)

// startCoordinator runs the built coordinator on a data directory with the in-memory cloud only.
func startCoordinator(ctx context.Context, dir string) (*process, string, error) {
	port, err := ports.Next()
	if err != nil {
		return nil, "", err
	}
	config := filepath.Join(dir, "coordinator.yaml")
	text := fmt.Sprintf("data_dir: %s\nlisten: \"\"\nlisten_plain: 127.0.0.1:%d\nlog_level: warn\nclouds: {fake_driver: {engine: fake}, nspawn: {engine: fake}}\ndefault_cloud: fake_driver\n", dir, port)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, "", err
	}
	url := fmt.Sprintf("http://127.0.0.1:%d", port)
	p, err := start(ctx, url+"/healthz", "bin/reeve-coordinator", "serve", "--config", config)
	return p, url, err
}

func measureNodes(ctx context.Context) ([]row, error) {
	dir, err := os.MkdirTemp("", "reeve-load-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	port, err := ports.Next()
	if err != nil {
		return nil, err
	}
	const path = "/api/v1/nodes/fake_driver"
	flaskURL := fmt.Sprintf("http://127.0.0.1:%d", port)
	flask, err := start(ctx, flaskURL+path, "/usr/bin/python3", "test/load/testdata/flask_nodes.py", fmt.Sprint(port))
	if err != nil {
		return nil, err
	}
	floor, err := perSecondOfMany(ctx, nodeClients, span, request{method: "GET", url: flaskURL + path})
	flask.stop()
	if err != nil {
		return nil, err
	}
	p, url, err := startCoordinator(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer p.stop()
	ours, err := perSecondOfMany(ctx, nodeClients, span, request{method: "GET", url: url + path})
	return []row{times("`GET /api/v1/nodes/fake_driver`, against Flask over libcloud's dummy driver", "/s", ours, floor, 30)}, err
}

func measurePaasList(ctx context.Context) ([]row, error) {
	dir, err := os.MkdirTemp("", "reeve-load-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	f, err := startFleet(ctx)
	if err != nil {
		return nil, err
	}
	defer f.stop()
	p, url, key, err := startFilled(ctx, dir, instances, f)
	if err != nil {
		return nil, err
	}
	defer p.stop()
	port, err := ports.Next()
	if err != nil {
		return nil, err
	}
	data, err := json.Marshal(structures(instances))
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "rows.json")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		return nil, err
	}
	pythonURL := fmt.Sprintf("http://127.0.0.1:%d/xmlrpc/", port)
	python, err := start(ctx, pythonURL, "/usr/bin/python3", "test/load/testdata/xmlrpc_list.py", fmt.Sprint(port), file)
	if err != nil {
		return nil, err
	}
	theirs, err := listedMembers(pages(pythonURL, key, instances), instances)
	if err != nil {
		python.stop()
		return nil, err
	}
	floor, err := perSecond(ctx, span, pages(pythonURL, key, instances)...)
	python.stop()
	if err != nil {
		return nil, err
	}
	members, err := listedMembers(pages(url+"/xmlrpc/", key, instances), instances)
	if err != nil {
		return nil, err
	}
	if !slices.Equal(members, theirs) {
		return nil, fmt.Errorf("paas.list: got the members %q, and from Python's server %q", members, theirs)
	}
	ours, err := perSecond(ctx, span, pages(url+"/xmlrpc/", key, instances)...)
	return []row{times("`paas.list` of 1,000 instances (two pages of 500), against Python's xmlrpc.server", "/s", ours, floor, 20)}, err
}

// pages are the calls that list n instances.
func pages(url, key string, n int) []request {
	var rs []request
	for page := range (n + pageSize - 1) / pageSize {
		rs = append(rs, request{method: "POST", url: url, body: fmt.Sprintf(`<?xml version='1.0'?>
<methodCall><methodName>paas.list</methodName><params><param><value><string>%s</string></value></param>
<param><value><struct><member><name>items_per_page</name><value><int>%d</int></value></member>
<member><name>page</name><value><int>%d</int></value></member></struct></value></param></params></methodCall>`, key, pageSize, page)})
	}
	return rs
}

// startFilled runs a coordinator with running instances, each on a node of its own that its cloud has and whose agent answers.
func startFilled(ctx context.Context, dir string, n int, f *fleet) (p *process, url, key string, err error) {
	if p, url, err = startCoordinator(ctx, dir); err != nil {
		return nil, "", "", err
	}
	defer func() {
		if err != nil {
			p.stop()
		}
	}()
	client := &http.Client{Timeout: time.Minute}
	defer client.CloseIdleConnections()
	for i := range n {
		made := request{method: "POST", url: url + "/api/v1/vm/start/nspawn", body: fmt.Sprintf(`{"name": "rv-%d", "image": "1", "size": "1"}`, i)}
		if _, err := made.send(client); err != nil {
			return nil, "", "", err
		}
	}
	key, err = fill(ctx, dir, n, true, func(i int, node *core.Node) {
		node.CloudID, node.Address, node.AgentKey = fmt.Sprint(fakeNodes+i+1), f.address(i), f.raw
	})
	return p, url, key, err
}

// fakeNodes are there when the in-memory cloud begins; it numbers the others after them.
const fakeNodes = 2

// fill makes an account with running instances, as paas.create leaves them, and returns its API key. beside says that a
// coordinator runs on the data already.
func fill(ctx context.Context, dir string, n int, beside bool, change func(i int, node *core.Node)) (key string, err error) {
	sealer, err := keyring.OpenSealer(filepath.Join(dir, "master.key"))
	if err != nil {
		return "", err
	}
	store, err := sqlite.Open(ctx, sqlite.Options{Path: filepath.Join(dir, "reeve.db"), Sealer: sealer, Log: slog.New(slog.DiscardHandler), Beside: beside})
	if err != nil {
		return "", err
	}
	defer store.Close()
	a, err := auth.New(auth.Options{Store: store})
	if err != nil {
		return "", err
	}
	account, _, secret, err := a.CreateAccount(ctx, loadEmail, loadPassword, false)
	if err != nil {
		return "", err
	}
	return string(secret), store.Update(ctx, func(tx core.Tx) error {
		at := time.Date(2026, 9, 14, 14, 36, 30, 0, time.UTC)
		for i := range n {
			app := core.App{ID: core.AppID(fmt.Sprintf("app-%d", i)), AccountID: account.ID, Name: fmt.Sprintf("Instance %d", i), Platform: "php",
				Engine: "mysql", SizeID: "m", LocationID: "local", Cloud: "nspawn", State: core.AppRunning, Login: int64(2000 + i), BaseDiskGB: 10, StartsAt: at,
				EndsAt: core.AddMonths(at, 3), CreatedAt: at}
			if err := tx.PutApp(&app); err != nil {
				return err
			}
			route := core.Route{ID: fmt.Sprintf("route-%d", i), AppID: app.ID, Hostname: fmt.Sprintf("load%d.test", i), State: core.RouteRunning, CreatedAt: at}
			if err := tx.PutRoute(&route); err != nil {
				return err
			}
			node := core.Node{ID: core.NodeID(fmt.Sprintf("node-%d", i)), AccountID: account.ID, AppID: app.ID, Cloud: "nspawn", CloudID: fmt.Sprintf("rv-%d", i),
				Key: fmt.Sprintf("node-%d", i), Name: fmt.Sprintf("rv-%d", i), ImageID: "debian", SizeID: "m", Roles: []core.Role{core.RoleApp, core.RoleDB},
				State: core.NodeRunning, AgentKey: make([]byte, 40), CreatedAt: at, SeenAt: time.Now()}
			change(i, &node)
			if err := tx.PutNode(&node); err != nil {
				return err
			}
		}
		return nil
	})
}

// structures are what Python's server returns: the same members with values of the same length.
func structures(n int) []map[string]any {
	rows := make([]map[string]any, n)
	for i := range rows {
		rows[i] = map[string]any{"catalog_name": "phpmysql_m", "console": fmt.Sprintf("%d@10.66.0.9", 2000+i), "data_disk_additional_size": 0, "datacenter_id": 1,
			"date_end": "20261214T14:36:30", "date_end_commitment": nil, "date_start": "20260914T14:36:30", "id": i + 1, "name": fmt.Sprintf("Instance %d", i),
			"need_upgrade": false, "servers": []any{map[string]any{"id": i + 1}}, "size": "m", "snapshot_profile": nil, "state": "running", "type": "phpmysql"}
	}
	return rows
}
