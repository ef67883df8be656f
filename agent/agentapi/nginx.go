package agentapi

import "encoding/json"

// ProxyParams are the parameters of nginx.make_proxy. Unknown members are ignored, as the old agent did.
//
// Result:  null
// Errors:  Exception (no destinations, equal ports), ValueError, ParseError, PopenError (config test in the text), InitdError
// Effects: app-servers.include, proxies.include; reloads nginx if ReloadService; the files of SSLCertificate, and no more those
// of certificates that came so and that no proxy names any more
// Source:  spec agent-web 3.3
type ProxyParams struct {
	Hostname         string        `json:"hostname" rpc:"required"` // server_name, and the proxy's identity
	Backends         []Destination `json:"backends,omitempty"`
	Port             *Text         `json:"port,omitempty"` // default "80"
	HTTP             *Bool         `json:"http,omitempty"` // default true; only looked at with SSL
	SSL              *Bool         `json:"ssl,omitempty"`  // default false
	SSLPort          *Text         `json:"ssl_port,omitempty"`
	SSLCertificateID *Text         `json:"ssl_certificate_id,omitempty"`
	// Our own: the certificate itself, instead of being fetched by its id. An agent that does not know it fetches.
	SSLCertificate     *KeyPair   `json:"ssl_certificate,omitempty"`
	BackendPort        *Text      `json:"backend_port,omitempty"`
	BackendIPHash      *Bool      `json:"backend_ip_hash,omitempty"`
	BackendLeastConn   *Bool      `json:"backend_least_conn,omitempty"`
	BackendMaxFails    *Text      `json:"backend_max_fails,omitempty"`
	BackendFailTimeout *Text      `json:"backend_fail_timeout,omitempty"` // seconds
	BackendWeight      *Text      `json:"backend_weight,omitempty"`
	Templates          []Template `json:"templates,omitempty"`
	ReloadService      *Bool      `json:"reload_service,omitempty"`    // default true
	HashBackendName    *Bool      `json:"hash_backend_name,omitempty"` // default true
	WriteProxies       *Bool      `json:"write_proxies,omitempty"`     // default true; false: only upstreams are saved

	// Members of callers from before Backends; they count only without it, except RestartService.
	Roles          []any `json:"roles,omitempty"`   // ids, or objects with an id
	Servers        []any `json:"servers,omitempty"` // addresses, or objects as in Backends
	RestartService *Bool `json:"restart_service,omitempty"`
}

// DeliveredPrefix begins the id of every certificate that comes with a proxy. Such an id names one content for ever.
const DeliveredPrefix = "route-"

// KeyPair is a certificate with its chain, leaf first, and its key; both PEM.
type KeyPair struct {
	Cert string `json:"cert"`
	Key  Secret `json:"key"`
}

// Template is nginx configuration for a proxy: for the whole server, which replaces the default settings, or for the
// location that has exactly this URI.
type Template struct {
	Content  string `json:"content"` // directives; one surrounding server block is taken off
	Server   Bool   `json:"server,omitempty"`
	Location string `json:"location,omitempty"`
}

// Destination is where a location's requests go: a role's servers, one host, or both.
type Destination struct {
	FarmRoleID  Text   `json:"farm_role_id,omitempty"`
	Host        string `json:"host,omitempty"`
	Port        Text   `json:"port,omitempty"`
	Location    string `json:"location,omitempty"` // "" means "/"
	Network     string `json:"network,omitempty"`
	Backup      Bool   `json:"backup,omitempty"`
	Down        Bool   `json:"down,omitempty"`
	MaxFails    Text   `json:"max_fails,omitempty"`
	FailTimeout Text   `json:"fail_timeout,omitempty"` // seconds
	Weight      Text   `json:"weight,omitempty"`
}

// RemoveProxyParams are the parameters of nginx.remove_proxy.
type RemoveProxyParams struct {
	Hostname      string `json:"hostname" rpc:"required"`
	ReloadService *Bool  `json:"reload_service,omitempty"` // default true
}

// UpstreamServerParams are the parameters of nginx.add_server and nginx.remove_server. Server is an address, or an
// object with the members of a server line (spec agent-web 3.8).
type UpstreamServerParams struct {
	Backend            string `json:"backend" rpc:"required"` // upstream name; spec agent-web 3.8 says which patterns match
	Server             any    `json:"server" rpc:"required"`
	UpdateConf         *Bool  `json:"update_conf,omitempty"`          // default true; false: check, and change nothing
	ReloadService      *Bool  `json:"reload_service,omitempty"`       // default true
	UpdateBackendTable *Bool  `json:"update_backend_table,omitempty"` // default false; whether the table of roles learns of it too
}

// RecreateProxyingParams are the parameters of nginx.recreate_proxying: make the proxies exactly this list.
//
// Result:  null
// Errors:  as nginx.make_proxy, with the proxy's name in the text
// Effects: as nginx.make_proxy, for all of them with one reload; all or nothing
// Source:  spec agent-web 3.9
type RecreateProxyingParams struct {
	ProxyList     []json.RawMessage `json:"proxy_list" rpc:"required"` // of ProxyParams, whose hostname may be called name; null or [] removes all
	ReloadService *Bool             `json:"reload_service,omitempty"`  // default true
}

// ReconfigureProxiesParams are the parameters of nginx.reconfigure: nginx.recreate_proxying as an operation.
//
// Result:  operation id; without async null
// Errors:  as nginx.recreate_proxying; AlreadyInProgressError
// Effects: as nginx.recreate_proxying
// Source:  spec agent-web 1.3, 3.9
type ReconfigureProxiesParams struct {
	Proxies []json.RawMessage `json:"proxies"`         // as proxy_list; [] removes all
	Async   *Bool             `json:"async,omitempty"` // default true
}

// RoleServerParams are the parameters of nginx.add_server_to_role and nginx.remove_server_from_role. A role that no proxy
// uses is no error, and neither is an empty server or role.
type RoleServerParams struct {
	Server        any   `json:"server" rpc:"required"` // as in UpstreamServerParams
	RoleID        Text  `json:"role_id" rpc:"required"`
	UpdateConf    *Bool `json:"update_conf,omitempty"`    // default true; false: check, and change nothing
	ReloadService *Bool `json:"reload_service,omitempty"` // default true; nginx is reloaded only if something changed
}

// AllBackendsParams are the parameters of nginx.remove_server_from_all_backends.
type AllBackendsParams struct {
	Server        any   `json:"server" rpc:"required"`    // as in UpstreamServerParams
	UpdateConf    *Bool `json:"update_conf,omitempty"`    // default true; false: check, and change nothing
	ReloadService *Bool `json:"reload_service,omitempty"` // default true; nginx is reloaded only if something changed
}

// EnableSSLParams are the parameters of nginx.enable_ssl: serve a proxy over TLS too. An unknown hostname is no error.
type EnableSSLParams struct {
	Hostname         string `json:"hostname" rpc:"required"`
	SSLPort          *Text  `json:"ssl_port,omitempty"`           // default 443
	SSLCertificateID *Text  `json:"ssl_certificate_id,omitempty"` // null: the default certificate
	UpdateConf       *Bool  `json:"update_conf,omitempty"`        // default true
	ReloadService    *Bool  `json:"reload_service,omitempty"`     // default true
}

// DisableSSLParams are the parameters of nginx.disable_ssl, the reverse of enable_ssl.
type DisableSSLParams struct {
	Hostname      string `json:"hostname" rpc:"required"`
	UpdateConf    *Bool  `json:"update_conf,omitempty"`    // default true
	ReloadService *Bool  `json:"reload_service,omitempty"` // default true
}
