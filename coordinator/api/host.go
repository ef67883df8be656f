package api

import (
	"net/http"
	"strings"
)

// RequestHost is the name or address by which a caller reached us, without a port; an IPv6 address is in brackets.
func RequestHost(r *http.Request) string {
	if end := strings.IndexByte(r.Host, ']'); end > 0 && r.Host[0] == '[' {
		return r.Host[:end+1]
	}
	host, _, _ := strings.Cut(r.Host, ":")
	return host
}
