package spec

// This file holds the answers to the questions of antipode plan: what is asked
// of each data set. Nothing that runs looks at them. No default is filled in, so
// that plan can tell an answer from none: pointers are nil, lists and texts empty.

// Needs is what the business asks for.
type Needs struct {
	Currency string      `yaml:"currency,omitempty" jsonschema:"default=USD" jsonschema_description:"The currency of all amounts here."`
	Prices   Prices      `yaml:"prices,omitempty" jsonschema_description:"What things cost."`
	Company  Company     `yaml:"company,omitempty" jsonschema_description:"What the company can do."`
	Region   RegionFacts `yaml:"region,omitempty" jsonschema_description:"How reliable one region is."`
	Users    []Users     `yaml:"users,omitempty" jsonschema_description:"Groups of users, by where they are."`
	Data     []Data      `yaml:"data,omitempty" jsonschema_description:"The data sets, one entry each. An entry with the name of a table is about that table."`
}

// Prices are in the currency of the Needs.
type Prices struct {
	TransferGB     *float64 `yaml:"transfer_gb,omitempty" jsonschema:"minimum=0,default=0.02" jsonschema_description:"A gigabyte (10^9 bytes) from one region to another."`
	StorageGBMonth *float64 `yaml:"storage_gb_month,omitempty" jsonschema:"minimum=0,default=0.25" jsonschema_description:"A gigabyte kept for a month in one region."`
	RegionMonth    *float64 `yaml:"region_month,omitempty" jsonschema:"minimum=0,default=1000" jsonschema_description:"The machines that carry the whole load of all data sets in one region, for a month."`
}

// Company says what the people can do.
type Company struct {
	OnCall string `yaml:"on_call,omitempty" jsonschema:"enum=none,enum=office-hours,enum=always" jsonschema_description:"Who acts when something breaks. none: nobody is told. office-hours: somebody during working hours. always: somebody at any hour."`
}

// RegionFacts says how reliable one region is, with its zones.
type RegionFacts struct {
	Availability  *float64 `yaml:"availability,omitempty" jsonschema:"exclusiveMinimum=0,maximum=100,default=99.9" jsonschema_description:"Per cent of the time that a region works as a whole."`
	EventsPerYear *float64 `yaml:"events_per_year,omitempty" jsonschema:"minimum=0,default=1" jsonschema_description:"How often in a year a region as a whole does not. How long that takes follows from the availability."`
	Shared        *float64 `yaml:"shared,omitempty" jsonschema:"exclusiveMinimum=0,maximum=100,default=100" jsonschema_description:"Availability in per cent of what all regions need together: name service, sign-in, payment provider."`
}

// Users is a group of users.
type Users struct {
	Name     string   `yaml:"name" jsonschema:"minLength=1" jsonschema_description:"What the group is called."`
	Location Location `yaml:"location" jsonschema_description:"Where they are: a cloud region nearby, or a city's latitude and longitude."`
	Share    *float64 `yaml:"share,omitempty" jsonschema:"minimum=0,default=1" jsonschema_description:"Their part of the traffic, in relation to the sum of all shares."`
}

