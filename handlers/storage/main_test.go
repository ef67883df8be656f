package storage

import (
	"os"
	"testing"
)

// TestMain keeps the many small hosts of these tests in memory, where writing to disk costs nothing. Real loop devices, under
// another tag, are as well there.
func TestMain(m *testing.M) {
	if st, err := os.Stat("/dev/shm"); err == nil && st.IsDir() && os.Getenv("TMPDIR") == "" {
		os.Setenv("TMPDIR", "/dev/shm")
	}
	os.Exit(m.Run())
}
