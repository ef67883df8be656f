package main

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"go.yaml.in/yaml/v3"
	"golang.org/x/crypto/bcrypt"
	"golang.org/x/time/rate"
)

// webSettings is a web config file as Prometheus' exporter-toolkit has it. The toolkit itself brings three megabytes of
// templates, sockets and tracing that the agent has no use for.
type webSettings struct {
	TLS struct {
		Cert         string   `yaml:"cert"`
		Key          string   `yaml:"key"`
		CertFile     string   `yaml:"cert_file"`
		KeyFile      string   `yaml:"key_file"`
		ClientAuth   string   `yaml:"client_auth_type"`
		ClientCA     string   `yaml:"client_ca"`
		ClientCAFile string   `yaml:"client_ca_file"`
		AllowedSANs  []string `yaml:"client_allowed_sans"`
		MinVersion   string   `yaml:"min_version"`
		MaxVersion   string   `yaml:"max_version"`
		CipherSuites []string `yaml:"cipher_suites"`
		Curves       []string `yaml:"curve_preferences"`
		PreferServer *bool    `yaml:"prefer_server_cipher_suites"` // of no effect any more, as in the toolkit
	} `yaml:"tls_server_config"`
	HTTP struct {
		HTTP2   *bool             `yaml:"http2"`
		Headers map[string]string `yaml:"headers"`
	} `yaml:"http_server_config"`
	RateLimit struct {
		Burst    int           `yaml:"burst"`
		Interval time.Duration `yaml:"interval"`
	} `yaml:"rate_limit"`
	Users map[string]string `yaml:"basic_auth_users"` // bcrypt hashes

	tls *tls.Config // nil without TLS
}

// webConfig is a web config file that is read again whenever it changes. An empty path means no file.
type webConfig struct {
	path    string
	limiter *rate.Limiter // nil without a limit; set at the start

	mu       sync.Mutex // protects the fields below
	read     time.Time  // when the file last changed
	size     int64
	settings *webSettings
	key      [32]byte          // of the memory of passwords
	passed   map[[32]byte]bool // MACs of user, password and hash that fit: bcrypt takes longer than a scrape
}

// maxPassed bounds the memory of passwords.
const maxPassed = 100

func newWebConfig(path string) (*webConfig, error) {
	w := &webConfig{path: path, passed: map[[32]byte]bool{}}
	_, _ = rand.Read(w.key[:])
	s, err := w.current()
	if err == nil && s.RateLimit.Interval > 0 {
		w.limiter = rate.NewLimiter(rate.Every(s.RateLimit.Interval), max(s.RateLimit.Burst, 1))
	}
	return w, err
}

