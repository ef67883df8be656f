package gandi

import (
	"crypto/x509/pkix"
	"slices"
	"strings"

	"github.com/reeve-paas/reeve/coordinator/api/gandi/xmlrpc"
	"github.com/reeve-paas/reeve/coordinator/core"
)

// hostedCert is a certificate that the account uploaded, with the virtual hosts it is shown for. Wire struct:
//
//	{id: int, subject: string, state: 'created', date_created: dateTime, date_expire: dateTime}
//
// info and create add {fqdns: [{type: 'cn' or 'altname', name: string}], related_vhosts: [{id: int, service_id: int, type: 'paas',
// name: string}]}; service_id is the instance's.
type hostedCert struct {
	core.RouteCertificate
	subject, cn string
	vhosts      []vhost
}

const certCreated = "created"

var certColumns = []column[hostedCert]{
	{name: "id", kind: intColumn, value: func(h *hostedCert) cell { return intCell(h.Num) }},
	{name: "subject", kind: textColumn, value: func(h *hostedCert) cell { return textCell(h.subject) }},
	{name: "fqdns", kind: textColumn, value: func(h *hostedCert) cell { return textCell(strings.Join(h.Names, " ")) }, filterOnly: true, any: (*hostedCert).fqdns},
	{name: "state", kind: textColumn, value: func(*hostedCert) cell { return textCell(certCreated) }},
	{name: "date_created", kind: timeColumn, value: func(h *hostedCert) cell { return timeCell(h.CreatedAt) }},
	{name: "date_expire", kind: timeColumn, value: func(h *hostedCert) cell { return timeCell(h.EndsAt) }},
}

// fqdns are the names that a certificate is found by: its own, and those of the virtual hosts it is shown for, which a wildcard
// covers without naming them.
func (h *hostedCert) fqdns() []cell {
	var names []cell
	for _, name := range h.Names {
		names = append(names, textCell(name))
	}
	for _, v := range h.vhosts {
		names = append(names, textCell(v.Hostname))
	}
	return names
}

func (c *call) certHostedList() error {
	return serveList(c, certColumns, c.loadCerts, func(c *call, h *hostedCert) {
		c.out.BeginStruct()
		writeCertName(c, h)
		c.out.EndStruct()
	})
}

func (c *call) certHostedCount() error { return serveCount(c, certColumns, c.loadCerts) }

func (c *call) loadCerts(*query[hostedCert]) ([]hostedCert, error) {
	list, err := c.d.opts.Core.RouteCertificates(c.ctx, c.p)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	vhosts, err := c.loadVhosts(&query[vhost]{})
	if err != nil {
		return nil, err
	}
	rows := make([]hostedCert, len(list))
	for i, rc := range list {
		leaf, err := rc.Leaf()
		if err != nil {
			return nil, err
		}
		rows[i] = hostedCert{RouteCertificate: rc, subject: subjectText(leaf.Subject), cn: leaf.Subject.CommonName}
		for _, v := range vhosts {
			if v.cert == rc.Num {
				rows[i].vhosts = append(rows[i].vhosts, v)
			}
		}
	}
	return rows, nil
}

// cert finds a certificate by its number.
func (c *call) cert(num int64) (*hostedCert, error) {
	rows, err := c.loadCerts(nil)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(rows, func(h hostedCert) bool { return h.Num == num })
	if i < 0 {
		return nil, core.Errorf(core.NotFound, core.ObjCertificate, "Hosted certificate '%d' doesn't exist.", num)
	}
	return &rows[i], nil
}

func (c *call) certHostedInfo() error {
	num, err := c.argInt(0)
	if err != nil {
		return err
	}
	return c.writeCert(num)
}

// certHostedCreate stores a certificate and has the routers show it, with an operation for each instance that has a name it
// covers.
func (c *call) certHostedCreate() error {
	v, err := c.argStruct(0)
	if err != nil {
		return err
	}
	var crt, key string
	s := &specReader{}
	s.read(v, []string{"crt", "key"}, func(member string, v xmlrpc.Value) bool {
		switch member {
		case "crt":
			crt = s.text(member, v)
		case "key":
			key = s.text(member, v)
		default:
			return false
		}
		return true
	})
	if len(s.problems) > 0 {
		return problemFault(s.first())
	}
	rc, _, err := c.d.opts.Core.UploadCertificate(c.ctx, c.p, crt, core.Secret(key))
	if err != nil {
		return err
	}
	return c.writeCert(rc.Num)
}

// certHostedDelete answers true. Names for which the certificate was shown get another one, with an operation for each instance.
func (c *call) certHostedDelete() error {
	num, err := c.argInt(0)
	if err != nil {
		return err
	}
	if _, err := c.d.opts.Core.RemoveCertificate(c.ctx, c.p, num); err != nil {
		if core.KindOf(err) == core.NotFound {
			return core.Errorf(core.NotFound, core.ObjCertificate, "Hosted certificate '%d' doesn't exist.", num)
		}
		return err
	}
	c.out.Bool(true)
	return nil
}

func writeCertName(c *call, h *hostedCert) {
	fieldID.Int(c.out, h.Num)
	fieldSubject.String(c.out, h.subject)
	fieldState.String(c.out, certCreated)
	fieldDateCreated.Time(c.out, h.CreatedAt)
	fieldDateExpire.Time(c.out, h.EndsAt)
}

func (c *call) writeCert(num int64) error {
	h, err := c.cert(num)
	if err != nil {
		return err
	}
	out := c.out
	out.BeginStruct()
	writeCertName(c, h)
	fieldFqdns.Begin(out)
	out.BeginArray()
	for _, name := range h.Names {
		kind := "altname"
		if name == h.cn {
			kind = "cn"
		}
		out.BeginStruct()
		fieldType.String(out, kind)
		fieldName.String(out, name)
		out.EndStruct()
	}
	out.EndArray()
	out.EndMember()
	fieldRelatedVhosts.Begin(out)
	out.BeginArray()
	for _, v := range h.vhosts {
		out.BeginStruct()
		fieldID.Int(out, v.Num)
		fieldServiceID.Int(out, v.app)
		fieldType.String(out, "paas")
		fieldName.String(out, v.Hostname)
		out.EndStruct()
	}
	out.EndArray()
	out.EndMember()
	out.EndStruct()
	return nil
}

// shortNames are the names that OpenSSL gives attributes of a subject.
var shortNames = map[string]string{"2.5.4.3": "CN", "2.5.4.6": "C", "2.5.4.7": "L", "2.5.4.8": "ST", "2.5.4.10": "O", "2.5.4.11": "OU",
	"1.2.840.113549.1.9.1": "emailAddress"}

// subjectText is a subject on one line, as OpenSSL printed it: /O=Example/CN=www.example.org.
func subjectText(name pkix.Name) string {
	var b strings.Builder
	for _, a := range name.Names {
		text, ok := a.Value.(string)
		if !ok {
			continue
		}
		key := a.Type.String()
		if short := shortNames[key]; short != "" {
			key = short
		}
		b.WriteString("/" + key + "=" + clip(text))
	}
	return b.String()
}
