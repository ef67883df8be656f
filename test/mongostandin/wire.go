package mongostandin

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"go.mongodb.org/mongo-driver/v2/bson"
)

const (
	opReply = 1
	opQuery = 2004
	opMsg   = 2013

	maxMessage = 48 << 20 // bytes, as MongoDB has it
)

// request is one command, whichever operation carried it.
type request struct {
	id   int32
	op   int32
	body bson.D
}

// readRequest reads one message. The documents of a sequence (OP_MSG section kind 1) become an array of the command, which
// is what the sequence stands for.
func readRequest(r io.Reader) (request, error) {
	var head [16]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return request{}, err
	}
	size := int32(binary.LittleEndian.Uint32(head[:]))
	req := request{id: int32(binary.LittleEndian.Uint32(head[4:])), op: int32(binary.LittleEndian.Uint32(head[12:]))}
	if size < 16 || size > maxMessage {
		return req, fmt.Errorf("message of %d bytes", size)
	}
	text := make([]byte, size-16)
	if _, err := io.ReadFull(r, text); err != nil {
		return req, err
	}
	switch req.op {
	case opMsg:
		return req, req.parseMsg(text)
	case opQuery:
		return req, req.parseQuery(text)
	}
	return req, fmt.Errorf("operation %d", req.op)
}

var errShort = errors.New("message ends early")

func (r *request) parseMsg(text []byte) error {
	if len(text) < 5 {
		return errShort
	}
	flags, rest := binary.LittleEndian.Uint32(text), text[4:]
	if flags&1 != 0 { // a checksum at the end, which we do not look at
		rest = rest[:max(len(rest)-4, 0)]
	}
	var sequences bson.D
	for len(rest) > 0 {
		kind := rest[0]
		rest = rest[1:]
		length, err := lengthOf(rest)
		if err != nil {
			return err
		}
		section := rest[:length]
		rest = rest[length:]
		switch kind {
		case 0:
			if err := bson.Unmarshal(section, &r.body); err != nil {
				return err
			}
		case 1:
			name, documents, found := bytes.Cut(section[4:], []byte{0})
			if !found {
				return errShort
			}
			var list bson.A
			for len(documents) > 0 {
				n, err := lengthOf(documents)
				if err != nil {
					return err
				}
				var d bson.D
				if err := bson.Unmarshal(documents[:n], &d); err != nil {
					return err
				}
				list, documents = append(list, d), documents[n:]
			}
			sequences = append(sequences, bson.E{Key: string(name), Value: list})
		default:
			return fmt.Errorf("section of kind %d", kind)
		}
	}
	r.body = append(r.body, sequences...)
	return nil
}

func lengthOf(text []byte) (int, error) {
	if len(text) < 5 {
		return 0, errShort
	}
	n := int(binary.LittleEndian.Uint32(text))
	if n < 5 || n > len(text) {
		return 0, errShort
	}
	return n, nil
}

// parseQuery reads a command in the old form: flags, "<database>.$cmd", skip, limit, document.
func (r *request) parseQuery(text []byte) error {
	if len(text) < 4 {
		return errShort
	}
	name, rest, found := bytes.Cut(text[4:], []byte{0})
	if !found || len(rest) < 8 {
		return errShort
	}
	n, err := lengthOf(rest[8:])
	if err != nil {
		return err
	}
	if err := bson.Unmarshal(rest[8:8+n], &r.body); err != nil {
		return err
	}
	database, _, _ := bytes.Cut(name, []byte{'.'})
	r.body = append(r.body, bson.E{Key: "$db", Value: string(database)})
	return nil
}

// reply is the message that answers a request.
func (r *request) reply(answer bson.D) ([]byte, error) {
	document, err := bson.Marshal(answer)
	if err != nil {
		return nil, err
	}
	var head []byte
	op := int32(opMsg)
	if r.op == opQuery {
		op = opReply
		head = binary.LittleEndian.AppendUint32(head, 8) // flags: await capable
		head = append(head, make([]byte, 12)...)         // cursor, starting from
		head = binary.LittleEndian.AppendUint32(head, 1) // documents
	} else {
		head = append(head, 0, 0, 0, 0, 0) // flags, section kind
	}
	out := binary.LittleEndian.AppendUint32(nil, uint32(16+len(head)+len(document)))
	for _, n := range []int32{1, r.id, op} {
		out = binary.LittleEndian.AppendUint32(out, uint32(n))
	}
	return append(append(out, head...), document...), nil
}
