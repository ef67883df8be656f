package agentapi

import "log/slog"

// Secret is text that must not be seen: it prints and logs as "[redacted]" and goes over the (encrypted) wire as it is.
type Secret string

func (Secret) String() string       { return "[redacted]" }
func (Secret) GoString() string     { return "[redacted]" }
func (Secret) LogValue() slog.Value { return slog.StringValue("[redacted]") }
