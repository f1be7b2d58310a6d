package access

import (
	"errors"
	"log/slog"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// DefaultGrace is how long a rotated key stays valid where nobody says otherwise.
const DefaultGrace = 24 * time.Hour

// Config configures a Keyring.
type Config struct {
	// FS is where the file is.
	FS vfs.FS
	// Path is the key file. Its directory exists.
	Path string
	// Now is the wall clock.
	Now func() time.Time
	// Logger takes what is worth knowing. Nil discards it.
	Logger *slog.Logger
}

// Validate says what is missing and fills in defaults.
func (c *Config) Validate() error {
	switch {
	case c.FS == nil:
		return errors.New("access: Config.FS is nil; give the file system of the data directory")
	case c.Path == "":
		return errors.New("access: Config.Path is empty; give the path of the key file")
	case c.Now == nil:
		return errors.New("access: Config.Now is nil; give a clock")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// VerifierConfig configures a Verifier.
type VerifierConfig struct {
	// Keys finds access keys. *Keyring does.
	Keys Keys
	// Regions are the regions that a credential may be scoped to: the region's
	// own name first, then its aliases.
	Regions []string
	// Service is what a credential must be scoped to, such as dynamodb.
	Service string
	// Now is the wall clock.
	Now func() time.Time
	// MaxSkew is how far a request's time may be from this clock. Default 15 minutes, as AWS has it.
	MaxSkew time.Duration
	// MustSign are headers (lower case) that must be among the signed ones when
	// they are sent, because they change what the request means. Host always must.
	MustSign []string
}

// Validate says what is missing and fills in defaults.
func (c *VerifierConfig) Validate() error {
	switch {
	case c.Keys == nil:
		return errors.New("access: VerifierConfig.Keys is nil; give a Keyring")
	case len(c.Regions) == 0:
		return errors.New("access: VerifierConfig.Regions is empty; give the region's name")
	case c.Service == "":
		return errors.New("access: VerifierConfig.Service is empty; give the name of the service, such as dynamodb")
	case c.Now == nil:
		return errors.New("access: VerifierConfig.Now is nil; give a clock")
	}
	if c.MaxSkew <= 0 {
		c.MaxSkew = 15 * time.Minute
	}
	return nil
}
