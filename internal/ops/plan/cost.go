package plan

import (
	"fmt"
	"slices"

	"github.com/antipode-io/antipode/internal/spec"
)

// cost reckons a month of an option, and of one region with zones. The backup is
// in neither: every strategy has one.
//
//	machines: n/(n−1), so that n−1 regions carry the load
//	storage:  n copies
//	transfer: what is written × (n−1) × the price of a gigabyte
func (w *world) cost(q *wish, o *option) Cost {
	prices := &w.needs.Prices
	storage := tableGBMonth
	if q.kind == "objects" || q.kind == "files" {
		storage = objectGBMonth
	}
	machines := or(prices.RegionMonth, regionMonth) / float64(w.parts())
	stored := q.volume * or(prices.StorageGBMonth, storage)
	n := float64(len(o.sites))
	c := Cost{MonthOne: machines + stored, ComputeFactor: 1, StorageFactor: n}
	switch o.strategy {
	case SingleRegion:
	case BackupRestore:
		c.ComputeFactor, c.StorageFactor = restoreExtra, restoreExtra
	case PilotLight:
		c.ComputeFactor = pilotExtra
	case WarmStandby:
		c.ComputeFactor = warmExtra
	case ActiveActive:
		c.ComputeFactor = n / (n - 1)
	}
	c.TransferGB = q.writeRate * q.itemBytes * secondsPerMonth / 1e9 * (n - 1)
	c.Compute, c.Storage = machines*c.ComputeFactor, stored*c.StorageFactor
	c.Transfer = c.TransferGB * or(prices.TransferGB, transferGB)
	c.Month = c.Compute + c.Storage + c.Transfer
	c.Factor = 1
	if c.MonthOne > 0 {
		c.Factor = c.Month / c.MonthOne
	}
	return c
}

// parts is how many data sets share the machines: those that are asked about, and
// tables that nothing was said of.
func (w *world) parts() int {
	n := len(w.needs.Data)
	for i := range w.spec.Tables {
		if !slices.ContainsFunc(w.needs.Data, func(d spec.Data) bool { return d.Name == w.spec.Tables[i].Name }) {
			n++
		}
	}
	return max(1, n)
}

// value compares what a strategy costs with the risk that it takes away.
func (w *world) value(q *wish, o *option, one downtime) {
	c := &o.cost
	if q.data.OutageHour == nil {
		c.Note = "what an hour of outage costs was not said, so nobody can tell whether it is worth it"
		return
	}
	before, after := *q.data.OutageHour*one.minutes/60, *q.data.OutageHour*o.drilled.minutes/60
	c.RiskYearOne, c.RiskYear = &before, &after
	extra, saved := 12*(c.Month-c.MonthOne), before-after
	if o.strategy == SingleRegion {
		c.Note = fmt.Sprintf("outages cost %s a year", w.money(after))
		return
	}
	worth := saved > extra
	c.Worth = &worth
	text := fmt.Sprintf("it costs %s a year more than one region, and takes away outages worth %s a year", w.money(extra), w.money(saved))
	switch {
	case worth:
		c.Note = text + ": worth it"
	case slices.Contains(q.data.Why, "law"), slices.Contains(q.data.Why, "latency"):
		c.Note = text + ": outages alone don't pay for it"
	default:
		c.Note = text + ": it costs more than what it prevents; see whether less would do"
	}
}
