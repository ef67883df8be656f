// Package xmlrpc reads XML-RPC calls and writes XML-RPC replies the way real clients of six languages send and understand
// them. It knows no method and no HTTP.
//
// Reading ([Decode]) accepts every variation seen on the wire: declarations in any of four encodings, untyped strings, CDATA,
// i8 and ex: forms, nil in three spellings, members in either order. Each scalar keeps its declared type and its text, because
// some clients guess types from the text (a password of digits arrives as an integer); what the receiver expected decides, by
// the As methods of [Value]. Document type declarations are refused, so no entity can expand.
//
// Writing ([Encoder]) appends to one buffer, without reflection and without a tree. Strings escape three characters and never
// use numeric references, which some clients do not decode; integers are always <int>, dates have no zone and mean UTC.
//
// Both halves are written by hand: encoding/xml refuses declared encodings other than UTF-8, hides the difference between
// mixed and typed content, and escapes quotes and newlines as numeric references.
package xmlrpc