// current is what the file says now.
func (w *webConfig) current() (*webSettings, error) {
	if w.path == "" {
		return &webSettings{}, nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	st, err := os.Stat(w.path)
	if err != nil {
		return nil, err
	}
	if w.settings != nil && st.ModTime().Equal(w.read) && st.Size() == w.size {
		return w.settings, nil
	}
	s, err := readWebSettings(w.path)
	if err != nil {
		return nil, err
	}
	w.settings, w.read, w.size = s, st.ModTime(), st.Size()
	return s, nil
}

func readWebSettings(path string) (*webSettings, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	s := &webSettings{}
	dec := yaml.NewDecoder(f)
	dec.KnownFields(true)
	if err := dec.Decode(s); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for name := range s.HTTP.Headers {
		if !slices.Contains(webHeaders, name) {
			return nil, fmt.Errorf("%s: header %q cannot be set; those that can are %v", path, name, webHeaders)
		}
	}
	for user, hash := range s.Users {
		if _, err := bcrypt.Cost([]byte(hash)); err != nil {
			return nil, fmt.Errorf("%s: the password of %q is no bcrypt hash", path, user)
		}
	}
	if err := s.makeTLS(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

var webHeaders = []string{"Content-Security-Policy", "Strict-Transport-Security", "X-Content-Type-Options", "X-Frame-Options", "X-XSS-Protection"}

var tlsVersions = map[string]uint16{"TLS10": tls.VersionTLS10, "TLS11": tls.VersionTLS11, "TLS12": tls.VersionTLS12, "TLS13": tls.VersionTLS13}

var tlsCurves = map[string]tls.CurveID{"CurveP256": tls.CurveP256, "CurveP384": tls.CurveP384, "CurveP521": tls.CurveP521, "X25519": tls.X25519, "X25519MLKEM768": tls.X25519MLKEM768}

var tlsClientAuth = map[string]tls.ClientAuthType{
	"": tls.NoClientCert, "NoClientCert": tls.NoClientCert, "RequestClientCert": tls.RequestClientCert,
	"RequireAnyClientCert": tls.RequireAnyClientCert, "RequireClientCert": tls.RequireAnyClientCert,
	"VerifyClientCertIfGiven": tls.VerifyClientCertIfGiven, "RequireAndVerifyClientCert": tls.RequireAndVerifyClientCert,
}

// makeTLS builds the TLS configuration; files are relative to the web config's directory.
func (s *webSettings) makeTLS(dir string) error {
	t := &s.TLS
	if t.Cert == "" && t.Key == "" && t.CertFile == "" && t.KeyFile == "" {
		if t.ClientAuth != "" || t.ClientCA != "" || t.ClientCAFile != "" {
			return errors.New("tls_server_config: cert_file and key_file are missing")
		}
		return nil
	}
	cert, err := textOrFile(dir, t.Cert, t.CertFile)
	if err != nil {
		return err
	}
	key, err := textOrFile(dir, t.Key, t.KeyFile)
	if err != nil {
		return err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return fmt.Errorf("tls_server_config: %w", err)
	}
	c := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
	if s.HTTP.HTTP2 != nil && !*s.HTTP.HTTP2 {
		c.NextProtos = []string{"http/1.1"}
	}
	if err := s.clientTLS(dir, c); err != nil {
		return err
	}
	for _, v := range []struct {
		name string
		into *uint16
	}{{t.MinVersion, &c.MinVersion}, {t.MaxVersion, &c.MaxVersion}} {
		if v.name == "" {
			continue
		}
		if *v.into = tlsVersions[v.name]; *v.into == 0 {
			return fmt.Errorf("tls_server_config: %q is none of TLS10, TLS11, TLS12, TLS13", v.name)
		}
	}
	for _, name := range t.Curves {
		id, ok := tlsCurves[name]
		if !ok {
			return fmt.Errorf("tls_server_config: unknown curve %q", name)
		}
		c.CurvePreferences = append(c.CurvePreferences, id)
	}
	for _, name := range t.CipherSuites {
		i := slices.IndexFunc(tls.CipherSuites(), func(cs *tls.CipherSuite) bool { return cs.Name == name })
		if i < 0 {
			return fmt.Errorf("tls_server_config: unknown or insecure cipher suite %q", name)
		}
		c.CipherSuites = append(c.CipherSuites, tls.CipherSuites()[i].ID)
	}
	s.tls = c
	return nil
}

// clientTLS adds what is asked of clients.
func (s *webSettings) clientTLS(dir string, c *tls.Config) error {
	t := &s.TLS
	auth, ok := tlsClientAuth[t.ClientAuth]
	if !ok {
		return fmt.Errorf("tls_server_config: client_auth_type %q is none of %v", t.ClientAuth, slices.Sorted(maps.Keys(tlsClientAuth)))
	}
	c.ClientAuth = auth
	hasCA := t.ClientCA != "" || t.ClientCAFile != ""
	if hasCA && auth == tls.NoClientCert {
		return errors.New("tls_server_config: a client CA without client_auth_type has no effect")
	}
	if hasCA {
		ca, err := textOrFile(dir, t.ClientCA, t.ClientCAFile)
		if err != nil {
			return err
		}
		if c.ClientCAs = x509.NewCertPool(); !c.ClientCAs.AppendCertsFromPEM(ca) {
			return errors.New("tls_server_config: the client CA holds no certificate")
		}
	}
	if len(t.AllowedSANs) > 0 {
		c.VerifyConnection = func(state tls.ConnectionState) error {
			if len(state.PeerCertificates) == 0 || !s.allowedName(state.PeerCertificates[0]) {
				return errors.New("the client's certificate has none of client_allowed_sans")
			}
			return nil
		}
	}
	return nil
}

// allowedName says whether a client's certificate has one of the names.
func (s *webSettings) allowedName(cert *x509.Certificate) bool {
	names := slices.Concat(cert.DNSNames, cert.EmailAddresses)
	for _, ip := range cert.IPAddresses {
		names = append(names, ip.String())
	}
	for _, uri := range cert.URIs {
		names = append(names, uri.String())
	}
	return slices.ContainsFunc(names, func(n string) bool { return slices.Contains(s.TLS.AllowedSANs, n) })
}

func textOrFile(dir, text, file string) ([]byte, error) {
	switch {
	case text != "" && file != "":
		return nil, errors.New("tls_server_config: both a text and a file are given")
	case file == "":
		return []byte(text), nil
	case !filepath.IsAbs(file):
		file = filepath.Join(dir, file)
	}
	return os.ReadFile(file)
}

// tlsConfig is nil when the file asks for no TLS at the start. Certificates are read again when the file changes.
func (w *webConfig) tlsConfig() (*tls.Config, error) {
	s, err := w.current()
	if err != nil || s.tls == nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: s.tls.NextProtos, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		s, err := w.current()
		if err == nil && s.tls == nil {
			err = errors.New("the web config has no TLS any more")
		}
		if err != nil {
			return nil, err
		}
		return s.tls, nil
	}}, nil
}

// wrap asks for a password where the file has users.
func (w *webConfig) wrap(next http.Handler) http.Handler {
	if w.path == "" {
		return next
	}
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		s, err := w.current()
		if err != nil {
			http.Error(rw, "the web config cannot be read", http.StatusInternalServerError)
			return
		}
		for name, value := range s.HTTP.Headers {
			rw.Header().Set(name, value)
		}
		if w.limiter != nil && !w.limiter.Allow() {
			http.Error(rw, "too many requests", http.StatusTooManyRequests)
			return
		}
		user, password, _ := r.BasicAuth()
		if len(s.Users) > 0 && !w.knows(s, user, password) {
			rw.Header().Set("WWW-Authenticate", "Basic")
			http.Error(rw, "Unauthorized", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(rw, r)
	})
}

// nobody is the hash that an unknown user's password is held against, so that it takes as long as a known one's.
const nobody = "$2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi"

func (w *webConfig) knows(s *webSettings, user, password string) bool {
	hash, known := s.Users[user]
	if !known {
		hash = nobody
	}
	mac := hmac.New(sha256.New, w.key[:])
	fmt.Fprintf(mac, "%q %q %q", user, password, hash)
	sum := [32]byte(mac.Sum(nil))
	w.mu.Lock()
	passed := w.passed[sum]
	w.mu.Unlock()
	if passed {
		return known
	}
	if bcrypt.CompareHashAndPassword([]byte(hash), []byte(password)) != nil || !known {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.passed) >= maxPassed {
		clear(w.passed)
	}
	w.passed[sum] = true
	return true
}
