package envelope

import (
	"crypto/subtle"
	"encoding/base64"
	"maps"
	"slices"
)

// SignQuery signs the form parameters of a QueryEnv request, which is not encrypted: names in sorted order, each followed
// by its value, then the date. The result is the X-Signature header; date is the Date header.
//
// Source: spec agent-core A.1
func SignQuery(key Key, params map[string]string, date string) string {
	mac := key.queryMAC(params, date)
	return base64.StdEncoding.EncodeToString(mac[:])
}

// VerifyQuery checks the signature of a QueryEnv request against the Date header as it was sent.
//
// Errors: ErrSignature
func VerifyQuery(key Key, params map[string]string, date, signature string) error {
	got, err := base64.StdEncoding.DecodeString(signature)
	want := key.queryMAC(params, date)
	if err != nil || subtle.ConstantTimeCompare(got, want[:]) != 1 {
		return ErrSignature
	}
	return nil
}

func (k Key) queryMAC(params map[string]string, date string) MAC {
	var text []byte
	for _, name := range slices.Sorted(maps.Keys(params)) {
		text = append(append(text, name...), params[name]...)
	}
	return k.m.mac(text, date)
}
