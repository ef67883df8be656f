package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/handlers/deploy/platform"
)

const defaultListenGit = ":2222"

const defaultConfigPath = "/etc/reeve/coordinator.yaml"

// Config is everything an operator can set. The zero value of a member that comes later means what was true before it.
type Config struct {
	DataDir     string   `yaml:"data_dir"`
	Listen      string   `yaml:"listen"`       // TLS
	ListenPlain string   `yaml:"listen_plain"` // the same routes without TLS
	AllowPlain  bool     `yaml:"allow_plain"`  // let listen_plain be more than loopback
	ServerNames []string `yaml:"server_names"` // names and addresses in the listener's certificate
	PublicURL   string   `yaml:"public_url"`   // under which callers reach us, for links in answers
	LogLevel    string   `yaml:"log_level"`    // debug, info, warn or error

	Clouds       map[string]CloudConfig `yaml:"clouds"`
	DefaultCloud string                 `yaml:"default_cloud"` // what the name "default" means, unless a cloud has it
	AppCloud     string                 `yaml:"app_cloud"`     // where apps run
	PoolNodes    int                    `yaml:"pool_nodes"`    // nodes that apps share, made with the first such app; 0 means 2
	PoolSize     string                 `yaml:"pool_size"`     // of each; "" means the first with 1 GiB of memory
	AgentURL     string                 `yaml:"agent_url"`     // under which nodes reach us; "" means this machine's address on the way to them

	AgentPackage string   `yaml:"agent_package"` // .deb that node images get; "" means the one installed with us
	ImageCache   string   `yaml:"image_cache"`   // where built node images are kept
	SSHKeys      []string `yaml:"ssh_keys"`      // public keys let in as root on every node

	GitHost     string `yaml:"git_host"`     // shown as git_server; "" means the host of the request
	FTPHost     string `yaml:"ftp_host"`     // shown as ftp_server; "" means the instance's own node, for this and the next
	ConsoleHost string `yaml:"console_host"` // shown in console
	RouterHost  string `yaml:"router_host"`  // name that leads to the routers, for CNAME records; "" means there is none

	ListenGit      string        `yaml:"listen_git"`      // SSH for git; "" turns it off
	AppDomain      string        `yaml:"app_domain"`      // tsuru: zone of the names that apps are given
	AdminTeam      string        `yaml:"admin_team"`      // tsuru: team whose members are administrators
	NoRegistration bool          `yaml:"no_registration"` // tsuru: only administrators make accounts
	TokenTTL       time.Duration `yaml:"token_ttl"`       // tsuru: how long a login lasts
	JSONStreams    bool          `yaml:"json_streams"`    // tsuru: streams of JSON also on paths without a version (clients 0.13 to 0.18)
	Mail           MailConfig    `yaml:"mail"`            // for new passwords

	HostedZones []string `yaml:"hosted_zones"` // names in them need no proof of ownership
	Resolver    string   `yaml:"resolver"`     // host:port asked for that proof; "" means the system's
	MaxApps     int      `yaml:"max_apps"`     // per account; 0 means no limit
	MaxUnits    int      `yaml:"max_units"`    // per app; 0 means no limit

	DirectorListen    string         `yaml:"director_listen"`     // TLS, for the ConPaaS Director's API
	DirectorMaxCredit int64          `yaml:"director_max_credit"` // of a user that somebody makes for themselves; 0 or less means 50
	DirectorClosed    bool           `yaml:"director_closed"`     // nobody makes a user for themselves
	ScalingMetrics    []MetricConfig `yaml:"scaling_metrics"`     // numbers that nodes tell of themselves when their agents are asked

	ServiceZone string `yaml:"service_zone"` // services get names in it on the routers; "" means none

	SnapshotProfiles []SnapshotProfile `yaml:"snapshot_profiles"` // that apps may have; none means those built in
	MaxSnapshots     int               `yaml:"max_snapshots"`     // per app, of those no profile asked for; 0 means 10
}

// MailConfig says how messages leave. Without a relay they are kept in the outbox folder of the data directory.
type MailConfig struct {
	From         string `yaml:"from"`
	Relay        string `yaml:"relay"` // host:port of an SMTP server
	User         string `yaml:"user"`
	PasswordFile string `yaml:"password_file"`
	AllowPlain   bool   `yaml:"allow_plain"` // send also when the relay offers no TLS
}

