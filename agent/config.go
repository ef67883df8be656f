package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

const defaultConfigPath = "/etc/reeve/agent.yaml"

// Config is everything an operator can set. The zero value of a member that comes later means what was true before it.
type Config struct {
	Listen       []string      `yaml:"listen"`         // addresses of the RPC listeners
	ListenTLS    []string      `yaml:"listen_tls"`     // addresses with TLS around the same envelope
	TLS          TLSConfig     `yaml:"tls"`            // for listen_tls
	AllowFrom    []string      `yaml:"allow_from"`     // networks that may call, and read metrics; empty means all
	KeyFile      string        `yaml:"key_file"`       // "" means /etc/reeve/keys/default, or Scalarizr's
	MaxClockSkew time.Duration `yaml:"max_clock_skew"` // either way; 0s means that dates are not compared with the clock

	Coordinator CoordinatorConfig `yaml:"coordinator"` // whom this host asks and tells; without it, nobody

	MaxBodyBytes   int64 `yaml:"max_body_bytes"`
	MaxConnections int   `yaml:"max_connections"`

	MetricsListen    string   `yaml:"metrics_listen"`     // "" means no metrics
	MetricsWebConfig string   `yaml:"metrics_web_config"` // TLS and basic auth, as in Prometheus' exporter-toolkit
	MetricsUnits     []string `yaml:"metrics_units"`      // units of systemd whose state is shown; empty means those the agent drives

	StateDir  string `yaml:"state_dir"`
	BackupDir string `yaml:"backup_dir"` // backups of databases, for root only
	LogLevel  string `yaml:"log_level"`  // debug, info, warn or error
	LogFormat string `yaml:"log_format"` // text or json
}

// TLSConfig names PEM files.
type TLSConfig struct {
	CertFile     string `yaml:"cert_file"`
	KeyFile      string `yaml:"key_file"`
	ClientCAFile string `yaml:"client_ca_file"` // callers must show a certificate of this CA; "" means they need none
}

// CoordinatorConfig says where the coordinator listens for what agents ask and tell by themselves. Either URL may be missing.
type CoordinatorConfig struct {
	QueryEnvURL   string `yaml:"queryenv_url"`   // below it: VERSION/COMMAND
	ProducerURL   string `yaml:"producer_url"`   // below it: the message queues control and log
	ServerID      string `yaml:"server_id"`      // by which the coordinator knows this host
	FarmRoleID    string `yaml:"farm_role_id"`   // of this host; a coordinator of ours needs none
	CloudLocation string `yaml:"cloud_location"` // of this host, as the coordinator names it: servers of a role there are reached internally
	Messages      string `yaml:"messages"`       // form of messages: json or xml; "" means json
	CAFile        string `yaml:"ca_file"`        // PEM of the authority of https URLs; "" means those that the host trusts
}

// DefaultConfig works without a file.
func DefaultConfig() Config {
	return Config{
		Listen:         []string{":8010"},
		MaxClockSkew:   300 * time.Second,
		MaxBodyBytes:   8 << 20,
		MaxConnections: 256,
		MetricsListen:  ":9810",
		StateDir:       "/var/lib/reeve-agent",
		BackupDir:      "/var/backups/reeve",
		LogLevel:       "info",
		LogFormat:      "text",
	}
}

// loadConfig reads a file and then the environment. A file at the default path may be missing; one that was asked for
// may not.
func loadConfig(path string, getenv func(string) string) (Config, error) {
	c := DefaultConfig()
	if path == "" {
		path = getenv("REEVE_AGENT_CONFIG")
	}
	asked := path != ""
	if !asked {
		path = defaultConfigPath
	}
	data, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !asked:
	case err != nil:
		return c, fmt.Errorf("config: %w", err)
	default:
		if err := c.decode(path, data); err != nil {
			return c, err
		}
	}
	return c, c.fromEnvironment(getenv)
}

