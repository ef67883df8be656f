// Package blob fetches and writes the files that a coordinator lends to its hosts.
package blob

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
)

const (
	maxBlob     = 512 << 20 // bytes, packed
	blobTimeout = 10 * time.Minute
	blobTries   = 3
)

// SHA256 matches a SHA-256 as it is written.
var SHA256 = regexp.MustCompile(`^[0-9a-f]{64}$`)

// Check says whether a blob could be fetched or stored.
//
// Errors: invalid
func Check(b agentapi.Blob) error {
	_, err := blobClient(b)
	return err
}

// blobClient makes the client of one blob, whose certificate is checked against the authority it came with.
func blobClient(b agentapi.Blob) (*http.Client, error) {
	u, err := url.Parse(b.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
		return nil, invalid("a blob's URL is http or https, with its token beside it")
	}
	if strings.ContainsAny(string(b.Token), "\r\n") {
		return nil, invalid("a blob's token is one line")
	}
	if b.SHA256 != "" && !SHA256.MatchString(b.SHA256) {
		return nil, invalid("a blob's sha256 is 64 lower-case hexadecimal digits")
	}
	t := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: time.Minute, DisableKeepAlives: true, DisableCompression: true,
	}
	if b.CACert != "" {
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM([]byte(b.CACert)) {
			return nil, invalid("a blob's ca_cert holds no certificate in PEM")
		}
		t.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	return &http.Client{Transport: t, Timeout: blobTimeout, CheckRedirect: func(*http.Request, []*http.Request) error {
		return errors.New("the blob is not where it was said to be") // the token is for that server alone
	}}, nil
}

func blobRequest(ctx context.Context, method string, b agentapi.Blob, body io.Reader) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, b.URL, body)
	if err != nil {
		return nil, invalid("a blob's URL is http or https, with its token beside it")
	}
	if b.Token != "" {
		req.Header.Set("Authorization", "Bearer "+string(b.Token))
	}
	return req, nil
}

// Fetch writes a blob into a file, which it empties first, and returns its sum. It is tried again when the connection
// fails. The file is read from its beginning afterwards.
//
// Errors: invalid (also another sum than the blob's), unavailable
func Fetch(ctx context.Context, b agentapi.Blob, f *os.File) (sum string, err error) {
	client, err := blobClient(b)
	if err != nil {
		return "", err
	}
	err = blobRetry(ctx, func() error {
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return err
		}
		if err := f.Truncate(0); err != nil {
			return err
		}
		sum, err = fetchOnce(ctx, client, b, f)
		return err
	})
	if err != nil {
		return "", err
	}
	if b.SHA256 != "" && sum != b.SHA256 {
		return "", invalid("the blob's SHA-256 is %s, not %s", sum, b.SHA256)
	}
	_, err = f.Seek(0, io.SeekStart)
	return sum, err
}

func fetchOnce(ctx context.Context, client *http.Client, b agentapi.Blob, w io.Writer) (string, error) {
	req, err := blobRequest(ctx, http.MethodGet, b, nil)
	if err != nil {
		return "", err
	}
	res, err := client.Do(req)
	if err != nil {
		return "", unreachable("fetch the blob", err)
	}
	defer res.Body.Close()
	if err := blobStatus("fetch the blob", res); err != nil {
		return "", err
	}
	hash := sha256.New()
	n, err := io.Copy(io.MultiWriter(w, hash), io.LimitReader(res.Body, maxBlob+1))
	switch {
	case n > maxBlob:
		return "", invalid("the blob is larger than %d bytes", maxBlob)
	case err != nil:
		if _, local := errors.AsType[*os.PathError](err); local {
			return "", err
		}
		return "", unreachable("fetch the blob", err)
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

// Store sends a file to where a blob is to be written.
//
// Errors: invalid, unavailable
func Store(ctx context.Context, b agentapi.Blob, f *os.File, size int64) error {
	client, err := blobClient(b)
	if err != nil {
		return err
	}
	return blobRetry(ctx, func() error {
		req, err := blobRequest(ctx, http.MethodPut, b, io.NewSectionReader(f, 0, size))
		if err != nil {
			return err
		}
		req.ContentLength = size
		req.Header.Set("Content-Type", "application/gzip")
		res, err := client.Do(req)
		if err != nil {
			return unreachable("store the blob", err)
		}
		defer res.Body.Close()
		return blobStatus("store the blob", res)
	})
}

// blobRetry tries again what was unavailable.
func blobRetry(ctx context.Context, try func() error) error {
	for n := 1; ; n++ {
		err := try()
		if err == nil || n == blobTries || !unavailable(err) {
			return err
		}
		timer := time.NewTimer(time.Duration(n) * 300 * time.Millisecond)
		select {
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		case <-timer.C:
		}
	}
}

func blobStatus(what string, res *http.Response) error {
	switch {
	case res.StatusCode >= 200 && res.StatusCode < 300:
		return nil
	case res.StatusCode >= 500 || res.StatusCode == http.StatusTooManyRequests:
		return agentapi.Errorf(agentapi.KindUnavailable, "BlobError", "%s: the server answers %s", what, res.Status)
	}
	return invalid("%s: the server answers %s", what, res.Status)
}

// unreachable hides the URL, which may hold what gives access.
func unreachable(what string, err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err
	}
	return &agentapi.Error{Kind: agentapi.KindUnavailable, Class: "BlobError", Text: fmt.Sprintf("%s: %v", what, err), Err: err}
}

func invalid(format string, args ...any) error {
	return agentapi.Errorf(agentapi.KindInvalid, "ValueError", format, args...)
}

func unavailable(err error) bool {
	e, ok := errors.AsType[*agentapi.Error](err)
	return ok && e.Kind == agentapi.KindUnavailable
}
