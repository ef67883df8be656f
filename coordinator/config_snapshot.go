package main

import (
	"fmt"
	"math"
	"regexp"
	"time"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// SnapshotProfile is when snapshots are taken, and how many are kept.
type SnapshotProfile struct {
	ID          int64              `yaml:"id"` // positive; apps keep it, so never give it to another profile
	Name        string             `yaml:"name"`
	QuotaFactor float64            `yaml:"quota_factor"` // what an app's disk counts for, as a multiple of its size; 0 means 1
	Schedules   []SnapshotSchedule `yaml:"schedules"`
}

// SnapshotSchedule wants a snapshot each period.
type SnapshotSchedule struct {
	Name  string        `yaml:"name"`
	Every time.Duration `yaml:"every"` // at least a minute
	Keep  int           `yaml:"keep"`
}

// validateProfiles finds every problem.
func validateProfiles(profiles []SnapshotProfile) (errs []error) {
	ids, names := map[int64]bool{}, map[string]bool{}
	for i, p := range profiles {
		bad := func(format string, args ...any) {
			errs = append(errs, fmt.Errorf("snapshot_profiles[%d]: "+format, append([]any{i}, args...)...))
		}
		if p.ID <= 0 || p.ID > math.MaxInt32 || ids[p.ID] {
			bad("id: %d is not positive, or is another profile's", p.ID)
		}
		if p.Name == "" || names[p.Name] {
			bad("name: %q is empty, or is another profile's", p.Name)
		}
		if ids[p.ID], names[p.Name] = true, true; p.QuotaFactor != 0 && p.QuotaFactor < 1 {
			bad("quota_factor: %g is less than 1", p.QuotaFactor)
		}
		if len(p.Schedules) == 0 {
			bad("schedules: at least one is needed")
		}
		schedules := map[string]bool{}
		for _, s := range p.Schedules {
			if !scheduleName.MatchString(s.Name) || schedules[s.Name] {
				bad("schedules: the name %q is no word of a-z, 0-9, _ and -, or comes twice", s.Name)
			}
			if schedules[s.Name] = true; s.Every < time.Minute || s.Keep < 1 {
				bad("schedules: %q needs a period (every) of at least 1m and at least one snapshot to keep", s.Name)
			}
		}
	}
	return errs
}

var scheduleName = regexp.MustCompile(`^[a-z0-9_-]{1,32}$`)

// snapshotProfiles are the configured ones; nil means those built in.
func snapshotProfiles(cfg Config) []core.SnapshotProfile {
	var all []core.SnapshotProfile
	for _, p := range cfg.SnapshotProfiles {
		profile := core.SnapshotProfile{ID: p.ID, Name: p.Name, QuotaFactor: max(p.QuotaFactor, 1)}
		for _, s := range p.Schedules {
			profile.Schedules = append(profile.Schedules, core.SnapshotSchedule(s))
		}
		all = append(all, profile)
	}
	return all
}
