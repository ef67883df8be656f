// Package jsonobject finds members of a JSON object without decoding the rest of it. The wire's objects have three members
// of which one is large or passed on as it is; encoding/json's structs would match names in any letter case, and its maps
// cost more than opening the envelope.
package jsonobject
