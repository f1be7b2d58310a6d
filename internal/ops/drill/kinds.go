package drill

import "strings"

// Kind is one kind of drill.
type Kind struct {
	Name string `json:"name"`
	Does string `json:"does"` // what happens to the region, for people
	// Must says what it means when roles pass to another region.
	Must Must `json:"failover"`
	// alone: the region reaches no other one, or does not run.
	alone bool
	// deaf: the region answers no clients either.
	deaf bool
}

// Must says whether a fault calls for a failover.
type Must string

// What a fault calls for.
const (
	MustFailOver Must = "required"  // by itself, where a majority is left
	MayFailOver  Must = "allowed"   // the region may be too slow to keep its lease
	MustStay     Must = "forbidden" // every region that holds a role still reaches the majority
)

// The drills.
const (
	RegionDown   = "region-down"
	RegionFrozen = "region-frozen"
	LinkCut      = "link-cut"
	OneWayCut    = "one-way-cut"
	Flap         = "flap"
	Isolated     = "isolated"
	SlowRegion   = "slow-region"
	ClockSkew    = "clock-skew"
)

// Kinds lists the drills there are.
func Kinds() []Kind {
	return []Kind{
		{Name: RegionDown, Does: "kills the region (SIGKILL) and starts it again afterwards", Must: MustFailOver, alone: true, deaf: true},
		{Name: RegionFrozen, Does: "stops the region's process in its tracks (SIGSTOP), as a machine that hangs", Must: MustFailOver, alone: true, deaf: true},
		{Name: LinkCut, Does: "lets nothing pass between the region and one other", Must: MustStay},
		{Name: OneWayCut, Does: "loses all that the region sends to one other, which still reaches it", Must: MustStay},
		{Name: Flap, Does: "cuts and heals the link between the region and one other, over and over", Must: MustStay},
		{Name: Isolated, Does: "cuts the region off from all others, while its clients still reach it", Must: MustFailOver, alone: true},
		{Name: SlowRegion, Does: "lets the region run only 10 ms of each 50", Must: MayFailOver, deaf: true},
		{Name: ClockSkew, Does: "sets the region's wall clock ahead, then behind", Must: MustStay},
	}
}

// KindOf finds a drill by its name.
func KindOf(name string) (Kind, bool) {
	for _, k := range Kinds() {
		if k.Name == name {
			return k, true
		}
	}
	return Kind{}, false
}

// Names lists the names of the drills.
func Names() string {
	var names []string
	for _, k := range Kinds() {
		names = append(names, k.Name)
	}
	return strings.Join(names, ", ")
}
