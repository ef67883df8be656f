package orchestrator_test

import (
	"io"
	"net/http"
	"testing"
)

// BenchmarkNodes is GET /api/v1/nodes/fake_driver over loopback, client included, with the access log written.
func BenchmarkNodes(b *testing.B) {
	s := newStack(b)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			resp, err := client.Get(s.target.URL + "/api/v1/nodes/fake_driver")
			if err != nil {
				b.Error(err)
				return
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			if resp.StatusCode != 200 {
				b.Errorf("got %s", resp.Status)
			}
		}
	})
}
