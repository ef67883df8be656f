package tsuru

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/coordinator/operation"
)

const uploadLimit = 30 * time.Minute

// serveDeploy takes a new release in one of three ways, builds it and lets it serve. Whatever fails after output began is a
// line of its own without the marker of success.
func serveDeploy(c *call) error {
	spec, err := c.source()
	if err != nil {
		return err
	}
	rel, op, err := c.d.core.Deploy(c.ctx(), c.p, c.app.ID, spec)
	if err != nil {
		return err
	}
	return c.deployed(rel, op, true)
}

// deployed tells how a release gets to serve. plain keeps to text for every client.
func (c *call) deployed(rel core.Release, op operation.Record, plain bool) error {
	c.w.Header().Set("X-Tsuru-Eventid", op.ID)
	s := c.stream(plain, c.d.o.Silence)
	defer s.end()
	s.say(fmt.Sprintf("---- Deploying release %d of the app %q ----\n", rel.Number, c.app.Name))
	if s.follow(op) {
		s.mark("\nOK\n")
	}
	return nil
}

// source stores what is to be deployed.
func (c *call) source() (core.DeploySpec, error) {
	c.patient(uploadLimit)
	c.r.Body = http.MaxBytesReader(c.w, c.r.Body, c.d.o.MaxUpload)
	if c.contentType() == "multipart/form-data" {
		return c.upload()
	}
	f, err := c.fields()
	if err != nil {
		return core.DeploySpec{}, err
	}
	version, archive, commit := f.str("version"), f.str("archive-url"), f.str("commit")
	switch {
	case f.str("image") != "":
		return core.DeploySpec{}, badRequest("nothing is run from an image here; deploy the source")
	case version == "" && archive == "":
		return core.DeploySpec{}, badRequest("you must specify either the version, the archive-url or upload a file")
	case version != "" && archive != "":
		return core.DeploySpec{}, badRequest("you must specify either the version or the archive-url, but not both")
	case archive != "":
		return c.fetch(archive, commit)
	}
	if c.d.o.Git == nil {
		return core.DeploySpec{}, core.Errorf(core.Unsupported, core.ObjRelease, "this server keeps no repositories")
	}
	source, head, err := c.d.o.Git.Archive(c.ctx(), c.app, strings.TrimPrefix(version, "origin/"), commit)
	return core.DeploySpec{Source: source, Origin: core.OriginGit, Commit: head}, err
}

// upload reads a multipart body part by part, so that an archive goes to disk without a stop in memory.
func (c *call) upload() (spec core.DeploySpec, err error) {
	spec.Origin = core.OriginUpload
	parts, err := c.r.MultipartReader()
	if err != nil {
		return spec, badRequest("the upload cannot be read")
	}
	for {
		part, err := parts.NextPart()
		if err == io.EOF {
			break
		}
		if err != nil {
			return spec, badRequest("the upload is incomplete, or larger than is allowed")
		}
		switch part.FormName() {
		case "file":
			if spec.Source, _, err = c.d.core.Files.Put(c.ctx(), part); err != nil {
				return spec, core.Wrap(core.Invalid, core.ObjRelease, err, "the upload could not be stored")
			}
		case "dockerfile":
			if text, _ := io.ReadAll(io.LimitReader(part, 1)); len(text) > 0 {
				return spec, badRequest("nothing is built from a Dockerfile here; deploy the source")
			}
		case "new-version":
			if text, _ := io.ReadAll(io.LimitReader(part, 10)); truth(string(text)) {
				return spec, badRequest("one release serves at a time; deploy without --new-version")
			}
		case "commit", "message":
			text, _ := io.ReadAll(io.LimitReader(part, 1000))
			if spec.Commit == "" {
				spec.Commit = string(text)
			}
		}
	}
	if spec.Source == "" {
		return spec, badRequest("the form has no file")
	}
	return spec, nil
}

