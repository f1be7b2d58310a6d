//go:build unix

package identity

import (
	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"
)

// restrict lets the owner alone read the file, before anything is in it: vfs
// creates files with what the umask leaves.
func restrict(f vfs.File) error {
	if fd := f.Fd(); fd != vfs.InvalidFd {
		return unix.Fchmod(int(fd), 0o600)
	}
	return nil
}
