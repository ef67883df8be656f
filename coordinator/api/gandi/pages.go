package gandi

import (
	"context"
	"slices"
	"sync"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// Bounds of what pages keeps, in bytes.
const (
	maxPage  = 2 << 20
	maxPages = 16 << 20
)

// versioned is a Core that tells cheaply whether anything that is stored has changed.
type versioned interface {
	Version(ctx context.Context) (version int64, ok bool)
}

// pageKey names a page of an account's list as it is stored: unfiltered, by ascending id.
type pageKey struct {
	account     core.AccountID
	page, size  int
	nilAsString bool
}

// page is a part of a reply and all that it depends on.
type page struct {
	version   int64
	locations []core.Location
	xml       []byte // never changed
}

// pages remembers the last pages of paas.list. People's scripts ask for the same list again and again, and reading and
// writing a thousand instances costs a hundred times what it costs to see that nothing was committed since.
//
// An entry is used only while the version that was read before its rows were is still the version of the store, so it
// cannot be out of date, whoever wrote.
type pages struct {
	mu    sync.Mutex // protects the fields below
	known map[pageKey]page
	bytes int
}

func (p *pages) get(key pageKey, version int64, locations []core.Location) ([]byte, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	found, ok := p.known[key]
	if !ok || found.version != version || !slices.Equal(found.locations, locations) {
		return nil, false
	}
	return found.xml, true
}

// put remembers a page, which nobody changes any more, and forgets others when there are too many.
func (p *pages) put(key pageKey, version int64, locations []core.Location, xml []byte) {
	if len(xml) > maxPage {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.known == nil {
		p.known = make(map[pageKey]page)
	}
	p.dropLocked(key)
	for other := range p.known {
		if p.bytes+len(xml) <= maxPages {
			break
		}
		p.dropLocked(other)
	}
	p.known[key] = page{version, locations, xml}
	p.bytes += len(xml)
}

func (p *pages) dropLocked(key pageKey) {
	p.bytes -= len(p.known[key].xml)
	delete(p.known, key)
}
