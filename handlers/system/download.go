package system

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"time"
)

const (
	maxScriptBody   = 8 << 20
	downloadTimeout = time.Minute
)

// download fetches a script that a caller named by URL.
func download(ctx context.Context, url string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, downloadTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, fmt.Errorf("download script: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("download script: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("download script %s: %s", url, resp.Status)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxScriptBody+1))
	if err != nil {
		return nil, fmt.Errorf("download script: %w", err)
	}
	if len(body) > maxScriptBody {
		return nil, fmt.Errorf("download script %s: larger than %d bytes", url, maxScriptBody)
	}
	return body, nil
}

func randomID() string { return rand.Text()[:8] }
