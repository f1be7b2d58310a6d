package region

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/control/lease"
	"github.com/antipode-io/antipode/internal/link"
	"github.com/antipode-io/antipode/internal/spec"
)

// Config says which region to run, and where.
type Config struct {
	Spec *spec.Spec
	Name antipode.Region
	// Dir is the data directory; the region keeps its own in Dir/Name.
	Dir string
	// FS holds Dir. Default: the disk.
	FS vfs.FS
	// WAN emulates a wide-area network on this region's links: "geo" takes
	// one-way delays from where the regions are, "off" none, and a duration is
	// the one-way delay of every link. Links can then be cut and delayed at run
	// time. "" is for real networks.
	WAN string
	// Network, in tests, carries the links in memory; then no port is opened.
	Network *link.MemoryNetwork
	// Now reads the wall clock. Default time.Now.
	Now func() time.Time
	// Boottime reads a clock that never steps and runs on while the machine
	// sleeps. Default: the machine's, or where Network is set, that of Now.
	Boottime func() time.Duration
	// Retention is how long journals are kept. Default 24 h.
	Retention time.Duration
	// Version is what the program calls itself.
	Version string
	PID     int
	Logger  *slog.Logger
}

func (c *Config) fill() error {
	if c.FS == nil {
		c.FS = vfs.Default
	}
	if c.Now == nil {
		c.Now = time.Now //nolint:forbidigo // the default of the one seam
	}
	if c.Boottime == nil {
		c.Boottime = lease.Boottime
		if c.Network != nil {
			began := c.Now()
			c.Boottime = func() time.Duration { return c.Now().Sub(began) }
		}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Spec == nil {
		return errors.New("region: Config.Spec is nil; give the spec")
	}
	if _, ok := c.Spec.Region(c.Name); !ok {
		return fmt.Errorf("region %q is not in the spec; its regions are %s", c.Name, c.names())
	}
	_, err := c.emulation()
	return err
}

func (c *Config) names() string {
	var names []string
	for _, r := range c.Spec.Regions {
		names = append(names, string(r.Name))
	}
	return strings.Join(names, ", ")
}

// emulation turns WAN into link's terms: nil for a real network.
func (c *Config) emulation() (*link.Emulation, error) {
	delay := func(antipode.Region) time.Duration { return 0 }
	switch c.WAN {
	case "":
		return nil, nil
	case "off":
	case "geo":
		delay = func(peer antipode.Region) time.Duration { return c.Spec.OneWay(c.Name, peer) }
	default:
		d, err := time.ParseDuration(c.WAN)
		if err != nil || d < 0 {
			return nil, fmt.Errorf("wide-area network %q: say geo, off, or a one-way delay such as 75ms", c.WAN)
		}
		delay = func(antipode.Region) time.Duration { return d }
	}
	e := &link.Emulation{Peers: make(map[antipode.Region]link.Shape)}
	for _, r := range c.Spec.Regions {
		if r.Name != c.Name {
			e.Peers[r.Name] = link.Shape{Delay: delay(r.Name)}
		}
	}
	return e, nil
}
