package deploy

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
)

// limits bound what an archive may become.
type limits struct {
	bytes   int64 // of all files together
	entries int
}

var defaultLimits = limits{bytes: 512 << 20, entries: 100_000}

// unpack writes a tar.gz archive into an empty directory. Whatever the archive says, nothing is written outside it, and
// no link in it leads out. Files become 0600 or, when executable, 0700; directories 0700; owners are not looked at.
//
// built says that the archive is a built release: its links may also name files of the distribution below /usr, such as
// the interpreter of a virtual environment, and its files keep their times.
func unpack(ctx context.Context, root *os.Root, archive io.Reader, max limits, built bool) error {
	zr, err := gzip.NewReader(archive)
	if err != nil {
		return invalid("the archive is not in gzip form: %v", err)
	}
	u := &unpacker{root: root, max: max, left: max, links: map[string]bool{}, built: built}
	tr := tar.NewReader(zr)
	for {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		hdr, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return invalid("the archive is damaged: %v", err)
		}
		if err := u.entry(hdr, tr); err != nil {
			return err
		}
	}
	// The checksum comes last, behind the padding.
	if n, err := io.CopyN(io.Discard, zr, maxPadding); !errors.Is(err, io.EOF) {
		return invalid("the archive is damaged after its end (%d bytes): %v", n, err)
	}
	return u.checkLinks()
}

const maxPadding = 16 << 20 // bytes; tar pads to 10 KiB unless told otherwise

type unpacker struct {
	root  *os.Root
	max   limits
	left  limits
	links map[string]bool // symbolic links so far; true: it names something of the archive
	built bool
}

func (u *unpacker) entry(hdr *tar.Header, r io.Reader) error {
	if u.left.entries--; u.left.entries < 0 {
		return invalid("the archive holds more than %d entries", u.max.entries)
	}
	switch hdr.Typeflag {
	case tar.TypeXGlobalHeader: // git archive writes the commit's name there
		return nil
	case tar.TypeReg, tar.TypeDir, tar.TypeSymlink, tar.TypeLink:
	default:
		return invalid("%.200q is neither a file, a directory nor a link", hdr.Name)
	}
	name, err := localName(hdr.Name)
	if err != nil {
		return err
	}
	if name == "." {
		if hdr.Typeflag != tar.TypeDir {
			return invalid("%.200q cannot be the name of a file", hdr.Name)
		}
		return nil
	}
	if u.behindLink(name) {
		return invalid("%.200q lies behind a link of the archive", hdr.Name)
	}
	if hdr.Typeflag == tar.TypeDir {
		return fileError(hdr.Name, u.root.MkdirAll(name, 0o700))
	}
	if err := u.root.MkdirAll(path.Dir(name), 0o700); err != nil {
		return fileError(hdr.Name, err)
	}
	switch hdr.Typeflag {
	case tar.TypeSymlink:
		return fileError(hdr.Name, u.symlink(name, hdr.Linkname))
	case tar.TypeLink:
		return fileError(hdr.Name, u.link(name, hdr.Linkname))
	}
	return fileError(hdr.Name, u.file(name, hdr, r))
}

// localName is an archive's name as a path below the directory.
func localName(name string) (string, error) {
	switch {
	case name == "" || strings.HasPrefix(name, "/"):
		return "", invalid("%.200q is an absolute path", name)
	case strings.ContainsRune(name, 0):
		return "", invalid("the archive holds a name with a NUL")
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return "", invalid("%.200q leads out of the archive", name)
		}
	}
	return path.Clean(name), nil
}

// behindLink says whether a directory on the way to name is a link. No archiver writes such entries.
func (u *unpacker) behindLink(name string) bool {
	for i := range len(name) {
		if name[i] != '/' {
			continue
		}
		if _, link := u.links[name[:i]]; link {
			return true
		}
	}
	return false
}

func (u *unpacker) file(name string, hdr *tar.Header, r io.Reader) error {
	if u.left.bytes -= hdr.Size; u.left.bytes < 0 {
		return invalid("the archive holds more than %d bytes", u.max.bytes)
	}
	perm := fs.FileMode(0o600)
	if hdr.Mode&0o100 != 0 {
		perm = 0o700
	}
	f, err := u.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return err
	}
	from := &source{r: r}
	_, err = io.Copy(f, from)
	if from.err != nil {
		err = invalid("the archive is damaged at %.200q: %v", name, from.err)
	}
	if err = errors.Join(err, f.Close()); err == nil && u.built { // compiled files and ETags go by the times of the build
		err = u.root.Chtimes(name, hdr.ModTime, hdr.ModTime)
	}
	return err
}

func (u *unpacker) symlink(name, target string) error {
	if u.built && systemFile(target) {
		u.links[name] = false
		return u.root.Symlink(target, name)
	}
	if target == "" || path.IsAbs(target) || !filepath.IsLocal(path.Join(path.Dir(name), target)) {
		return invalid("link %.200q leads out of the archive", name)
	}
	u.links[name] = true
	return u.root.Symlink(target, name)
}

// systemFile says whether a link's target is a file of the distribution, which nobody but root writes.
func systemFile(target string) bool {
	return strings.HasPrefix(target, "/usr/") && !strings.HasPrefix(target, "/usr/local/") && path.Clean(target) == target
}

// link makes a second name of a file that came earlier in the archive.
func (u *unpacker) link(name, target string) error {
	target, err := localName(target)
	if err != nil {
		return err
	}
	st, err := u.root.Lstat(target)
	if u.behindLink(target) || err != nil || !st.Mode().IsRegular() {
		return invalid("link %.200q names no file of the archive", name)
	}
	return u.root.Link(target, name)
}

// checkLinks follows every link when all of them are there: one that looks harmless can lead out through another. A link
// to nothing was checked by its text alone, and is allowed.
func (u *unpacker) checkLinks() error {
	for name, within := range u.links {
		if !within {
			continue
		}
		if _, err := u.root.Stat(name); err != nil && !errors.Is(err, fs.ErrNotExist) && !u.endsInSystemFile(name) {
			return invalid("link %.200q leads out of the archive, or nowhere", name)
		}
	}
	return nil
}

// endsInSystemFile follows links of the archive from one to the next: a virtual environment's python is a link to its
// python3, which is one to the distribution's.
func (u *unpacker) endsInSystemFile(name string) bool {
	for range 40 { // as many as Linux follows
		target, err := u.root.Readlink(name)
		if err != nil {
			return false
		}
		name = path.Join(path.Dir(name), target)
		if within, link := u.links[name]; !link || !within {
			return link
		}
	}
	return false
}

// fileError tells the archive's mistakes (a name twice, a file where a directory is) from the host's.
func fileError(name string, err error) error {
	switch {
	case errors.Is(err, fs.ErrExist):
		return invalid("the archive holds %.200q twice", name)
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.ENAMETOOLONG), errors.Is(err, syscall.EINVAL):
		return invalid("the archive holds %.200q, which cannot be made: %v", name, err)
	}
	return err
}

// source remembers the error of the side that is read, which io.Copy mixes with the other side's.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}
