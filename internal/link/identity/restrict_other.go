//go:build !unix

package identity

import "github.com/cockroachdb/pebble/v2/vfs"

// restrict has nothing to do: the directory, made for the owner, protects its files.
func restrict(vfs.File) error { return nil }