// MetricConfig is a number that the agents of nodes tell, of a program that they run as root or of a file.
type MetricConfig struct {
	Name    string `yaml:"name"`
	Path    string `yaml:"path"`    // on the nodes
	Execute bool   `yaml:"execute"` // it is a program that prints the number; a file that begins with it otherwise
	Role    string `yaml:"role"`    // of the nodes that tell it: router, app, db or pool; "" means all
}

// CloudConfig is one cloud. Engine decides which of the other members apply.
type CloudConfig struct {
	Engine         string         `yaml:"engine"`          // fake, nspawn or static
	AllowAnonymous bool           `yaml:"allow_anonymous"` // let callers without a token use it
	Bridge         string         `yaml:"bridge"`          // nspawn: name of its bridge
	Subnet         string         `yaml:"subnet"`          // nspawn: IPv4 prefix of its nodes, at least /29
	Hosts          []HostConfig   `yaml:"hosts"`           // static: machines that vm/start may enrol
	Platforms      []string       `yaml:"platforms"`       // static: optional platforms whose packages its machines have
	Location       LocationConfig `yaml:"location"`        // nspawn, static
}

// LocationConfig is where a cloud is, as Gandi's clients show and name it. What is left out is made up.
type LocationConfig struct {
	Name    string `yaml:"name"`
	Country string `yaml:"country"`
	ISO     string `yaml:"iso"`  // of the country, such as "LU"
	Code    string `yaml:"code"` // such as "LU-BI1", which gandi.cli takes unless it is told another one
}

var (
	isoPattern  = regexp.MustCompile(`^([A-Z]{2})?$`)
	codePattern = regexp.MustCompile(`^([A-Z]{2}-[A-Z0-9]{1,12})?$`) // in capitals: gandi.cli turns what it is given into them
)

// HostConfig is a machine of a static cloud and how to reach it over SSH.
type HostConfig struct {
	Name    string `yaml:"name"`     // of the machine, unique in its cloud
	Address string `yaml:"address"`  // IP address or name
	Port    int    `yaml:"port"`     // 0 means 22
	User    string `yaml:"user"`     // "" means root
	KeyFile string `yaml:"key_file"` // private SSH key without a passphrase
	HostKey string `yaml:"host_key"` // the machine's own key, such as "ssh-ed25519 AAAA…"
	Sudo    bool   `yaml:"sudo"`     // user becomes root with sudo -n
}

// DefaultConfig works without a file: this machine is the cloud, and fake_driver serves the documented examples.
func DefaultConfig() Config {
	return Config{
		DataDir:     "/var/lib/reeve-coordinator",
		Listen:      ":8443",
		ListenPlain: "127.0.0.1:8080",
		LogLevel:    "info",
		Clouds: map[string]CloudConfig{
			"nspawn":      {Engine: "nspawn", Bridge: "reeve0", Subnet: "10.66.0.0/24"},
			"static":      {Engine: "static"},
			"fake_driver": {Engine: "fake"},
		},
		DefaultCloud: "nspawn",
		AppCloud:     "default",
		ImageCache:   "/var/cache/reeve/images",
		HostedZones:  []string{"test", "localhost", "example"},
		ListenGit:    defaultListenGit,
		AppDomain:    "apps.test",
		AdminTeam:    "admin",
		TokenTTL:     7 * 24 * time.Hour,
		Mail:         MailConfig{From: "reeve@localhost"},

		DirectorListen:    ":5555",
		DirectorMaxCredit: 50,
	}
}