// decode reads YAML over what c holds. Errors start with file and line.
func (c *Config) decode(path string, data []byte) error {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	err := dec.Decode(c)
	if err == nil && dec.Decode(&yaml.Node{}) != io.EOF {
		return fmt.Errorf("%s: more than one document", path)
	}
	if err == nil || errors.Is(err, io.EOF) { // an empty file changes nothing
		return nil
	}
	problems := []string{err.Error()}
	if e, ok := errors.AsType[*yaml.TypeError](err); ok {
		problems = e.Errors
	}
	errs := make([]error, len(problems))
	for i, p := range problems {
		errs[i] = errors.New(withFile(path, p))
	}
	return errors.Join(errs...)
}

var (
	yamlLine    = regexp.MustCompile(`^(?:yaml: )?line (\d+): (.*)$`)
	yamlUnknown = regexp.MustCompile(`^field (\S+) not found in type \S+$`)
)

// withFile turns "line 3: …" into "agent.yaml:3: …".
func withFile(path, problem string) string {
	m := yamlLine.FindStringSubmatch(problem)
	if m == nil {
		return path + ": " + problem
	}
	text := m[2]
	if u := yamlUnknown.FindStringSubmatch(text); u != nil {
		text = fmt.Sprintf("unknown key %q", u[1])
	}
	return path + ":" + m[1] + ": " + text
}

