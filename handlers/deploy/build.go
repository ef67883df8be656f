package deploy

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/agent/operation"
	"github.com/reeve-paas/reeve/handlers/blob"
	"github.com/reeve-paas/reeve/handlers/deploy/platform"
	"github.com/reeve-paas/reeve/handlers/host"
)

const (
	buildTimeout = 30 * time.Minute

	insideCache    = insideHome + "/cache"    // the platform's downloads, kept over builds
	insidePlatform = insideHome + "/platform" // the platform's own files
)

// building is where a build works until it is done.
func (a app) building(n int) string { return path.Join(a.releases(), ".build-"+strconv.Itoa(n)) }

// cache is what builds of the app download, kept for the next one.
func (a app) cache() string { return path.Join(a.home(), "cache") }

// BuildRelease builds a source and writes the result where it was told to.
func (s *Service) BuildRelease(ctx context.Context, p agentapi.BuildReleaseParams) (any, error) {
	if p.Release < 1 {
		return nil, invalid("a release number is 1 or more, not %d", p.Release)
	}
	if err := errors.Join(blob.Check(p.Source), blob.Check(p.Target), checkUnitEnv(p.Env)); err != nil {
		return nil, err
	}
	a, err := s.load(p.App)
	if err != nil {
		return nil, err
	}
	return s.ops.Start(ctx, operation.Task{Name: "deploy.build_release", Async: bool(p.Async), Run: func(ctx context.Context, op *operation.Op) (any, error) {
		ctx, cancel := untilCanceled(ctx, op)
		defer cancel()
		ctx, stop := context.WithTimeoutCause(ctx, buildTimeout, buildError("the build took longer than %s", buildTimeout))
		defer stop()
		_, unlock, err := s.locks.take(ctx, p.App+"/build-"+strconv.Itoa(p.Release), false)
		if err != nil {
			return nil, err
		}
		defer unlock()
		return s.build(ctx, a, p, op.Print)
	}})
}

func buildError(format string, args ...any) error {
	return agentapi.Errorf(agentapi.KindInvalid, "BuildError", format, args...)
}

// build does the work. Nothing of it stays on the host but the cache.
func (s *Service) build(ctx context.Context, a app, p agentapi.BuildReleaseParams, line func(string)) (result agentapi.ReleaseBuild, err error) {
	o, err := s.ownerOf(a)
	if err != nil {
		return result, err
	}
	tmp := a.building(p.Release)
	defer func() { err = errors.Join(err, s.host.RemoveAll(tmp)) }()
	tree := path.Join(tmp, "tree")
	if err := errors.Join(s.host.RemoveAll(tmp), s.host.MkdirAll(tree, 0o700)); err != nil {
		return result, err
	}
	if err := s.fetchInto(ctx, p.Source, tmp, tree, false); err != nil {
		return result, err
	}
	if err := s.ownTree(tree, o); err != nil {
		return result, err
	}
	root, err := s.host.OpenRoot(tree)
	if err != nil {
		return result, err
	}
	defer root.Close()
	if result.Manifest, err = readManifest(root); err != nil {
		return result, err
	}
	if err := s.wantPackages(ctx, root); err != nil {
		return result, err
	}
	if err := s.runBuild(ctx, a, o, p, tmp, result.Manifest.BuildHooks, line); err != nil {
		return result, err
	}
	if len(result.Manifest.Processes) == 0 {
		if result.Manifest.Processes, err = readProcfile(root, defaultProcfile); err != nil {
			return result, err
		}
	}
	if len(result.Manifest.Processes) == 0 {
		return result, buildError("the source has no Procfile, and platform %s finds nothing to start by itself", a.Platform)
	}
	file, err := s.host.CreateFile(path.Join(tmp, "result"), 0o600)
	if err != nil {
		return result, err
	}
	defer file.Close()
	if result.SHA256, result.SizeBytes, err = packInto(ctx, root, file, defaultLimits); err != nil {
		return result, err
	}
	return result, blob.Store(ctx, p.Target, file, result.SizeBytes)
}

// runBuild runs the platform's build and the source's own hooks.
func (s *Service) runBuild(ctx context.Context, a app, o owner, p agentapi.BuildReleaseParams, tmp string, hooks []string, line func(string)) error {
	files := path.Join(tmp, "platform")
	hasBuild, err := s.writePlatform(a.Platform, files)
	if err != nil {
		return err
	}
	if err := s.host.MkdirAll(a.cache(), 0o700); err != nil {
		return err
	}
	if err := s.own(a.cache(), o.uid, o.gid, 0o700); err != nil {
		return err
	}
	env := processEnv(a, p.Env, 0)
	maps.Copy(env, map[string]agentapi.Secret{
		"HOME": insideCache, "XDG_CACHE_HOME": insideCache, "REEVE_PLATFORM": insidePlatform, "REEVE_CACHE": insideCache,
	})
	run := func(what string, argv ...string) error {
		printed := &lastOutput{next: line}
		code, err := s.runAs(ctx, task{
			app: a, dir: path.Join(tmp, "tree"), writable: true, env: env, argv: argv, timeout: buildTimeout, line: printed.print,
			binds: []string{"BindPaths=" + a.cache() + ":" + insideCache, "BindReadOnlyPaths=" + files + ":" + insidePlatform},
			// Whatever the host runs comes first, and a build is what goes when memory ends.
			limits: []string{"TasksMax=2048", "CPUWeight=50", "OOMScoreAdjust=500", "OOMPolicy=stop"},
		})
		if err != nil {
			return err
		}
		if code != 0 {
			return buildError("%s: exit code %d\n%s", what, code, printed)
		}
		return nil
	}
	if hasBuild {
		if err := run("building with platform "+a.Platform, "/bin/sh", insidePlatform+"/build"); err != nil {
			return err
		}
	}
	for _, command := range hooks {
		if line != nil {
			line("hooks.build: " + command)
		}
		if err := run("hooks.build: "+cutText(command, errorLineSize), shellOf(command)...); err != nil {
			return err
		}
	}
	return nil
}

