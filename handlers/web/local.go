package web

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
)

// GetLocal asks a web server of this host at addr, and follows no redirect. Nothing of the environment counts: no proxy, and no
// address but this one. A body of more than limit bytes is an error.
func GetLocal(ctx context.Context, addr, target string, limit int64) (status int, body []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1"+target, nil)
	if err != nil {
		return 0, nil, err
	}
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", addr)
	}}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	if body, err = io.ReadAll(io.LimitReader(resp.Body, limit+1)); err == nil && int64(len(body)) > limit {
		err = fmt.Errorf("the status page is longer than %d bytes", limit)
	}
	return resp.StatusCode, body, err
}
