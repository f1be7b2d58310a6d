// Package spec reads antipode.yaml, the one file a user writes: which regions
// there are, where and at which addresses, and which tables they keep, written
// in which way. docs/spec.md describes every field.
//
// Reading is strict: what is not known is an error, and an error shows file,
// line, column, the lines around it and the fix, for all mistakes at once. A Spec
// that Load returned is complete (each default filled in) and consistent.
//
// A Spec is not changed after it was made, so it may be shared; there is
// nothing to close. The package touches no disk: callers bring the bytes.
package spec

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/control"
	"github.com/antipode-io/antipode/internal/spec/geo"
)

// DefaultBasePort is where the ports of the first region start.
const DefaultBasePort = 7100

// What a region's ports are, as distances from its first one; and how far apart
// the regions' are.
const (
	OffsetAPI      = 0
	OffsetOperator = 1
	OffsetLink     = 2
	OffsetDNS      = 53
	PortStride     = 100
)

// What the timing of failovers is when the file says nothing.
const (
	DefaultLease       = Duration(3 * time.Second)
	DefaultReturnAfter = Duration(30 * time.Second)
)

// Spec is a whole file.
type Spec struct {
	BasePort    int      `yaml:"base_port,omitempty" jsonschema:"default=7100,minimum=1,maximum=65482" jsonschema_description:"First port of the first region. Region number i, counted from 0, listens on 127.0.0.1 at base_port + 100·i: +0 client API, +1 operator HTTP, +2 link between regions."`
	Lease       Duration `yaml:"lease,omitempty" jsonschema:"default=3s" jsonschema_description:"How long a region that no longer reaches a majority goes on accepting writes to global and partitioned tables, and how long the others therefore wait before another region takes its place."`
	ReturnAfter Duration `yaml:"return_after,omitempty" jsonschema:"default=30s" jsonschema_description:"How long a region that was replaced must have been back and healthy before it gets back what tables with return: auto had there."`
	Regions     []Region `yaml:"regions" jsonschema:"minItems=1" jsonschema_description:"The regions. Their order matters: it gives them their default ports, and the first is the default writer."`
	Tables      []Table  `yaml:"tables,omitempty" jsonschema_description:"The tables that exist from the start. More can be made through the DynamoDB API."`
	Needs       *Needs   `yaml:"needs,omitempty" jsonschema_description:"What is asked of the data: the answers to antipode plan's questions. Nothing that runs looks at it."`
}

// Region is one site.
type Region struct {
	Name      antipode.Region `yaml:"name" jsonschema:"pattern=^[a-z0-9]([a-z0-9-]{0\\,61}[a-z0-9])?$" jsonschema_description:"What the region is called everywhere: in requests, replicas, ARNs and output. A DNS label: lower-case letters, digits and hyphens."`
	Location  Location        `yaml:"location,omitempty" jsonschema_description:"Where it is: a cloud region's name, or latitude and longitude. May be left out when the region's name is a cloud region's."`
	Witness   bool            `yaml:"witness,omitempty" jsonschema:"default=false" jsonschema_description:"A witness votes in the control group and keeps no tables. It gives two regions a majority."`
	Journal   bool            `yaml:"journal,omitempty" jsonschema:"default=false" jsonschema_description:"For witnesses: it keeps the journals too, so that it counts as a copy for tables with rpo: 0s. It still serves no reads."`
	Addresses Addresses       `yaml:"addresses,omitempty" jsonschema_description:"Where the region listens and where the others reach it. Default: on 127.0.0.1, counted from base_port."`
	TLS       *TLS            `yaml:"tls,omitempty" jsonschema_description:"Certificate and key for the client and operator ports. Needed when one of them is not on loopback. The link has its own certificates."`
}

// Addresses are a region's ports, each HOST:PORT.
type Addresses struct {
	API      string `yaml:"api,omitempty" jsonschema_description:"HOST:PORT of the DynamoDB API for clients."`
	Operator string `yaml:"operator,omitempty" jsonschema_description:"HOST:PORT of the HTTP server for operators: status, health, metrics."`
	Link     string `yaml:"link,omitempty" jsonschema_description:"HOST:PORT for everything between regions. The other regions connect to it, so it needs a host that they can reach."`
}

// TLS names the files of a server certificate.
type TLS struct {
	Cert string `yaml:"cert" jsonschema_description:"File with the certificate and its chain, PEM. A relative path counts from the spec's folder."`
	Key  string `yaml:"key" jsonschema_description:"File with the private key, PEM."`
}

