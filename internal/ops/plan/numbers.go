package plan

import (
	"slices"
	"time"
)

// The figures that advice is made of where neither the spec nor a measurement
// nor a drill says anything. Each has its source; docs/plan.md lists them, too.
const (
	// What one region can do: 99.9 % with one event a year makes 525.6 minutes
	// (8.76 h) a time. AWS's longest regional outages took 8 to 15 hours
	// (us-east-1, 2021-12-07 and 2025-10-20).
	regionAvailability = 99.9
	eventsPerYear      = 1.0
	minutesPerYear     = 525_600.0

	// How often a failover works that is practised, and one that never was; and
	// how often an automatic one happens for nothing. The guess for the untried
	// counts as one drill when there are records: p = (passed + 0.6) / (run + 1).
	drilledWorks, untriedWorks = 0.99, 0.6
	falseSwitches              = 0.2 // a year
	// A person needs this long to notice and to decide (practised): 3 and 10 minutes.
	personActs = 13 * time.Minute

	// Bounds on recovery, from the fault on. AWS's paper on disaster recovery
	// says hours, tens of minutes, minutes, near real time.
	unpreparedRTO = 72 * time.Hour // a region that never comes back and nothing prepared: days
	restoreRTO    = 4 * time.Hour  // at the least; plus what the volume takes
	pilotRTO      = 30 * time.Minute
	warmRTO       = 2 * time.Minute
	afterLease    = 2 * time.Second // docs/failover.md: writes go on 5 s after a loss with a lease of 3 s
	zoneRTO       = time.Minute     // of a managed service with a standby in another zone
	// userRTO is how long users take to reach another region: a DNS answer of 60 s that is kept.
	userRTO = time.Minute
	// Restoring: an hour to build what it is restored to, then 100 MB/s; four times that when practised.
	restoreBuild = time.Hour
	restorePerGB = 10 * time.Second
	fasterBy     = 4

	// How long nobody looks, at most and on average, with somebody there during 40 of 168 hours: four nights of 16 h
	// and a weekend of 64 h. (4·16²/2 + 64²/2) / 168 = 15.2 h. With nobody told at all, a long weekend.
	officeMeanWait, noneMeanWait = 15.24 * 60, 24 * 60.0 // minutes
	// Below this a person who is only sometimes there can't keep an RTO; above, it is said.
	personRTO = 4 * time.Hour

	backupLeast, backupMost = time.Hour, 24 * time.Hour
	backupKeep              = 30 * 24 * time.Hour

	// A placement is bad when so many users are over the budget.
	tooMany = 0.2
	// Reads from so many on make a single writer the simple answer: "read local, write global" of ARC209.
	readMostly = 0.95
	// nearby is a round trip to a region in one's own city (within nearbyKM): 1.2 to 8 ms as measured.
	nearby   = 2 * time.Millisecond
	nearbyKM = 50.0
	// A CDN's edge is in every large city; it may hold what may be a minute old.
	edge          = 20 * time.Millisecond
	edgeStaleness = time.Minute
	// The band of the estimate over 496 pairs of AWS regions: 5th and 95th percentile of the ratio to the floor.
	bandLow, bandHigh = 1.31, 3.19
	// Nearer than apartKM, one disaster takes both; what is proposed is apart by proposeKM.
	apartKM, proposeKM = 100.0, 250.0

	// Money. Transfer: the usual price between AWS regions; storage: DynamoDB's and
	// S3's, standard class, us-east-1. Machines: anybody's guess, so it is on the list of assumptions.
	transferGB, tableGBMonth, objectGBMonth, regionMonth = 0.02, 0.25, 0.023, 1000.0
	secondsPerMonth                                      = 730 * 3600
	// What strategies add to one region's machines: mid of 5 %, 10 to 15 %, 30 to 50 %.
	restoreExtra, pilotExtra, warmExtra = 1.05, 1.125, 1.4

	readRate, writeRate = 100.0, 10.0
	itemBytes, volumeGB = 1000.0, 10.0
	askedRPO, askedRTO  = 24 * time.Hour, 24 * time.Hour
	staleness           = 10 * time.Second
)

// Rank is the strategy's place on the ladder, from 0.
func (s Strategy) Rank() int { return slices.Index(strategies(), s) }

func strategies() []Strategy {
	return []Strategy{SingleRegion, BackupRestore, PilotLight, WarmStandby, ActiveActive}
}
