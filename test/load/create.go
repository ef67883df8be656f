package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/reeve-paas/reeve/coordinator/cloud/nspawn"
	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/test/ports"
)

const rounds = 5

// measureCreate compares paas.create up to the first HTTP 200 through the router with a bare boot of the same image up to
// multi-user and one reload of apache: the least that any way of doing it needs.
func measureCreate(ctx context.Context) ([]row, error) {
	bare, err := bareBoot(ctx)
	if err != nil {
		return nil, fmt.Errorf("bare boot: %w", err)
	}
	ours, err := createToFirst200(ctx)
	if err != nil {
		return nil, fmt.Errorf("paas.create: %w", err)
	}
	show := func(s float64) string { return fmt.Sprintf("%.2f s", s) }
	return []row{
		atMost("`paas.create` to the first HTTP 200 through the router, against bare boot to multi-user + one apache reload", ours, bare.reload, show, 1.5),
		atMost("the same, against bare boot + start of MariaDB and apache, which every instance needs", ours, bare.servers, show, 1.5),
	}, nil
}

func median(values []float64) float64 { slices.Sort(values); return values[len(values)/2] }

type floors struct{ reload, servers float64 }

func bareBoot(ctx context.Context) (floors, error) {
	dir, err := os.MkdirTemp("/var/tmp", "rvl-")
	if err != nil {
		return floors{}, err
	}
	defer os.RemoveAll(dir)
	o := nspawn.Options{StateDir: dir, Bridge: "rvl0", Subnet: netip.MustParsePrefix("10.91.0.0/24")}
	d, err := nspawn.Open(ctx, o)
	if err != nil {
		return floors{}, err
	}
	defer nspawn.Teardown(context.WithoutCancel(ctx), o)
	defer d.Close()
	images, err := d.Images(ctx)
	if err != nil || len(images) == 0 {
		return floors{}, errors.Join(errors.New("no node image; run make image"), err)
	}
	var boots, reloads, starts []float64
	for i := range rounds {
		begun := time.Now()
		n, err := d.CreateNode(ctx, core.NodeSpec{Key: fmt.Sprint("bare-", i), Name: fmt.Sprint("bare-", i), ImageID: images[0].ID, SizeID: "s"})
		if err != nil {
			return floors{}, err
		}
		if err := d.WaitReady(ctx, n.ID); err != nil {
			return floors{}, err
		}
		boots = append(boots, time.Since(begun).Seconds())
		begun = time.Now()
		if _, err := d.Exec(ctx, n.ID, nil, "systemctl", "start", "mariadb", "apache2"); err != nil {
			return floors{}, err
		}
		starts = append(starts, time.Since(begun).Seconds())
		begun = time.Now()
		if _, err := d.Exec(ctx, n.ID, nil, "systemctl", "reload", "apache2"); err != nil {
			return floors{}, err
		}
		reloads = append(reloads, time.Since(begun).Seconds())
		if err := d.DestroyNode(ctx, n.ID); err != nil {
			return floors{}, err
		}
	}
	return floors{reload: median(boots) + median(reloads), servers: median(boots) + median(starts)}, nil
}

var (
	paasID  = regexp.MustCompile(`<name>paas_id</name>\s*<value><int>(\d+)</int>`)
	faulted = regexp.MustCompile(`<name>faultString</name>\s*<value><string>([^<]*)`)
)

func createToFirst200(ctx context.Context) (float64, error) {
	dir, err := os.MkdirTemp("/var/tmp", "rvl-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	port, err := ports.Next()
	if err != nil {
		return 0, err
	}
	config := filepath.Join(dir, "coordinator.yaml")
	text := fmt.Sprintf("data_dir: %s/data\nlisten: \"\"\nlisten_plain: 127.0.0.1:%d\nlog_level: warn\nclouds: {nspawn: {engine: nspawn, bridge: rvl1, subnet: 10.91.1.0/24}}\n", dir, port)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return 0, err
	}
	url := fmt.Sprintf("http://127.0.0.1:%d", port)
	p, err := start(ctx, url+"/healthz", "bin/reeve-coordinator", "serve", "--config", config)
	if err != nil {
		return 0, err
	}
	defer func() {
		p.stop()
		exec.CommandContext(context.WithoutCancel(ctx), "bin/reeve-coordinator", "teardown", "--config", config).Run()
	}()
	router, err := awaitRouter(ctx, config)
	if err != nil {
		return 0, err
	}
	data, err := os.ReadFile(filepath.Join(dir, "data", "admin.json"))
	if err != nil {
		return 0, err
	}
	var admin struct {
		APIKey string `json:"api_key"`
	}
	if err := json.Unmarshal(data, &admin); err != nil {
		return 0, err
	}
	var seconds []float64
	for i := range rounds {
		took, err := oneInstance(ctx, url+"/xmlrpc/", admin.APIKey, router, i)
		if err != nil {
			return 0, fmt.Errorf("%w\n%s", err, p.log)
		}
		seconds = append(seconds, took.Seconds())
	}
	return median(seconds), nil
}