// Table is one table.
type Table struct {
	Name        string             `yaml:"name" jsonschema:"pattern=^[a-zA-Z0-9_.-]{3\\,255}$" jsonschema_description:"The table's name, by DynamoDB's rules: 3 to 255 letters, digits, underscores, hyphens and dots."`
	Key         Key                `yaml:"key" jsonschema_description:"The primary key: the partition key's attribute, or partition and sort. An attribute is NAME (a string) or NAME:TYPE with type S, N or B."`
	Writes      antipode.WriteMode `yaml:"writes" jsonschema_description:"Who accepts writes. global: one writer region, the others forward to it. partitioned: each item is written in its home region. local: every region, at local speed; a rule decides between concurrent writes."`
	Writer      antipode.Region    `yaml:"writer,omitempty" jsonschema_description:"For global tables: the region that accepts writes. Default: the first replica in the order of the regions."`
	Rule        antipode.Rule      `yaml:"rule,omitempty" jsonschema_description:"For local tables, where it is required: which of several concurrent versions readers see. last-writer: the latest. first-writer: the earliest. region-priority: that of the region listed first in priority."`
	Priority    []antipode.Region  `yaml:"priority,omitempty" jsonschema:"minItems=1" jsonschema_description:"For the rule region-priority: regions, the one that wins first. Those not listed come last, the latest write first."`
	Home        Home               `yaml:"home,omitempty" jsonschema_description:"For partitioned tables: where an item is born. creator: where it is created. attribute:NAME: in the region that this attribute names. prefix: in the region that the partition key starts with, followed by one of # / : . Default: creator."`
	Replicas    []antipode.Region  `yaml:"replicas,omitempty" jsonschema:"minItems=1" jsonschema_description:"The regions that keep the table. Default: all that are no witness."`
	RPO         *Duration          `yaml:"rpo,omitempty" jsonschema_description:"How much may be lost with a region, as a duration such as 5s. 0s: a write is answered only when another region has it on disk. Without it there is no bound."`
	RPOCopies   int                `yaml:"rpo_copies,omitempty" jsonschema:"default=1,minimum=1" jsonschema_description:"For rpo: 0s: how many other regions have to have a write on disk before it is answered. Witnesses with journal: true count."`
	Unprotected string             `yaml:"unprotected,omitempty" jsonschema:"enum=degrade,enum=block,default=degrade" jsonschema_description:"For rpo: 0s: what happens while too few other regions are left. degrade: writes go on, and the stretch without protection is on record. block: writes wait, then fail."`
	Failover    string             `yaml:"failover,omitempty" jsonschema:"enum=lease,enum=pinned" jsonschema_description:"For global and partitioned tables: lease: when a region is lost, another one takes its place by itself. pinned: only when a person says so. Default: lease where three and more regions and witnesses vote."`
	Successors  []antipode.Region  `yaml:"successors,omitempty" jsonschema:"minItems=1" jsonschema_description:"For global and partitioned tables: who takes over from a lost region, the preferred one first. Those not listed come last, the one with the least lag first."`
	Return      string             `yaml:"return,omitempty" jsonschema:"enum=auto,enum=manual" jsonschema_description:"For global and partitioned tables: auto: what a lost region had goes back there once it has been healthy for return_after. manual: when a person says so. Default: auto for partitioned tables, manual for global ones."`
}

// Key is a table's primary key.
type Key struct {
	Partition KeyAttribute  `yaml:"partition" jsonschema_description:"The partition key."`
	Sort      *KeyAttribute `yaml:"sort,omitempty" jsonschema_description:"The sort key, if the table has one."`
}

// KeyAttribute is one attribute of a primary key.
type KeyAttribute struct {
	Name string `yaml:"name" jsonschema:"minLength=1,maxLength=255" jsonschema_description:"The attribute's name."`
	Type string `yaml:"type,omitempty" jsonschema:"enum=S,enum=N,enum=B,default=S" jsonschema_description:"S (string), N (number) or B (bytes)."`
}

// Location is where a region is: a cloud region, or a bare point. The
// coordinates are set in both cases.
type Location struct {
	Code      string  `yaml:"-"` // of the cloud region; empty for a bare point
	Latitude  float64 `yaml:"latitude" jsonschema:"minimum=-90,maximum=90" jsonschema_description:"Degrees, north is positive."`
	Longitude float64 `yaml:"longitude" jsonschema:"minimum=-180,maximum=180" jsonschema_description:"Degrees, east is positive."`
}

// Home says where items of a partitioned table are born: HomeCreator, HomePrefix
// or "attribute:NAME".
type Home string

// Duration is a time.Duration that is written as in Go: 1m30s.
type Duration time.Duration

