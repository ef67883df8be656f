package director

import (
	"io"
	"net/http"
	"strconv"
)

func (c *call) availableClouds() { c.answer(c.d.core.ServiceClouds()) }

func (c *call) version() { writeText(c.w, http.StatusOK, c.d.opts.Version) }

// unsupported answers for the ways to log in that there are not.
func (c *call) unsupported() { writeText(c.w, http.StatusOK, "False") }

func (c *call) debugLevel() { writeText(c.w, http.StatusOK, "0") }

// download sends the one file there is. It says nothing of an encoding: clients would unpack it on the way.
func (c *call) download() {
	if c.d.opts.Bootstrap == nil {
		writeText(c.w, http.StatusNotFound, "not found\n")
		return
	}
	f, modified, err := c.d.opts.Bootstrap()
	if err != nil {
		c.d.log.Error("what a new machine fetches cannot be opened", "err", err)
		writeText(c.w, http.StatusNotFound, "not found\n")
		return
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		c.d.log.Error("what a new machine fetches cannot be read", "err", err)
		writeText(c.w, http.StatusNotFound, "not found\n")
		return
	}
	h := c.w.Header()
	h.Set("Content-Type", "application/gzip")
	h.Set("Content-Length", strconv.FormatInt(size, 10))
	h.Set("Last-Modified", modified.UTC().Format(http.TimeFormat))
	c.w.WriteHeader(http.StatusOK)
	if c.r.Method != http.MethodHead {
		_, _ = io.Copy(c.w, f)
	}
}

// clip keeps text of a caller that an answer repeats short and on one line.
func clip(s string) string {
	out := make([]rune, 0, 256)
	for _, r := range s {
		if len(out) == 256 {
			return string(out) + "..."
		}
		if r < ' ' || r == 0x7f {
			r = '?'
		}
		out = append(out, r)
	}
	return string(out)
}
