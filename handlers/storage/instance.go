package storage

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"path"
	"regexp"
	"strings"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
)

// instanceDisk is a disk that belongs to the machine and is emptied when that stops.
type instanceDisk struct {
	s    *Service
	kind string
}

const (
	metadataURL     = "http://169.254.169.254/latest"
	metadataTimeout = 3 * time.Second
)

var diskName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

func (d instanceDisk) defaults() map[string]any { return map[string]any{"name": nil} }

func (d instanceDisk) ensure(ctx context.Context, _ *work, v *volume) error {
	name := strings.TrimPrefix(v.text("name"), "google-")
	if !diskName.MatchString(name) {
		return missing("name")
	}
	if d.kind == "gce_ephemeral" {
		v.set("name", name)
		link := "/dev/disk/by-id/google-" + name
		if !d.s.host.Exists(link) {
			return storageError(agentapi.KindNotFound, "this machine has no disk %s", link)
		}
		v.set("device", d.s.realPath(link))
		return nil
	}
	mapped, err := d.s.metadata(ctx, "/meta-data/block-device-mapping/"+name)
	if err != nil {
		return storageError(agentapi.KindUnavailable, "ask the machine's metadata for %s: %v", name, err)
	}
	device := d.s.asNamed(mapped)
	if device == "" {
		return storageError(agentapi.KindNotFound, "%s is %s in the machine's metadata, and there is no such device", name, mapped)
	}
	v.set("device", device)
	return nil
}

// asNamed finds the device that a cloud calls "sdb": the kernel may call it xvdb.
func (s *Service) asNamed(name string) string {
	name = strings.TrimPrefix(name, "/dev/")
	if !diskName.MatchString(name) {
		return ""
	}
	for _, n := range []string{name, "xvd" + strings.TrimPrefix(name, "sd"), "vd" + strings.TrimPrefix(name, "sd")} {
		if p := path.Join("/dev", n); s.host.Exists(p) {
			return p
		}
	}
	return ""
}

// metadata asks the metadata service of the machine, with a session token where it wants one.
func (s *Service) metadata(ctx context.Context, name string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, metadataTimeout)
	defer cancel()
	token, _ := s.fetch(ctx, http.MethodPut, "/api/token", "X-aws-ec2-metadata-token-ttl-seconds", "60")
	return s.fetch(ctx, http.MethodGet, name, "X-aws-ec2-metadata-token", token)
}

func (s *Service) fetch(ctx context.Context, method, name, header, value string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, method, s.metadataURL+name, nil)
	if err != nil {
		return "", err
	}
	if value != "" {
		req.Header.Set(header, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("the answer is %s", resp.Status)
	}
	return strings.TrimSpace(string(body)), err
}

func (instanceDisk) locate(context.Context, *work, *volume) error { return nil }

func (instanceDisk) detach(context.Context, *work, *volume, bool) error { return nil }

func (instanceDisk) destroy(context.Context, *work, *volume, deletion) error { return nil }
