package agentapi

import "encoding/json"

// CreateVHostParams are the parameters of apache.create_vhost.
//
// Result:  absolute path of the vhost's file, string
// Errors:  ParseError (template), ValueError (hostname, port), ApacheError (TLS), InitdError (config test, reload)
// Effects: <vhost dir>/<hostname>-<port>.vhost.conf, document root and log directories; reloads Apache if Reload
// Source:  spec agent-web 2.3
type CreateVHostParams struct {
	Hostname         string `json:"hostname" rpc:"required"`
	Port             Text   `json:"port" rpc:"required"`
	Template         string `json:"template" rpc:"required"` // httpd configuration, at most 256 KiB
	SSL              Bool   `json:"ssl" rpc:"required"`
	SSLCertificateID *Text  `json:"ssl_certificate_id,omitempty"` // null: the default certificate
	Reload           *Bool  `json:"reload,omitempty"`             // default true
	AllowPort        *Bool  `json:"allow_port,omitempty"`         // default false; accepted, the agent manages no firewall
}

// VHostRef is [hostname, port] on the wire.
type VHostRef struct {
	Hostname string
	Port     Text
}

// MarshalJSON writes the pair.
func (r VHostRef) MarshalJSON() ([]byte, error) {
	return json.Marshal([2]string{r.Hostname, string(r.Port)})
}

// UnmarshalJSON reads the pair.
func (r *VHostRef) UnmarshalJSON(data []byte) error {
	var pair []Text
	if err := json.Unmarshal(data, &pair); err != nil || len(pair) != 2 {
		return Errorf(KindInvalid, "ValueError", "a vhost is named by [hostname, port]")
	}
	r.Hostname, r.Port = string(pair[0]), pair[1]
	return nil
}

// UpdateVHostParams are the parameters of apache.update_vhost. What is absent stays as it is, the port too.
//
// Result:  null
// Errors:  as apache.create_vhost
// Effects: the vhost's file, under a new name when hostname or port change; reloads Apache if Reload
// Source:  spec agent-web 2.5
type UpdateVHostParams struct {
	Signature        VHostRef `json:"signature" rpc:"required"`
	Hostname         *Text    `json:"hostname,omitempty"`
	Port             *Text    `json:"port,omitempty"`
	Template         *Text    `json:"template,omitempty"`
	SSL              *Bool    `json:"ssl,omitempty"` // default false: certificates stay as the template has them
	SSLCertificateID *Text    `json:"ssl_certificate_id,omitempty"`
	Reload           *Bool    `json:"reload,omitempty"` // default true
}

// VHost is one element of apache.reconfigure, with the members of apache.create_vhost.
type VHost struct {
	Hostname         string `json:"hostname"`
	Port             Text   `json:"port"`
	Template         string `json:"template"`
	SSL              Bool   `json:"ssl"`
	SSLCertificateID *Text  `json:"ssl_certificate_id,omitempty"` // null or "0": the default certificate
}

// ReconfigureVHostsParams are the parameters of apache.reconfigure: make the set of virtual hosts exactly this list.
//
// Result:  operation id; without async the paths of the files, in the order of the list
// Errors:  as apache.create_vhost; AlreadyInProgressError
// Effects: every file of the vhost directory; one reload for all
// Source:  spec agent-web 2.5
type ReconfigureVHostsParams struct {
	VHosts          []VHost `json:"vhosts"`                      // [] removes all; null asks the coordinator for the list
	Reload          *Bool   `json:"reload,omitempty"`            // default true
	RollbackOnError *Bool   `json:"rollback_on_error,omitempty"` // accepted; a failed call always leaves the old set
	Async           *Bool   `json:"async,omitempty"`             // default true
}

// DefaultCertificateParams are the parameters of apache.set_default_ssl_certificate.
//
// Result:  null
// Errors:  ValueError, ApacheError, InitdError (config test)
// Effects: the packaged TLS site; nothing is reloaded
// Source:  spec agent-web 2.5
type DefaultCertificateParams struct {
	ID *Text `json:"id" rpc:"required"` // null: the default certificate
}

// DeleteVHostsParams are the parameters of apache.delete_vhosts. A vhost that is not there is skipped.
type DeleteVHostsParams struct {
	VHosts []VHostRef `json:"vhosts" rpc:"required"`
	Reload *Bool      `json:"reload,omitempty"` // default true
}

// ReasonParams are the parameters of a service verb; the reason is only logged.
type ReasonParams struct {
	Reason *Text `json:"reason,omitempty"`
}
