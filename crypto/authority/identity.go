package authority

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"slices"
	"strconv"
)

// Role is what the holder of a certificate may act as.
type Role string

// The roles of certificates.
const (
	RoleUser     Role = "user"
	RoleManager  Role = "manager"
	RoleAgent    Role = "agent"
	RoleFrontend Role = "frontend"
)

// Identity is who a certificate speaks for. Members that are zero are left out of its subject, except Service of one that
// has a UID: users have the service 0.
type Identity struct {
	CommonName   string
	Organization string
	Email        string
	Role         Role
	UID          int64 // number of the account
	Service      int64 // number of the service
}

// Attributes of a subject by their object identifiers (spec director 3.1).
var (
	oidCommonName   = asn1.ObjectIdentifier{2, 5, 4, 3}
	oidOrganization = asn1.ObjectIdentifier{2, 5, 4, 10}
	oidEmail        = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}
	oidUID          = asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 1}
	oidRole         = asn1.ObjectIdentifier{2, 5, 4, 72}
	oidService      = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 7}
)

// name is the subject: each attribute in a set of its own, as text of the type the original used.
func (i Identity) name() pkix.Name {
	var n pkix.Name
	add := func(oid asn1.ObjectIdentifier, tag int, value string) {
		if value != "" {
			n.ExtraNames = append(n.ExtraNames, pkix.AttributeTypeAndValue{Type: oid, Value: asn1.RawValue{Tag: tag, Bytes: []byte(value)}})
		}
	}
	add(oidCommonName, asn1.TagUTF8String, i.CommonName)
	add(oidOrganization, asn1.TagUTF8String, i.Organization)
	add(oidEmail, asn1.TagIA5String, i.Email)
	add(oidRole, asn1.TagUTF8String, string(i.Role))
	if i.UID != 0 {
		add(oidUID, asn1.TagUTF8String, strconv.FormatInt(i.UID, 10))
		add(oidService, asn1.TagUTF8String, strconv.FormatInt(i.Service, 10))
	}
	return n
}

// IdentityOf reads the identity of a certificate. An attribute that is there twice, or a number that is not plainly
// written, is an error: two readers could see two identities. What has no role has no identity.
func IdentityOf(cert *x509.Certificate) (Identity, error) {
	var i Identity
	var err error
	read := func(oid asn1.ObjectIdentifier) string {
		value, n := "", 0
		for _, a := range cert.Subject.Names {
			if !a.Type.Equal(oid) {
				continue
			}
			n++
			text, ok := a.Value.(string)
			if !ok {
				err = fmt.Errorf("attribute %s is not a text", oid)
			}
			value = text
		}
		if n > 1 {
			err = fmt.Errorf("attribute %s is there %d times", oid, n)
		}
		return value
	}
	number := func(oid asn1.ObjectIdentifier) int64 {
		text := read(oid)
		if text == "" {
			return 0
		}
		n, perr := strconv.ParseInt(text, 10, 64)
		if perr != nil || n < 0 || strconv.FormatInt(n, 10) != text {
			err = fmt.Errorf("attribute %s is not a number", oid)
		}
		return n
	}
	i = Identity{CommonName: read(oidCommonName), Organization: read(oidOrganization), Email: read(oidEmail), Role: Role(read(oidRole)),
		UID: number(oidUID), Service: number(oidService)}
	if err == nil && !slices.Contains([]Role{RoleUser, RoleManager, RoleAgent, RoleFrontend}, i.Role) {
		err = fmt.Errorf("the role %q does not exist", i.Role)
	}
	if err != nil {
		return Identity{}, err
	}
	return i, nil
}
