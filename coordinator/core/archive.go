package core

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
)

const (
	maxUnpacked = 512 << 20 // what an agent unpacks
	maxMembers  = 100_000
)

// normalArchive writes a tar.gz of a tar, plain or packed by gzip or bzip2, or of a zip. Members that would lie outside of
// the archive are refused, and so is what is neither file, directory nor link.
//
// Errors: invalid, or what w says
func normalArchive(w io.Writer, filename string, data io.ReaderAt, size int64) error {
	zw := gzip.NewWriter(w)
	tw := tar.NewWriter(zw)
	err := copyArchive(tw, io.NewSectionReader(data, 0, size))
	if err == nil {
		err = errors.Join(tw.Close(), zw.Close())
	}
	if _, ok := errors.AsType[*Error](err); ok || err == nil {
		return err
	}
	return Wrap(Invalid, ObjCode, err, "ERROR: %s is no tar, tar.gz, tar.bz2 or zip archive that can be read", clip(filename))
}

func copyArchive(w *tar.Writer, data *io.SectionReader) error {
	var magic [4]byte
	if _, err := data.ReadAt(magic[:], 0); err == nil && string(magic[:]) == "PK\x03\x04" {
		return copyZip(w, data)
	}
	return copyTar(w, data, magic[:])
}

// memberName is a member's name, relative and clean.
func memberName(name string) (string, error) {
	name = strings.ReplaceAll(name, "\\", "/")
	if name == "" || path.IsAbs(name) || slices.Contains(strings.Split(name, "/"), "..") || strings.ContainsRune(name, 0) {
		return "", Errorf(Invalid, ObjCode, "ERROR: the archive has a member that would lie outside of it: %s", clip(name))
	}
	return path.Clean(name), nil
}

func copyTar(w *tar.Writer, data *io.SectionReader, magic []byte) error {
	var r io.Reader = data
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		zr, err := gzip.NewReader(r)
		if err != nil {
			return err
		}
		r = zr
	case bytes.HasPrefix(magic, []byte("BZh")):
		r = bzip2.NewReader(r)
	}
	r = io.LimitReader(r, maxUnpacked)
	tr := tar.NewReader(r)
	for n := 0; ; n++ {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) && n > 0 {
			return nil
		}
		if err != nil {
			return err
		}
		name, err := memberName(h.Name)
		switch {
		case err != nil:
			return err
		case n == maxMembers:
			return Errorf(Invalid, ObjCode, "ERROR: the archive has more than %d members", maxMembers)
		case h.Typeflag == tar.TypeXGlobalHeader:
			continue
		case h.Typeflag == tar.TypeSymlink:
			if target := path.Join(path.Dir(name), h.Linkname); path.IsAbs(h.Linkname) || target == ".." || strings.HasPrefix(target, "../") {
				return Errorf(Invalid, ObjCode, "ERROR: the archive has a link that leads out of it: %s", clip(name))
			}
		case h.Typeflag != tar.TypeReg && h.Typeflag != tar.TypeDir:
			return Errorf(Invalid, ObjCode, "ERROR: the archive has a member that is no file: %s", clip(name))
		}
		out := &tar.Header{Typeflag: h.Typeflag, Name: name, Linkname: h.Linkname, Size: h.Size, Mode: h.Mode & 0o777, ModTime: h.ModTime}
		if err := w.WriteHeader(out); err != nil {
			return err
		}
		if _, err := io.Copy(w, tr); err != nil {
			return err
		}
	}
}

func copyZip(w *tar.Writer, data *io.SectionReader) error {
	zr, err := zip.NewReader(data, data.Size())
	if err != nil {
		return err
	}
	if len(zr.File) > maxMembers {
		return Errorf(Invalid, ObjCode, "ERROR: the archive has more than %d members", maxMembers)
	}
	left := int64(maxUnpacked)
	for _, f := range zr.File {
		name, err := memberName(f.Name)
		if err != nil {
			return err
		}
		h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(f.UncompressedSize64), Mode: int64(f.Mode().Perm() | 0o444), ModTime: f.Modified}
		switch {
		case f.Mode().IsDir():
			h.Typeflag, h.Size, h.Mode = tar.TypeDir, 0, 0o755
		case f.Mode()&fs.ModeType != 0:
			return Errorf(Invalid, ObjCode, "ERROR: the archive has a member that is no file: %s", clip(name))
		}
		if left -= h.Size; left < 0 || h.Size < 0 {
			return Errorf(Invalid, ObjCode, "ERROR: the archive unpacks to more than %d bytes", maxUnpacked)
		}
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		if h.Typeflag == tar.TypeDir {
			continue
		}
		in, err := f.Open()
		if err != nil {
			return err
		}
		_, err = io.Copy(w, io.LimitReader(in, h.Size))
		if err := errors.Join(err, in.Close()); err != nil {
			return err
		}
	}
	return nil
}