// fromEnvironment sets what REEVE_AGENT_<KEY> variables say, where KEY is the key of the file in capitals, and members of
// tls are TLS_CERT_FILE and so on. Lists are separated by commas.
func (c *Config) fromEnvironment(getenv func(string) string) error {
	var errs []error
	for name, set := range map[string]func(string) error{
		"COORDINATOR_QUERYENV_URL":   setText(&c.Coordinator.QueryEnvURL),
		"COORDINATOR_PRODUCER_URL":   setText(&c.Coordinator.ProducerURL),
		"COORDINATOR_SERVER_ID":      setText(&c.Coordinator.ServerID),
		"COORDINATOR_FARM_ROLE_ID":   setText(&c.Coordinator.FarmRoleID),
		"COORDINATOR_CLOUD_LOCATION": setText(&c.Coordinator.CloudLocation),
		"COORDINATOR_MESSAGES":       setText(&c.Coordinator.Messages),
		"COORDINATOR_CA_FILE":        setText(&c.Coordinator.CAFile),

		"LISTEN":             setList(&c.Listen),
		"LISTEN_TLS":         setList(&c.ListenTLS),
		"TLS_CERT_FILE":      setText(&c.TLS.CertFile),
		"TLS_KEY_FILE":       setText(&c.TLS.KeyFile),
		"TLS_CLIENT_CA_FILE": setText(&c.TLS.ClientCAFile),
		"ALLOW_FROM":         setList(&c.AllowFrom),
		"KEY_FILE":           setText(&c.KeyFile),
		"MAX_CLOCK_SKEW":     setWith(&c.MaxClockSkew, time.ParseDuration),
		"MAX_BODY_BYTES":     setWith(&c.MaxBodyBytes, func(s string) (int64, error) { return strconv.ParseInt(s, 10, 64) }),
		"MAX_CONNECTIONS":    setWith(&c.MaxConnections, strconv.Atoi),
		"METRICS_LISTEN":     setText(&c.MetricsListen),
		"METRICS_WEB_CONFIG": setText(&c.MetricsWebConfig),
		"METRICS_UNITS":      setList(&c.MetricsUnits),
		"STATE_DIR":          setText(&c.StateDir),
		"BACKUP_DIR":         setText(&c.BackupDir),
		"LOG_LEVEL":          setText(&c.LogLevel),
		"LOG_FORMAT":         setText(&c.LogFormat),
	} {
		name = "REEVE_AGENT_" + name
		if value := getenv(name); value != "" {
			if err := set(value); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", name, err))
			}
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}

func setText(into *string) func(string) error {
	return func(s string) error { *into = s; return nil }
}

func setList(into *[]string) func(string) error {
	return func(s string) error {
		*into = nil
		for item := range strings.SplitSeq(s, ",") {
			*into = append(*into, strings.TrimSpace(item))
		}
		return nil
	}
}

func setWith[T any](into *T, parse func(string) (T, error)) func(string) error {
	return func(s string) (err error) {
		*into, err = parse(s)
		return err
	}
}

// Validate reports every problem, one per line, by the key that it is about.
func (c *Config) Validate() error {
	var errs []error
	problem := func(key, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: %s", key, fmt.Sprintf(format, args...)))
	}
	if len(c.Listen)+len(c.ListenTLS) == 0 {
		problem("listen", "no address to answer calls on")
	}
	for key, addrs := range map[string][]string{"listen": c.Listen, "listen_tls": c.ListenTLS, "metrics_listen": nonEmpty(c.MetricsListen)} {
		for _, a := range addrs {
			if _, port, err := net.SplitHostPort(a); err != nil {
				problem(key, "%q is not HOST:PORT, such as :8010 or 192.0.2.7:8010", a)
			} else if _, err := strconv.ParseUint(port, 10, 16); err != nil {
				problem(key, "%q has no port from 0 to 65535", a)
			}
		}
	}
	if len(c.ListenTLS) > 0 && (c.TLS.CertFile == "" || c.TLS.KeyFile == "") {
		problem("tls", "listen_tls needs cert_file and key_file")
	}
	for key, text := range map[string]string{"coordinator.queryenv_url": c.Coordinator.QueryEnvURL, "coordinator.producer_url": c.Coordinator.ProducerURL} {
		if text == "" {
			continue
		}
		if u, err := url.Parse(text); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.User != nil {
			problem(key, "it is not http://HOST/PATH or https://HOST/PATH")
		}
		if c.Coordinator.ServerID == "" {
			problem("coordinator.server_id", "%s needs it: the coordinator knows this host by it", key)
		}
	}
	if !slices.Contains([]string{"", "json", "xml"}, c.Coordinator.Messages) {
		problem("coordinator.messages", "%q is not json or xml", c.Coordinator.Messages)
	}
	if _, err := c.allowFrom(); err != nil {
		problem("allow_from", "%v", err)
	}
	if c.MaxClockSkew < 0 {
		problem("max_clock_skew", "%s is negative; 0s turns the comparison off", c.MaxClockSkew)
	}
	if c.MaxBodyBytes < 1<<10 {
		problem("max_body_bytes", "%d is too small for any call", c.MaxBodyBytes)
	}
	if c.MaxConnections < 1 {
		problem("max_connections", "%d allows no connection", c.MaxConnections)
	}
	if c.StateDir == "" {
		problem("state_dir", "it is empty")
	}
	if !filepath.IsAbs(c.BackupDir) {
		problem("backup_dir", "it is no absolute path")
	}
	if _, err := c.logLevel(); err != nil {
		problem("log_level", "%q is not debug, info, warn or error", c.LogLevel)
	}
	if c.LogFormat != "text" && c.LogFormat != "json" {
		problem("log_format", "%q is not text or json", c.LogFormat)
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}

func nonEmpty(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

// closedDirs hold what only the agent may read: its state, its keys and the backups it makes.
func (c *Config) closedDirs() []string {
	dirs := []string{c.StateDir, c.BackupDir}
	for _, key := range []string{c.KeyFile, c.TLS.KeyFile} {
		if key != "" {
			dirs = append(dirs, filepath.Dir(key))
		}
	}
	return dirs
}

// allowFrom reads networks, and single addresses as networks of one.
func (c *Config) allowFrom() ([]netip.Prefix, error) {
	var networks []netip.Prefix
	for _, text := range c.AllowFrom {
		if addr, err := netip.ParseAddr(text); err == nil {
			networks = append(networks, netip.PrefixFrom(addr.Unmap(), addr.Unmap().BitLen()))
			continue
		}
		network, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("%q is not a network, such as 192.0.2.0/24", text)
		}
		networks = append(networks, network.Masked())
	}
	return networks, nil
}

func (c *Config) logLevel() (level slog.Level, err error) {
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, c.LogLevel) {
		return level, errors.New("unknown")
	}
	return level, level.UnmarshalText([]byte(c.LogLevel))
}

// logger writes to w as configured.
func (c *Config) logger(w io.Writer) *slog.Logger {
	level, err := c.logLevel()
	if err != nil {
		level = slog.LevelInfo
	}
	options := &slog.HandlerOptions{Level: level}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}
