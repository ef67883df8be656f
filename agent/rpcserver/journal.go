package rpcserver

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/reeve-paas/reeve/crypto/envelope"
)

const (
	journalName = "rpc-seen"
	recordSize  = len(envelope.MAC{}) + 8 // signature, then when it may be forgotten, big-endian Unix seconds
)

// journal keeps the replay memory over a restart: records are appended before their method runs. It is not synced, which
// would cost more than most calls: when a host loses power and is back within the clock window, requests of its last
// moments could be used again.
type journal struct {
	path   string
	file   *os.File
	size   int
	max    int       // records after which the file is written anew
	loaded []seenMAC // what the file held when it was opened
}

// openJournal reads the journal of a state directory, or starts one. A torn last record is dropped.
func openJournal(dir string, limit int) (*journal, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	j := &journal{path: filepath.Join(dir, journalName), max: 2 * limit}
	file, err := os.OpenFile(j.path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(file, int64(j.max+1)*int64(recordSize)))
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("read %s: %w", j.path, err)
	}
	for ; len(data) >= recordSize; data = data[recordSize:] {
		j.loaded = append(j.loaded, decodeRecord(data))
	}
	j.file, j.size = file, len(j.loaded)
	_, err = file.Seek(int64(j.size)*int64(recordSize), io.SeekStart)
	if err != nil {
		file.Close()
		return nil, err
	}
	return j, nil
}

// add appends one record; once the file is twice as long as the memory may be, it is written anew with what is still kept.
func (j *journal) add(s seenMAC, kept []seenMAC) error {
	if j.size >= j.max {
		return j.rewrite(kept)
	}
	var room [recordSize]byte
	if _, err := j.file.WriteAt(appendRecord(room[:0], s), int64(j.size)*int64(recordSize)); err != nil {
		return fmt.Errorf("write %s: %w", j.path, err)
	}
	j.size++
	return nil
}

func (j *journal) rewrite(kept []seenMAC) error {
	data := make([]byte, 0, len(kept)*recordSize)
	for _, s := range kept {
		data = appendRecord(data, s)
	}
	temp, err := os.OpenFile(j.path+".new", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = temp.Write(data)
	if err == nil {
		err = os.Rename(temp.Name(), j.path)
	}
	if err != nil {
		return errors.Join(err, temp.Close(), os.Remove(temp.Name()))
	}
	j.file.Close()
	j.file, j.size = temp, len(kept)
	return nil
}

func (j *journal) close() error { return j.file.Close() }

func appendRecord(dst []byte, s seenMAC) []byte {
	return binary.BigEndian.AppendUint64(append(dst, s.mac[:]...), uint64(s.expires))
}

func decodeRecord(data []byte) seenMAC {
	mac := envelope.MAC(data)
	return seenMAC{mac: mac, expires: int64(binary.BigEndian.Uint64(data[len(mac):recordSize]))}
}