func awaitRouter(ctx context.Context, config string) (string, error) {
	for range 600 {
		out, err := exec.CommandContext(ctx, "bin/reeve-coordinator", "node", "list", "--json", "--config", config).Output()
		if err != nil {
			return "", err
		}
		var nodes []struct {
			State, Address string
			Roles          []string
		}
		if err := json.Unmarshal(out, &nodes); err != nil {
			return "", err
		}
		for _, n := range nodes {
			if n.State == "running" && slices.Contains(n.Roles, "router") {
				return n.Address, nil
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	return "", errors.New("no router came up in a minute")
}

func xmlrpcCall(ctx context.Context, url, method, params string) (string, error) {
	body := "<?xml version='1.0'?><methodCall><methodName>" + method + "</methodName><params>" + params + "</params></methodCall>"
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "text/xml")
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	if m := faulted.FindSubmatch(data); m != nil {
		err = errors.New(string(m[1]))
	}
	return string(data), err
}

// oneInstance creates an instance, waits for its page and deletes it again.
func oneInstance(ctx context.Context, url, key, router string, i int) (time.Duration, error) {
	host := fmt.Sprintf("load%d.test", i)
	member := func(name, kind, value string) string {
		return fmt.Sprintf("<member><name>%s</name><value><%s>%s</%s></value></member>", name, kind, value, kind)
	}
	keyParam := "<param><value><string>" + key + "</string></value></param>"
	spec := member("name", "string", host) + member("size", "string", "s") + member("type", "string", "phpmysql") + member("datacenter_id", "int", "1") +
		member("duration", "string", "1m") + member("password", "string", "correct-horse-42") +
		"<member><name>vhosts</name><value><array><data><value><string>" + host + "</string></value></data></array></value></member>"
	begun := time.Now()
	reply, err := xmlrpcCall(ctx, url, "paas.create", keyParam+"<param><value><struct>"+spec+"</struct></value></param>")
	if err != nil {
		return 0, err
	}
	m := paasID.FindStringSubmatch(reply)
	if m == nil {
		return 0, errors.New("paas.create gave no paas_id")
	}
	if err := until(ctx, func() bool { return status(ctx, router, host) == http.StatusOK }); err != nil {
		return 0, err
	}
	took := time.Since(begun)
	id := "<param><value><int>" + m[1] + "</int></value></param>"
	if err := until(ctx, func() bool {
		info, err := xmlrpcCall(ctx, url, "paas.info", keyParam+id)
		return err == nil && strings.Contains(info, "<string>running</string>")
	}); err != nil {
		return 0, err
	}
	if _, err := xmlrpcCall(ctx, url, "paas.delete", keyParam+id); err != nil {
		return 0, err
	}
	return took, until(ctx, func() bool {
		_, err := xmlrpcCall(ctx, url, "paas.info", keyParam+id)
		return err != nil
	})
}

func status(ctx context.Context, router, host string) int {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+router+"/", nil)
	if err != nil {
		return 0
	}
	req.Host = host
	answer, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return 0
	}
	answer.Body.Close()
	return answer.StatusCode
}

func until(ctx context.Context, done func() bool) error {
	deadline := time.Now().Add(2 * time.Minute)
	for !done() {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if time.Now().After(deadline) {
			return errors.New("it did not happen within two minutes")
		}
		time.Sleep(5 * time.Millisecond)
	}
	return nil
}