// Builtin returns the spec that is used where there is no file: Oregon and
// Mumbai, a witness in Frankfurt, and a table in each of the three write modes.
func Builtin() *Spec {
	s := &Spec{
		Regions: []Region{
			{Name: "oregon", Location: Location{Code: "us-west-2"}},
			{Name: "mumbai", Location: Location{Code: "ap-south-1"}},
			{Name: "frankfurt", Location: Location{Code: "eu-central-1"}, Witness: true},
		},
		Tables: []Table{
			{Name: "catalog", Key: Key{Partition: KeyAttribute{Name: "id"}}, Writes: antipode.WriteGlobal, Writer: "oregon"},
			{Name: "users", Key: Key{Partition: KeyAttribute{Name: "id"}}, Writes: antipode.WritePartitioned, Home: Home(antipode.HomeCreator)},
			{Name: "carts", Key: Key{Partition: KeyAttribute{Name: "id"}}, Writes: antipode.WriteLocal, Rule: antipode.RuleLastWriter},
		},
	}
	s.fill()
	return s
}

// fill sets what was left out.
func (s *Spec) fill() {
	if s.BasePort == 0 {
		s.BasePort = DefaultBasePort
	}
	if s.Lease == 0 {
		s.Lease = DefaultLease
	}
	if s.ReturnAfter == 0 {
		s.ReturnAfter = DefaultReturnAfter
	}
	for i := range s.Regions {
		r := &s.Regions[i]
		if _, ok := geo.Lookup(string(r.Name)); ok && r.Location == (Location{}) {
			r.Location.Code = string(r.Name)
		}
		fillPoint(&r.Location)
		r.Addresses.fill(defaultAddresses(s.BasePort, i))
	}
	for i := range s.Tables {
		s.Tables[i].fill(s.DataRegions(), s.HasSpareMajority())
	}
	if s.Needs != nil {
		for i := range s.Needs.Users {
			fillPoint(&s.Needs.Users[i].Location)
		}
	}
}

// fillPoint sets the coordinates of a cloud region.
func fillPoint(l *Location) {
	if p, ok := geo.Lookup(l.Code); ok {
		l.Latitude, l.Longitude = p.Latitude, p.Longitude
	}
}

// HasSpareMajority reports whether the loss of any one voter leaves a majority,
// which a region needs to take another one's place.
func (s *Spec) HasSpareMajority() bool { return len(s.Regions) >= 3 }

func (t *Table) fill(data []antipode.Region, spare bool) {
	for _, a := range []*KeyAttribute{&t.Key.Partition, t.Key.Sort} {
		if a != nil && a.Type == "" {
			a.Type = "S"
		}
	}
	if len(t.Replicas) == 0 {
		t.Replicas = data
	}
	switch t.Writes {
	case antipode.WriteGlobal:
		if t.Writer == "" {
			i := slices.IndexFunc(data, func(r antipode.Region) bool { return slices.Contains(t.Replicas, r) })
			if i >= 0 {
				t.Writer = data[i]
			}
		}
	case antipode.WritePartitioned:
		if t.Home == "" {
			t.Home = Home(antipode.HomeCreator)
		}
	case antipode.WriteLocal: // what it needs has no default
	}
	t.fillSafety(spare)
}

// fillSafety sets what happens when a region is lost.
func (t *Table) fillSafety(spare bool) {
	if t.zeroRPO() {
		if t.RPOCopies == 0 {
			t.RPOCopies = 1
		}
		t.Unprotected = cmp.Or(t.Unprotected, control.UnprotectedDegrade)
	}
	if t.Writes != antipode.WriteGlobal && t.Writes != antipode.WritePartitioned {
		return
	}
	if t.Failover == "" {
		t.Failover = control.FailoverPinned
		if spare && len(t.Replicas) > 1 {
			t.Failover = control.FailoverLease
		}
	}
	if t.Return == "" {
		t.Return = control.DefaultReturn(t.Writes)
	}
}

// zeroRPO reports whether the table promises to lose nothing.
func (t *Table) zeroRPO() bool { return t.RPO != nil && *t.RPO == 0 }

func defaultAddresses(base, region int) Addresses {
	at := func(offset int) string {
		return net.JoinHostPort("127.0.0.1", strconv.Itoa(base+PortStride*region+offset))
	}
	return Addresses{API: at(OffsetAPI), Operator: at(OffsetOperator), Link: at(OffsetLink)}
}

func (a *Addresses) fill(def Addresses) {
	for _, f := range []struct{ to, from *string }{{&a.API, &def.API}, {&a.Operator, &def.Operator}, {&a.Link, &def.Link}} {
		if *f.to == "" {
			*f.to = *f.from
		}
	}
}

// Marshal writes the spec as YAML, each default spelled out. Load reads it back
// to the same Spec.
func (s *Spec) Marshal() ([]byte, error) {
	out, err := yaml.MarshalWithOptions(s, yaml.IndentSequence(true))
	if err != nil {
		return nil, fmt.Errorf("write spec as yaml: %w", err)
	}
	return out, nil
}

// Fingerprint returns a digest of all that the spec says, 64 hexadecimal digits.
// Specs that differ only in comments, order of fields or defaults spelled out
// have the same.
func (s *Spec) Fingerprint() (string, error) {
	out, err := s.Marshal()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(out)
	return hex.EncodeToString(sum[:]), nil
}

