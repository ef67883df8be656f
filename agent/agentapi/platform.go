package agentapi

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
)

// PlatformAccessParam is the parameter that carries cloud credentials in any call. The server takes it out, so that no
// method sees it among its parameters.
const PlatformAccessParam = "_platform_access_data"

// PlatformAccessData is what a caller sent as `_platform_access_data`, a JSON value (keys per cloud: spec agent-core 1.6).
// It belongs to one request and the operation it starts, is never stored, and prints as "[redacted]".
type PlatformAccessData struct{ raw json.RawMessage }

// NewPlatformAccessData keeps a JSON value.
func NewPlatformAccessData(raw json.RawMessage) PlatformAccessData { return PlatformAccessData{raw} }

// Decode reads the members a cloud needs.
func (d PlatformAccessData) Decode(into any) error { return json.Unmarshal(d.raw, into) }

// Format hides the credentials under every verb.
func (PlatformAccessData) Format(f fmt.State, _ rune) { io.WriteString(f, "[redacted]") }

// LogValue hides the credentials.
func (PlatformAccessData) LogValue() slog.Value { return slog.StringValue("[redacted]") }

// MarshalJSON hides the credentials from encoders.
func (PlatformAccessData) MarshalJSON() ([]byte, error) { return []byte(`"[redacted]"`), nil }

type platformAccessKey struct{}

// WithPlatformAccessData binds the credentials to a request's context.
func WithPlatformAccessData(ctx context.Context, d PlatformAccessData) context.Context {
	return context.WithValue(ctx, platformAccessKey{}, d)
}

// PlatformAccessDataFrom returns the credentials the request came with, if it came with any.
func PlatformAccessDataFrom(ctx context.Context) (PlatformAccessData, bool) {
	d, ok := ctx.Value(platformAccessKey{}).(PlatformAccessData)
	return d, ok
}