// settings binds what can also be set by environment (REEVE_DATA_DIR for --data-dir) and by flag.
func (c *Config) settings(f *pflag.FlagSet) {
	f.StringVar(&c.DataDir, "data-dir", c.DataDir, "directory of the database, keys and node state")
	f.StringVar(&c.Listen, "listen", c.Listen, "address of the TLS listener; empty turns it off")
	f.StringVar(&c.ListenPlain, "listen-plain", c.ListenPlain, "address of the listener without TLS; empty turns it off")
	f.BoolVar(&c.AllowPlain, "allow-plain", c.AllowPlain, "let --listen-plain be reachable from other machines")
	f.StringSliceVar(&c.ServerNames, "server-names", c.ServerNames, "names and addresses in the listener's certificate")
	f.StringVar(&c.PublicURL, "public-url", c.PublicURL, "URL under which callers reach this coordinator")
	f.StringVar(&c.LogLevel, "log-level", c.LogLevel, "debug, info, warn or error")
	f.StringVar(&c.DefaultCloud, "default-cloud", c.DefaultCloud, "cloud that the name \"default\" means")
	f.StringVar(&c.AppCloud, "app-cloud", c.AppCloud, "cloud that apps run on")
	f.StringVar(&c.AgentPackage, "agent-package", c.AgentPackage, ".deb of the agent for node images")
	f.StringVar(&c.ImageCache, "image-cache", c.ImageCache, "directory of built node images")
	f.StringVar(&c.GitHost, "git-host", c.GitHost, "host name shown as git_server; empty means the host of the request")
	f.StringVar(&c.FTPHost, "ftp-host", c.FTPHost, "host name shown as ftp_server; empty means the instance's own node")
	f.StringVar(&c.ConsoleHost, "console-host", c.ConsoleHost, "host name shown as console; empty means the instance's own node")
	f.StringVar(&c.RouterHost, "router-host", c.RouterHost, "host name that leads to the routers, shown to owners of names")
	f.StringSliceVar(&c.HostedZones, "hosted-zones", c.HostedZones, "zones whose names need no proof of ownership")
	f.StringVar(&c.Resolver, "resolver", c.Resolver, "host:port of the DNS server asked for proofs of ownership")
	f.StringVar(&c.ListenGit, "listen-git", c.ListenGit, "address of git over SSH; empty turns it off")
	f.StringVar(&c.AppDomain, "app-domain", c.AppDomain, "zone of the names that apps are given")
	f.StringVar(&c.AdminTeam, "admin-team", c.AdminTeam, "team whose members are administrators")
	f.BoolVar(&c.NoRegistration, "no-registration", c.NoRegistration, "let only administrators make accounts")
	f.DurationVar(&c.TokenTTL, "token-ttl", c.TokenTTL, "how long a login through the tsuru API lasts")
	f.IntVar(&c.MaxUnits, "max-units", c.MaxUnits, "units per app; 0 means no limit")
	f.IntVar(&c.MaxApps, "max-apps", c.MaxApps, "apps per account; 0 means no limit")
	f.StringVar(&c.DirectorListen, "director-listen", c.DirectorListen, "address of the ConPaaS Director's listener; empty turns it off")
	f.Int64Var(&c.DirectorMaxCredit, "director-max-credit", c.DirectorMaxCredit, "most credit a new user of the Director may ask for")
	f.BoolVar(&c.DirectorClosed, "director-closed", c.DirectorClosed, "let nobody make a user of the Director by themselves")
	f.StringVar(&c.ServiceZone, "service-zone", c.ServiceZone, "zone in which services get names on the routers; empty means none")
}

// loadConfig reads file, environment and flags, each over the one before. Only an explicitly named file must exist.
func loadConfig(file string, explicit bool, flags *pflag.FlagSet, environ func(string) (string, bool)) (Config, error) {
	c := DefaultConfig()
	data, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !explicit:
	case err != nil:
		return c, err
	default:
		if err := c.fromFile(file, data); err != nil {
			return c, err
		}
	}
	set := pflag.NewFlagSet("settings", pflag.ContinueOnError)
	c.settings(set)
	var problems []error
	set.VisitAll(func(f *pflag.Flag) {
		key := "REEVE_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		if v, ok := environ(key); ok {
			if err := f.Value.Set(v); err != nil {
				problems = append(problems, fmt.Errorf("%s: %w", key, err))
			}
		}
	})
	flags.VisitAll(func(f *pflag.Flag) {
		if g := set.Lookup(f.Name); g != nil && f.Changed {
			v := f.Value.String()
			if s, ok := f.Value.(pflag.SliceValue); ok {
				v = strings.Join(s.GetSlice(), ",")
			}
			if err := g.Value.Set(v); err != nil {
				problems = append(problems, fmt.Errorf("--%s: %w", f.Name, err))
			}
		}
	})
	if err := errors.Join(append(problems, c.Validate())...); err != nil {
		return c, err
	}
	if c.DataDir, err = filepath.Abs(c.DataDir); err != nil {
		return c, err
	}
	return c, nil
}

