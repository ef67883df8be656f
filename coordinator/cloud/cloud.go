package cloud

import (
	"fmt"
	"slices"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// Driver is the code for one cloud: an implementation of core.Cloud, and of core.VolumeCloud and core.PowerCloud as far
// as its CloudInfo declares. The contract is written there; package cloudtest checks it.
type Driver = core.Cloud

// defaultName always finds a cloud.
const defaultName = "default"

// Named is a configured cloud.
type Named struct {
	Name   string
	Driver Driver
}

// Set is the configured clouds of a coordinator. It does not change.
type Set struct {
	drivers  map[string]Driver
	names    []string
	standard string // what "default" stands for; "default" itself when a cloud has that name
}

var _ core.Clouds = (*Set)(nil)

// NewSet builds a set. The name "default" finds the cloud called standard, unless a cloud is literally named "default",
// which then goes first. An empty standard means the first of the list.
//
// Errors: a set without clouds, an empty or doubled name, a standard that is not in the list
func NewSet(standard string, clouds ...Named) (*Set, error) {
	if len(clouds) == 0 {
		return nil, fmt.Errorf("no cloud is configured")
	}
	if standard == "" {
		standard = clouds[0].Name
	}
	s := &Set{drivers: map[string]Driver{}, standard: standard}
	for _, c := range clouds {
		if c.Name == "" || c.Driver == nil {
			return nil, fmt.Errorf("a cloud needs a name and a driver")
		}
		if _, twice := s.drivers[c.Name]; twice {
			return nil, fmt.Errorf("two clouds are named %q", c.Name)
		}
		s.drivers[c.Name] = c.Driver
	}
	if _, literal := s.drivers[defaultName]; literal {
		s.standard = defaultName
	} else {
		driver, ok := s.drivers[standard]
		if !ok {
			return nil, fmt.Errorf("the default cloud %q is not configured", standard)
		}
		s.drivers[defaultName] = driver
	}
	for name := range s.drivers {
		if name != defaultName {
			s.names = append(s.names, name)
		}
	}
	slices.Sort(s.names)
	s.names = slices.Insert(s.names, 0, defaultName)
	return s, nil
}

// Cloud finds a cloud by its name.
func (s *Set) Cloud(name string) (core.Cloud, bool) {
	d, ok := s.drivers[name]
	return d, ok
}

// Canonical is the configured name behind name: of "default" the cloud it stands for, of any other name itself.
func (s *Set) Canonical(name string) string {
	if name == defaultName {
		return s.standard
	}
	return name
}

// Names lists the names, "default" first and the others sorted.
func (s *Set) Names() []string { return slices.Clone(s.names) }