// WithBasePort returns the spec with other default ports. Addresses that are not
// the defaults stay.
func (s *Spec) WithBasePort(base int) (*Spec, error) {
	if limit := maxBasePort(len(s.Regions)); base < 1 || base > limit {
		return nil, fmt.Errorf("base port %d: %d regions take %d ports each from it on; choose one from 1 to %d",
			base, len(s.Regions), PortStride, limit)
	}
	next := s.clone()
	next.BasePort = base
	for i := range next.Regions {
		a, old := &next.Regions[i].Addresses, defaultAddresses(s.BasePort, i)
		for _, f := range []struct{ is, def *string }{{&a.API, &old.API}, {&a.Operator, &old.Operator}, {&a.Link, &old.Link}} {
			if *f.is == *f.def {
				*f.is = ""
			}
		}
	}
	next.fill()
	if a, b, ok := next.sharedAddress(); ok {
		return nil, fmt.Errorf("base port %d: %s and %s would both be at %s; choose another base port", base, a.what, b.what, a.addr)
	}
	return next, nil
}

// WithFilesIn returns the spec with the relative paths in it counted from dir,
// the folder of the file it was read from.
func (s *Spec) WithFilesIn(dir string) *Spec {
	next := s.clone()
	for i := range next.Regions {
		t := next.Regions[i].TLS
		if t == nil {
			continue
		}
		for _, p := range []*string{&t.Cert, &t.Key} {
			if !filepath.IsAbs(*p) {
				*p = filepath.Join(dir, *p)
			}
		}
	}
	return next
}

// clone copies what WithBasePort and WithFilesIn change; tables are shared.
func (s *Spec) clone() *Spec {
	next := *s
	next.Regions = slices.Clone(s.Regions)
	for i, r := range next.Regions {
		if r.TLS != nil {
			t := *r.TLS
			next.Regions[i].TLS = &t
		}
	}
	return &next
}

func maxBasePort(regions int) int { return 65535 - OffsetDNS - PortStride*max(0, regions-1) }

// Region finds a region by its name.
func (s *Spec) Region(name antipode.Region) (*Region, bool) {
	i := slices.IndexFunc(s.Regions, func(r Region) bool { return r.Name == name })
	if i < 0 {
		return nil, false
	}
	return &s.Regions[i], true
}

// Table finds a table by its name.
func (s *Spec) Table(name string) (*Table, bool) {
	i := slices.IndexFunc(s.Tables, func(t Table) bool { return t.Name == name })
	if i < 0 {
		return nil, false
	}
	return &s.Tables[i], true
}

// DataRegions lists the regions that are no witness, in the file's order.
func (s *Spec) DataRegions() []antipode.Region {
	var out []antipode.Region
	for _, r := range s.Regions {
		if !r.Witness {
			out = append(out, r.Name)
		}
	}
	return out
}

// Resolve turns what a client calls a region into its name: the name itself, or
// the cloud region it is in, where just one region with data is there.
func (s *Spec) Resolve(nameOrAlias string) (antipode.Region, bool) {
	if r, ok := s.Region(antipode.Region(nameOrAlias)); ok {
		return r.Name, true
	}
	found := s.dataRegionsIn(nameOrAlias)
	if nameOrAlias == "" || len(found) != 1 {
		return "", false
	}
	return found[0], true
}

func (s *Spec) dataRegionsIn(code string) []antipode.Region {
	var out []antipode.Region
	for _, r := range s.Regions {
		if !r.Witness && r.Location.Code == code {
			out = append(out, r.Name)
		}
	}
	return out
}

// OneWay returns how long a message takes between two regions, by where they
// are: 0 for a region that is not in the spec.
func (s *Spec) OneWay(a, b antipode.Region) time.Duration {
	ra, okA := s.Region(a)
	rb, okB := s.Region(b)
	if !okA || !okB || a == b {
		return 0
	}
	return geo.OneWay(ra.Location.Place(), rb.Location.Place())
}

// Place returns the location as a place on the globe.
func (l Location) Place() geo.Place {
	if p, ok := geo.Lookup(l.Code); ok {
		return p
	}
	return geo.Place{Latitude: l.Latitude, Longitude: l.Longitude}
}

// String gives the cloud region's name, or "latitude,longitude".
func (l Location) String() string {
	if l.Code != "" {
		return l.Code
	}
	f := func(d float64) string { return strconv.FormatFloat(d, 'f', -1, 64) }
	return f(l.Latitude) + "," + f(l.Longitude)
}

// String gives the duration as Go writes it.
func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText gives the same, for JSON.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("read duration: %w", err)
	}
	*d = Duration(v)
	return nil
}