// fromFile reads settings over those of c. Clouds are replaced as a whole, so that a file can leave out the default ones.
func (c *Config) fromFile(path string, data []byte) error {
	standard := c.Clouds
	c.Clouds = nil
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	err := dec.Decode(c)
	if c.Clouds == nil {
		c.Clouds = standard
	}
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

// withFile turns "line 3: …" into "coordinator.yaml:3: …".
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

// Validate reports every problem at once.
func (c *Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.DataDir == "" {
		bad("data_dir: a directory is needed")
	}
	for _, setting := range [][2]string{{"listen", c.Listen}, {"listen_plain", c.ListenPlain}, {"resolver", c.Resolver}, {"director_listen", c.DirectorListen}} {
		if _, _, err := net.SplitHostPort(setting[1]); setting[1] != "" && err != nil {
			bad("%s: %w", setting[0], err)
		}
	}
	if c.Listen == "" && c.ListenPlain == "" {
		bad("listen, listen_plain: at least one is needed")
	}
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, c.LogLevel) {
		bad("log_level: %q is none of debug, info, warn, error", c.LogLevel)
	}
	if c.PoolNodes < 0 {
		bad("pool_nodes: %d is negative; 0 means 2", c.PoolNodes)
	}
	if c.MaxApps < 0 {
		bad("max_apps: %d is negative; 0 means no limit", c.MaxApps)
	}
	if c.MaxUnits < 0 {
		bad("max_units: %d is negative; 0 means no limit", c.MaxUnits)
	}
	if c.MaxSnapshots < 0 {
		bad("max_snapshots: %d is negative; 0 means 10", c.MaxSnapshots)
	}
	errs = append(errs, validateProfiles(c.SnapshotProfiles)...)
	if c.TokenTTL <= 0 {
		bad("token_ttl: %s is not positive", c.TokenTTL)
	}
	for i, m := range c.ScalingMetrics {
		if m.Name == "" || !path.IsAbs(m.Path) {
			bad("scaling_metrics[%d]: a name and an absolute path are needed", i)
		}
		if m.Role != "" && !slices.Contains([]string{"router", "app", "db", "pool"}, m.Role) {
			bad("scaling_metrics[%d].role: %q is none of router, app, db, pool", i, m.Role)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Clouds)) {
		cloud := c.Clouds[name]
		if !isoPattern.MatchString(cloud.Location.ISO) {
			bad("clouds.%s.location.iso: %q is not two capital letters", name, cloud.Location.ISO)
		}
		if !codePattern.MatchString(cloud.Location.Code) {
			bad("clouds.%s.location.code: %q is not like LU-BI1, in capitals", name, cloud.Location.Code)
		}
		switch cloud.Engine {
		case "fake":
		case "static":
			for _, p := range cloud.Platforms {
				if !slices.Contains(platform.Optional(), p) {
					bad("clouds.%s.platforms: %q is none of %s", name, p, strings.Join(platform.Optional(), ", "))
				}
			}
			for i, h := range cloud.Hosts {
				if h.Name == "" || h.Address == "" || h.KeyFile == "" || h.HostKey == "" {
					bad("clouds.%s.hosts[%d]: name, address, key_file and host_key are needed", name, i)
				}
			}
		case "nspawn":
			if p, err := netip.ParsePrefix(cloud.Subnet); cloud.Subnet != "" && (err != nil || !p.Addr().Is4() || p.Bits() > 29) {
				bad("clouds.%s.subnet: %q is no IPv4 prefix of at least /29", name, cloud.Subnet)
			}
			if len(cloud.Bridge) > 15 {
				bad("clouds.%s.bridge: %q is longer than 15 characters", name, cloud.Bridge)
			}
		default:
			bad("clouds.%s.engine: %q is none of fake, nspawn, static", name, cloud.Engine)
		}
	}
	has := func(name string) bool { _, ok := c.Clouds[name]; return ok }
	if !has(c.DefaultCloud) && !has("default") { // a cloud of that very name goes first
		bad("default_cloud: there is no cloud %q under clouds", c.DefaultCloud)
	}
	if !has(c.AppCloud) && c.AppCloud != "default" {
		bad("app_cloud: there is no cloud %q under clouds", c.AppCloud)
	}
	return errors.Join(errs...)
}

// metrics are the scaling metrics in the words of core.
func (c *Config) metrics() []core.ScalingMetric {
	var list []core.ScalingMetric
	for i, m := range c.ScalingMetrics {
		list = append(list, core.ScalingMetric{ID: i + 1, Name: m.Name, Path: m.Path, Read: !m.Execute, Role: core.Role(m.Role)})
	}
	return list
}
