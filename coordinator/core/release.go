package core

import (
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
)

// ReleaseState is where a release is in its life.
type ReleaseState string

// The states of a release.
const (
	ReleaseBuilding ReleaseState = "building"
	ReleaseBuilt    ReleaseState = "built" // may be deployed, and gone back to
	ReleaseFailed   ReleaseState = "failed"
)

// Origin is how a release came.
type Origin string

// The origins.
const (
	OriginGit      Origin = "git"
	OriginUpload   Origin = "upload"
	OriginArchive  Origin = "archive-url"
	OriginRollback Origin = "rollback"
	OriginWelcome  Origin = "welcome" // what an app serves before its owner deploys something
)

// Release is one numbered, immutable deployment of an app.
type Release struct {
	Num       int64 // of the row
	AppID     AppID
	Number    int // of the app, from 1
	State     ReleaseState
	Origin    Origin
	Commit    string
	Account   string // e-mail of who deployed it
	Source    string // SHA-256 of the archive that was handed in
	Artifact  string // SHA-256 of what was built from it; "" until it is built
	RouteID   string // of the route that it is for alone; "": it is the app's
	SizeBytes int64  // of the artifact
	Manifest  agentapi.Manifest
	Error     string // why it failed, for people
	CreatedAt time.Time
	EndedAt   time.Time // zero until its deployment ended
}