// writePlatform puts a platform's files where a build finds them, and says whether it has something to run.
func (s *Service) writePlatform(name, dir string) (hasBuild bool, err error) {
	if err := s.host.MkdirAll(dir, 0o755); err != nil {
		return false, err
	}
	p, _ := platform.Get(name)
	files, err := p.BuildFiles()
	if err != nil {
		return false, err
	}
	for _, f := range files {
		if err := s.host.WriteFile(path.Join(dir, f.Name), f.Text, 0o644); err != nil {
			return false, err
		}
		hasBuild = hasBuild || f.Name == platform.BuildFile
	}
	return hasBuild, nil
}

// wantPackages refuses a source whose requirements.apt names packages that this host does not have. They are not installed
// here: the release runs on other hosts too, so what they have is their operator's to decide.
func (s *Service) wantPackages(ctx context.Context, root *os.Root) error {
	text, err := readSmall(root, "requirements.apt")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	names, err := parseRequirements(text)
	if err != nil || len(names) == 0 {
		return err
	}
	out, err := s.host.Run(ctx, host.Cmd{Path: "dpkg-query", Args: append([]string{"--show", "--showformat=${Package} ${db:Status-Status}\n", "--"}, names...)})
	if failed, ok := errors.AsType[*host.CommandError](err); err != nil && (!ok || failed.Err != nil) { // 1: it knows not all of them
		return err
	}
	installed := map[string]bool{}
	for line := range strings.Lines(string(out.Stdout)) {
		name, status, _ := strings.Cut(strings.TrimSpace(line), " ")
		installed[name] = installed[name] || status == "installed"
	}
	var missing []string
	for _, name := range names {
		if !installed[name] {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return buildError("requirements.apt: this host does not have %s; its operator installs packages, on every node that runs apps", strings.Join(missing, ", "))
	}
	return nil
}

// packInto writes a tree as tar.gz, with paths relative to it, and returns the sum and size of what it wrote. Links that
// lead out of it, other than to files of the distribution, are an error: no host would take them.
func packInto(ctx context.Context, root *os.Root, w io.Writer, max limits) (sum string, size int64, err error) {
	hash := sha256.New()
	counted := &counter{w: io.MultiWriter(w, hash)}
	zw, err := gzip.NewWriterLevel(counted, gzip.BestSpeed)
	if err != nil {
		return "", 0, err
	}
	tw := tar.NewWriter(zw)
	left := max
	err = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if name == "." {
			return nil
		}
		if left.entries--; left.entries < 0 {
			return buildError("the build made more than %d files", max.entries)
		}
		return packEntry(root, tw, name, d, &left, max)
	})
	if err = errors.Join(err, tw.Close(), zw.Close()); err != nil {
		return "", 0, err
	}
	return hex.EncodeToString(hash.Sum(nil)), counted.n, nil
}

func packEntry(root *os.Root, tw *tar.Writer, name string, d fs.DirEntry, left *limits, max limits) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	hdr := &tar.Header{Name: name, Mode: int64(info.Mode().Perm()), ModTime: info.ModTime().Truncate(time.Second), Format: tar.FormatPAX}
	switch {
	case d.IsDir():
		hdr.Typeflag, hdr.Name = tar.TypeDir, name+"/"
		return tw.WriteHeader(hdr)
	case d.Type()&fs.ModeSymlink != 0:
		hdr.Typeflag = tar.TypeSymlink
		if hdr.Linkname, err = root.Readlink(name); err != nil {
			return err
		}
		if inside, ok := strings.CutPrefix(hdr.Linkname, insideDir+"/"); ok { // as what runs sees it
			hdr.Linkname = strings.Repeat("../", strings.Count(name, "/")) + inside
		}
		if path.IsAbs(hdr.Linkname) && !systemFile(hdr.Linkname) {
			return buildError("the build made %.200q, a link that leads out of the release", name)
		}
		return tw.WriteHeader(hdr)
	case !d.Type().IsRegular():
		return nil // a socket or a pipe, of something that ran in the build
	}
	f, err := root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	hdr.Typeflag, hdr.Size = tar.TypeReg, info.Size()
	if left.bytes -= hdr.Size; left.bytes < 0 {
		return buildError("the build made more than %d bytes", max.bytes)
	}
	if err := tw.WriteHeader(hdr); err != nil {
		return err
	}
	if _, err := io.Copy(tw, f); err != nil {
		return fmt.Errorf("pack %s: %w", name, err)
	}
	return nil
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
