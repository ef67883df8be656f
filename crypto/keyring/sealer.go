package keyring

import (
	"bytes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"

	"golang.org/x/crypto/chacha20poly1305"
)

const (
	blobVersion   = 1
	keyIDSize     = 8
	headerSize    = 1 + keyIDSize
	maxMasterFile = 1 << 20
	masterVersion = "reeve-master-v1"
)

// Why a blob does not open.
var (
	ErrBlob       = errors.New("the sealed secret is damaged, or belongs elsewhere")
	ErrUnknownKey = errors.New("the sealed secret needs a master key that is not in the key file")
)

// KeyID names a master key; it says nothing about it.
type KeyID [keyIDSize]byte

func (id KeyID) String() string { return hex.EncodeToString(id[:]) }

type masterKey struct {
	id   KeyID
	raw  [chacha20poly1305.KeySize]byte
	aead cipher.AEAD
}

// Sealer seals small secrets at rest. It may be used from any goroutine; Rotate and Retire are for one process at a time.
type Sealer struct {
	path string

	mu   sync.RWMutex // protects the field below
	keys []masterKey  // in the order they were made; the last one seals
}

// OpenSealer reads the master keys, or makes the first one when path does not exist. Two processes that start at once
// end up with the same key.
//
// Errors: a file that others may use, or that is damaged
// Effects: path, mode 0600
func OpenSealer(path string) (*Sealer, error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		first := freshMaster()
		err := WriteFile(path, masterText([]masterKey{first}), false)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("make master key: %w", err)
		}
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	text, err := readPrivate(file, info, maxMasterFile)
	if err != nil {
		return nil, err
	}
	keys, err := parseMasters(text)
	if err != nil {
		return nil, fmt.Errorf("master key file %s: %w", path, err)
	}
	return &Sealer{path: path, keys: keys}, nil
}

// Seal makes a blob of secret that Open accepts under the same description only. The description is what the secret is
// and whose, such as "node.key" and the node's id; it is not secret and not stored.
func (s *Sealer) Seal(secret []byte, description ...string) []byte {
	s.mu.RLock()
	key := s.keys[len(s.keys)-1]
	s.mu.RUnlock()
	blob := make([]byte, headerSize+chacha20poly1305.NonceSizeX, headerSize+chacha20poly1305.NonceSizeX+len(secret)+chacha20poly1305.Overhead)
	blob[0] = blobVersion
	copy(blob[1:], key.id[:])
	nonce := blob[headerSize:]
	rand.Read(nonce) // never fails
	return key.aead.Seal(blob, nonce, secret, additional(blob[:headerSize], description))
}

// Open returns the secret of a blob.
//
// Errors: ErrUnknownKey, ErrBlob (damaged, of another version, or sealed under another description)
func (s *Sealer) Open(blob []byte, description ...string) ([]byte, error) {
	id, err := keyIDOf(blob)
	if err != nil {
		return nil, err
	}
	s.mu.RLock()
	at := slices.IndexFunc(s.keys, func(k masterKey) bool { return k.id == id })
	var key masterKey
	if at >= 0 {
		key = s.keys[at]
	}
	s.mu.RUnlock()
	if at < 0 {
		return nil, fmt.Errorf("%w (id %s)", ErrUnknownKey, id)
	}
	rest := blob[headerSize:]
	nonce, sealed := rest[:chacha20poly1305.NonceSizeX], rest[chacha20poly1305.NonceSizeX:]
	secret, err := key.aead.Open(nil, nonce, sealed, additional(blob[:headerSize], description))
	if err != nil {
		return nil, ErrBlob
	}
	return secret, nil
}

// Stale tells whether a blob was sealed with another than the newest master key, so that opening and sealing it again
// moves it there.
func (s *Sealer) Stale(blob []byte) bool {
	id, err := keyIDOf(blob)
	s.mu.RLock()
	defer s.mu.RUnlock()
	return err == nil && id != s.keys[len(s.keys)-1].id
}

// KeyIDs names the master keys, the newest last.
func (s *Sealer) KeyIDs() []KeyID {
	s.mu.RLock()
	defer s.mu.RUnlock()
	ids := make([]KeyID, len(s.keys))
	for i, k := range s.keys {
		ids[i] = k.id
	}
	return ids
}

// Rotate adds a master key and seals with it from then on.
//
// Effects: the key file is replaced, whole or not at all
func (s *Sealer) Rotate() (KeyID, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fresh := freshMaster()
	keys := append(slices.Clip(s.keys), fresh)
	if err := WriteFile(s.path, masterText(keys), true); err != nil {
		return KeyID{}, fmt.Errorf("rotate master key: %w", err)
	}
	s.keys = keys
	return fresh.id, nil
}

// Retire drops every master key but the newest. Blobs that are still Stale are lost for good.
//
// Effects: the key file is replaced, whole or not at all
func (s *Sealer) Retire() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	keys := slices.Clone(s.keys[len(s.keys)-1:])
	if err := WriteFile(s.path, masterText(keys), true); err != nil {
		return fmt.Errorf("retire master keys: %w", err)
	}
	s.keys = keys
	return nil
}

// String hides the keys.
func (s *Sealer) String() string { return "[redacted]" }

// GoString hides the keys.
func (s *Sealer) GoString() string { return "[redacted]" }

func keyIDOf(blob []byte) (KeyID, error) {
	if len(blob) < headerSize+chacha20poly1305.NonceSizeX+chacha20poly1305.Overhead || blob[0] != blobVersion {
		return KeyID{}, ErrBlob
	}
	return KeyID(blob[1:headerSize]), nil
}

// additional is what a blob is bound to. Every part carries its length, so that ("ab", "c") is not ("a", "bc").
func additional(header []byte, description []string) []byte {
	ad := bytes.Clone(header)
	for _, part := range description {
		ad = binary.BigEndian.AppendUint32(ad, uint32(len(part)))
		ad = append(ad, part...)
	}
	return ad
}

func newMaster(id, raw []byte) (masterKey, error) {
	k := masterKey{id: KeyID(id), raw: [chacha20poly1305.KeySize]byte(raw)}
	aead, err := chacha20poly1305.NewX(k.raw[:])
	k.aead = aead
	return k, err
}

func freshMaster() masterKey {
	random := make([]byte, keyIDSize+chacha20poly1305.KeySize)
	rand.Read(random) // never fails
	k, err := newMaster(random[:keyIDSize], random[keyIDSize:])
	if err != nil {
		panic(err) // only a wrong key size
	}
	return k
}

// masterText writes one line per key: version, id, key.
func masterText(keys []masterKey) []byte {
	var text []byte
	for _, k := range keys {
		text = fmt.Appendf(text, "%s %s %s\n", masterVersion, k.id, base64.StdEncoding.EncodeToString(k.raw[:]))
	}
	return text
}

// parseMasters reads what masterText writes. Its errors never quote the text.
func parseMasters(text []byte) ([]masterKey, error) {
	var keys []masterKey
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		if len(words) != 3 || words[0] != masterVersion {
			return nil, fmt.Errorf("line %d is not a key of this version", n)
		}
		id, err1 := hex.DecodeString(words[1])
		raw, err2 := base64.StdEncoding.DecodeString(words[2])
		if err1 != nil || err2 != nil || len(id) != keyIDSize || len(raw) != chacha20poly1305.KeySize {
			return nil, fmt.Errorf("line %d is damaged", n)
		}
		key, err := newMaster(id, raw)
		if err != nil {
			return nil, fmt.Errorf("line %d is damaged", n)
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, errors.New("it holds no key")
	}
	return keys, nil
}
