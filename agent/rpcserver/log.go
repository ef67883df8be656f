package rpcserver

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
)

// log writes the one line of a request. It has no parameter values and no result.
func (s *Server) log(c *call, r *http.Request, failure *wireError, took time.Duration, size int) {
	level := slog.LevelInfo
	if failure == nil && c.method != nil && c.method.ReadOnly {
		level = slog.LevelDebug // polling would fill the journal
	}
	if !s.opts.Log.Enabled(context.Background(), level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("namespace", clip(c.namespace)),
		slog.String("method", clip(c.request.method)),
		slog.String("request_id", clip(string(c.request.id))),
		slog.String("remote", r.RemoteAddr),
		slog.Duration("duration", took),
		slog.Int64("request_bytes", r.ContentLength),
		slog.Int("reply_bytes", size),
	}
	if c.method != nil && c.method.Command {
		attrs = append(attrs, slog.Any("params", c.request.paramNames()))
	}
	if failure != nil {
		kind := failure.Kind
		if kind == "" {
			kind = agentapi.KindInvalid // the wire's own errors: the caller asked for something that is not there
		}
		attrs = append(attrs, slog.Int("code", int(failure.Code)), slog.String("kind", string(kind)))
	}
	s.opts.Log.LogAttrs(context.Background(), level, "rpc request", attrs...)
}

// clip bounds what a caller can put into a log line.
func clip(s string) string {
	const most = 64
	if len(s) <= most {
		return s
	}
	return s[:most] + "…"
}