// fetch loads an archive from where the caller says.
func (c *call) fetch(archive, commit string) (core.DeploySpec, error) {
	spec := core.DeploySpec{Origin: core.OriginArchive, Commit: commit}
	u, err := url.Parse(archive)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return spec, badRequest("archive-url must be an http or https URL")
	}
	ctx, cancel := context.WithTimeout(c.ctx(), uploadLimit)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return spec, badRequest("archive-url must be an http or https URL")
	}
	resp, err := c.d.fetcher.Do(r)
	if err != nil {
		return spec, core.Errorf(core.Invalid, core.ObjRelease, "the archive could not be fetched: its server does not answer, or may not be asked")
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return spec, core.Errorf(core.Invalid, core.ObjRelease, "the archive could not be fetched: its server says %d", resp.StatusCode)
	}
	spec.Source, _, err = c.d.core.Files.Put(ctx, io.LimitReader(resp.Body, c.d.o.MaxUpload))
	return spec, err
}

func serveRollback(c *call) error {
	f, err := c.fields()
	if err != nil {
		return err
	}
	text := strings.TrimPrefix(f.str("version", "image", "release"), "v")
	if i := strings.LastIndex(text, ":v"); i >= 0 { // an image's name, as the modern client knows releases
		text = text[i+2:]
	}
	number, err := strconv.Atoi(text)
	if err != nil || number < 1 {
		return badRequest("you cannot rollback without an image name")
	}
	rel, op, err := c.d.core.Rollback(c.ctx(), c.p, c.app.ID, number)
	if err != nil {
		return err
	}
	return c.deployed(rel, op, false)
}

// deployment is one release as it is shown. Both generations of keys are one: clients do not look at case. ID is 24 hexadecimal
// digits: the modern client reads nothing else.
type deployment struct {
	ID          string
	App         string
	Timestamp   time.Time
	Duration    time.Duration // nanoseconds on the wire
	Commit      string
	Error       string
	Image       string
	Version     int
	Origin      string
	User        string
	CanRollback bool
	Active      bool
	Diff        string `json:",omitempty"`
}

func shownDeploy(d core.Deployment) deployment {
	rel := d.Release
	v := deployment{ID: fmt.Sprintf("%024x", rel.Num), App: d.App, Timestamp: rel.CreatedAt, Commit: rel.Commit, Error: rel.Error,
		Image: fmt.Sprintf("v%d", rel.Number), Version: rel.Number, Origin: string(rel.Origin), User: rel.Account,
		CanRollback: rel.State == core.ReleaseBuilt && !d.Active, Active: d.Active}
	if !rel.EndedAt.IsZero() {
		v.Duration = rel.EndedAt.Sub(rel.CreatedAt)
	}
	return v
}

// serveDeploys lists deployments, newest first: of administrators all, of others those of their apps.
func serveDeploys(c *call) error {
	q := c.r.URL.Query()
	limit, err := strconv.Atoi(q.Get("limit"))
	if q.Get("limit") != "" && err != nil {
		return badRequest("limit must be a number")
	}
	skip, _ := strconv.Atoi(q.Get("skip"))
	if q.Get("app") != "" {
		if _, err := c.d.core.AppByName(c.ctx(), c.p, q.Get("app")); err != nil {
			return err
		}
	} else if !c.versioned {
		if err := c.d.core.RequireAdmin(c.ctx(), c.p); err != nil {
			return err
		}
	}
	names, err := c.appsOfService(q.Get("service"))
	if err != nil {
		return err
	}
	all, err := c.d.core.Deployments(c.ctx(), c.p)
	if err != nil {
		return err
	}
	shown := []deployment{}
	for _, d := range all {
		if (q.Get("app") == "" || d.App == q.Get("app")) && (names == nil || slices.Contains(names, d.App)) {
			shown = append(shown, shownDeploy(d))
		}
	}
	shown = shown[min(max(skip, 0), len(shown)):]
	if limit > 0 {
		shown = shown[:min(limit, len(shown))]
	}
	return c.json(http.StatusOK, shown)
}

func serveDeployInfo(c *call) error {
	all, err := c.d.core.Deployments(c.ctx(), c.p)
	if err != nil {
		return err
	}
	for _, d := range all {
		if v := shownDeploy(d); v.ID == c.vars["id"] {
			return c.json(http.StatusOK, map[string]any{"Id": v.ID, "ID": v.ID, "App": v.App, "Timestamp": v.Timestamp, "Duration": v.Duration,
				"Commit": v.Commit, "Error": v.Error, "Diff": "", "Image": v.Image, "Origin": v.Origin, "User": v.User})
		}
	}
	return &status{http.StatusNotFound, "Deploy not found."}
}
