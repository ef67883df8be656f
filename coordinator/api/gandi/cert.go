package gandi

// hostedCert is a certificate hosted for a virtual host. Routes have none yet, so lists of them are empty.
type hostedCert struct {
	id          int64
	fqdn, state string
}

var certColumns = []column[hostedCert]{
	{name: "id", kind: intColumn, value: func(h *hostedCert) cell { return intCell(h.id) }},
	{name: "fqdns", kind: textColumn, value: func(h *hostedCert) cell { return textCell(h.fqdn) }, filterOnly: true},
	{name: "state", kind: textColumn, value: func(h *hostedCert) cell { return textCell(h.state) }},
}

func (c *call) certHostedList() error {
	return serveList(c, certColumns, nothing[hostedCert], func(*call, *hostedCert) {})
}