// Data is one data set and what is asked of it.
type Data struct {
	Name    string   `yaml:"name" jsonschema:"minLength=1" jsonschema_description:"What it is called. With the name of a table it is about that table."`
	Kind    string   `yaml:"kind,omitempty" jsonschema:"enum=table,enum=objects,enum=database,enum=files,enum=queue,default=table" jsonschema_description:"How the service reaches it: table (DynamoDB API), objects (S3 API), database (SQL), files, queue."`
	Why     []string `yaml:"why,omitempty" jsonschema:"enum=continuity,enum=latency,enum=law" jsonschema_description:"Why more than one region is thought of. continuity: the business goes on when a region is lost. latency: users are far away. law: it says where data is kept."`
	Survive string   `yaml:"survive,omitempty" jsonschema:"enum=zone,enum=region" jsonschema_description:"The loss that rpo and rto hold for: zone (of one region) or region. Default: region when why says continuity."`
	Done    []string `yaml:"done,omitempty" jsonschema:"enum=zones,enum=caching,enum=cdn,enum=faster-restore" jsonschema_description:"What has been done already of what often makes another region unnecessary: zones, caching, a cdn, a faster-restore that is practised."`

	RPO          *Duration `yaml:"rpo,omitempty" jsonschema_description:"How much may be lost, as a time: what was written in the last 5s, say. 0s: nothing that was acknowledged."`
	RTO          *Duration `yaml:"rto,omitempty" jsonschema_description:"How long it may be down, from the fault on, with the time until somebody notices and decides."`
	ZoneRTO      *Duration `yaml:"zone_rto,omitempty" jsonschema_description:"The same for the loss of a zone, when rto is for the loss of a region."`
	Availability *float64  `yaml:"availability,omitempty" jsonschema:"exclusiveMinimum=0,maximum=100" jsonschema_description:"Per cent of the time that it works: 99.95, say."`
	Capacity     *float64  `yaml:"capacity,omitempty" jsonschema:"exclusiveMinimum=0" jsonschema_description:"Per cent of the whole load that one region can carry, for all that quotas and machines allow. Default: what is needed."`
	OutageHour   *float64  `yaml:"outage_hour,omitempty" jsonschema:"minimum=0" jsonschema_description:"What an hour of outage costs."`

	Reads         Traffic   `yaml:"reads,omitempty" jsonschema_description:"How it is read."`
	Writes        Traffic   `yaml:"writes,omitempty" jsonschema_description:"How it is written."`
	Staleness     *Duration `yaml:"staleness,omitempty" jsonschema_description:"How old a read may be. 0s: each read sees all that was acknowledged before."`
	ItemBytes     *float64  `yaml:"item_bytes,omitempty" jsonschema:"minimum=0,default=1000" jsonschema_description:"The size of one write, bytes."`
	VolumeGB      *float64  `yaml:"volume_gb,omitempty" jsonschema:"minimum=0,default=10" jsonschema_description:"How much there is, gigabytes."`
	GrowthGBMonth *float64  `yaml:"growth_gb_month,omitempty" jsonschema:"minimum=0" jsonschema_description:"How much is added in a month, gigabytes."`

	WrittenBy  string   `yaml:"written_by,omitempty" jsonschema:"enum=owner,enum=anybody,enum=one-place" jsonschema_description:"Who writes one record. owner: one user or site, its owner. anybody: users anywhere, at the same time too. one-place: a single service in one place writes all of them."`
	Commute    *bool    `yaml:"commute,omitempty" jsonschema_description:"Whether two writes to the same record give the same in either order, as when entries are added and never changed."`
	Invariants []string `yaml:"invariants,omitempty" jsonschema:"enum=none,enum=unique-names,enum=balances,enum=other" jsonschema_description:"What must hold across records at any time: none, unique-names, balances (sums and limits), other."`
	Offline    *bool    `yaml:"offline,omitempty" jsonschema_description:"Whether a region that is cut off from all others must accept writes. (Devices that keep their writes until they are connected again need no such region.)"`

	Stay   []string `yaml:"stay,omitempty" jsonschema:"minItems=1" jsonschema_description:"Where it must stay: countries (DE, two letters), EU, regions of this file or cloud regions. Replicas, backups and logs count."`
	Backup *Backup  `yaml:"backup,omitempty" jsonschema_description:"The backup there is, or will be. Replicas copy mistakes, too."`
	Logs   []string `yaml:"logs,omitempty" jsonschema_description:"Where logs with this data in them are kept: regions of this file or cloud regions."`

	Strategy string `yaml:"strategy,omitempty" jsonschema:"enum=single-region,enum=backup-restore,enum=pilot-light,enum=warm-standby,enum=active-active" jsonschema_description:"What was decided. antipode plan writes it, and compares."`
}

// Traffic is how often, how fast and from where a data set is asked.
type Traffic struct {
	PerSecond *float64  `yaml:"per_second,omitempty" jsonschema:"minimum=0" jsonschema_description:"Requests a second, on average, from all users."`
	P99       *Duration `yaml:"p99,omitempty" jsonschema_description:"The budget: 99 of 100 are answered within it, seen from the user."`
	From      []Share   `yaml:"from,omitempty" jsonschema_description:"Where they come from, if not by the shares of the groups."`
}

// Share is one group's part of a traffic.
type Share struct {
	Users string  `yaml:"users" jsonschema_description:"The group's name."`
	Share float64 `yaml:"share" jsonschema:"minimum=0" jsonschema_description:"Its part, in relation to the sum of all shares here."`
}

// Backup says what backup there is.
type Backup struct {
	Every *Duration `yaml:"every,omitempty" jsonschema_description:"How often one is made."`
	Keep  *Duration `yaml:"keep,omitempty" jsonschema_description:"How far back one can go."`
	In    []string  `yaml:"in,omitempty" jsonschema_description:"Where they are kept: regions of this file or cloud regions."`
}
