package dynamo

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/valyala/fastjson"

	"github.com/antipode-io/antipode/internal/control"
)

// tableUpdate is what UpdateTable asks for.
type tableUpdate struct {
	billing    string
	capacity   options // Read and Write
	throughput bool    // they are given
	class      string
	limits     onDemand
	protect    *bool
}

func (c *call) updateTable() error {
	var v violations
	name, err := v.tableName(c.root)
	if err != nil {
		return err
	}
	u, err := c.readUpdate(&v)
	if err != nil {
		return err
	}
	t, err := c.catalogTable(name)
	if err != nil {
		return err
	}
	was := optionsOf(t)
	now, err := u.apply(was, c.s.cfg.Now().UnixMilli())
	if err != nil {
		return err
	}
	change := control.Configure{Name: name, Was: t.Options, Options: t.Options, Protected: u.protect}
	status := "ACTIVE"
	if now != was {
		if change.Options, err = json.Marshal(now); err != nil {
			return err
		}
		status = "UPDATING"
	}
	state, err := c.propose(control.Command{Configure: &change})
	if err != nil {
		return err
	}
	if changed, ok := state.Tables[name]; ok { // and not deleted in the very next entry
		t = changed
	}
	d := c.describe(t, status)
	// As in DynamoDB, where the change takes a while: it is announced with what is
	// still there. Here the next request sees it made.
	d.ProvisionedThroughput.ReadCapacityUnits, d.ProvisionedThroughput.WriteCapacityUnits = was.Read, was.Write
	return c.answer(map[string]any{"TableDescription": d})
}

// changes lists the members of UpdateTable that change something, in the order
// of DynamoDB's message, each as the message calls it and as it is.
func changes() [][2]string {
	return [][2]string{
		{"ProvisionedThroughput", "ProvisionedThroughput"},
		{"BillingMode", "BillingMode"},
		{"UpdateStreamEnabled", "StreamSpecification"},
		{"GlobalSecondaryIndexUpdates", "GlobalSecondaryIndexUpdates"},
		{"SSESpecification", "SSESpecification"},
		{"ReplicaUpdates", "ReplicaUpdates"},
		{"MultiAccountReplicaReady", "MultiAccountReplicaReady"},
		{"ReplicaTransitRoleArn", "ReplicaTransitRoleArn"},
		{"MultiRegionConsistency", "MultiRegionConsistency"},
		{"DeletionProtectionEnabled", "DeletionProtectionEnabled"},
		{"OnDemandThroughput", "OnDemandThroughput"},
		{"WarmThroughput", "WarmThroughput"},
		{"TableClass", "TableClass"},
	}
}

// asked lists the changes that a request asks for. What says nothing by itself
// is left out: an empty list, MultiRegionConsistency.
func asked(o *fastjson.Object) (out []string, err error) {
	var all []string
	for _, c := range changes() {
		shown, name := c[0], c[1]
		v := member(o, name)
		if v == nil || (v.Type() == fastjson.TypeArray && len(v.GetArray()) == 0) {
			all = append(all, shown)
			continue
		}
		if name != "MultiRegionConsistency" {
			out = append(out, name)
		}
	}
	if len(out) == 0 {
		last := len(all) - 1
		return nil, errValidation("At least one of %s or %s is required", strings.Join(all[:last], ", "), all[last])
	}
	return out, nil
}

func (c *call) readUpdate(v *violations) (u tableUpdate, err error) {
	if u.billing, err = v.enum(c.root, "BillingMode", provisioned, payPerRequest); err != nil {
		return u, err
	}
	if u.throughput, err = c.readThroughput(v, &u.capacity); err != nil {
		return u, err
	}
	if err := v.err(); err != nil {
		return u, err
	}
	if u.class, err = c.readTableClass(); err != nil {
		return u, err
	}
	list, err := asked(c.root)
	if err != nil {
		return u, err
	}
	for _, alone := range [][2]string{
		{"SSESpecification", "Server-Side Encryption modification"},
		{"ReplicaUpdates", "Replica modification"},
		{"TableClass", "TableClass modification"},
		{"DeletionProtectionEnabled", "DeletionProtection modification"},
		{"WarmThroughput", "WarmThroughput"},
	} {
		if len(list) > 1 && slices.Contains(list, alone[0]) {
			return u, errValidation(invalidParameter+"%s must be the only operation in the request", alone[1])
		}
	}
	if slices.Contains(list, "OnDemandThroughput") && slices.ContainsFunc(list, func(n string) bool { return n != "OnDemandThroughput" && n != "BillingMode" }) {
		return u, errValidation(invalidParameter + "OnDemandThroughput can only be combined with BillingMode in an UpdateTable request")
	}
	if u.limits, err = c.readOnDemand(); err != nil {
		return u, err
	}
	if err := c.refuseReplicas(); err != nil {
		return u, err
	}
	for _, name := range []string{
		"StreamSpecification", "GlobalSecondaryIndexUpdates", "SSESpecification", "ReplicaUpdates", "MultiRegionConsistency", "GlobalTableWitnessUpdates",
		"MultiAccountReplicaReady", "ReplicaTransitRoleArn", "WarmThroughput",
	} {
		if member(c.root, name) != nil {
			return u, errValidation(invalidParameter+"%s is not supported by this version of antipode yet; leave it out", name)
		}
	}
	on, there, err := readBool(c.root, "DeletionProtectionEnabled")
	if there {
		u.protect = &on
	}
	return u, err
}

// refuseReplicas refuses replica updates that DynamoDB refuses too.
func (c *call) refuseReplicas() error {
	list, err := readStructs(c.root, "ReplicaUpdates")
	if err != nil {
		return err
	}
	for _, o := range list {
		actions := 0
		for _, action := range []string{"Create", "Update", "Delete", "Disassociate"} {
			a, err := readMap(o, action)
			if err != nil {
				return err
			}
			if a == nil {
				continue
			}
			actions++
			region, _, err := readString(a, "RegionName")
			if err != nil {
				return err
			}
			local := region == string(c.s.cfg.Region) || slices.Contains(c.s.cfg.Aliases, region)
			if local && (action == "Create" || action == "Delete") {
				return errValidation("Cannot add or delete the local region through ReplicaUpdates. Use CreateTable, DeleteTable, or UpdateTable as required.")
			}
		}
		if actions == 0 {
			return errValidation("There are no actions specified in the Replica Update Action of the request.")
		}
	}
	return nil
}

// apply returns the options as the update leaves them.
func (u *tableUpdate) apply(was options, now int64) (options, error) {
	out := was
	if u.class != "" {
		out.TableClass, out.Classed = u.class, now
	}
	if u.billing != "" {
		out.BillingMode = u.billing
	}
	if err := u.limits.apply(&out, -1); err != nil {
		return out, err
	}
	if u.billing == "" && !u.throughput {
		return out, nil
	}
	if out.BillingMode == payPerRequest {
		if u.throughput {
			return out, checkThroughput(&out, true)
		}
		if was.BillingMode != payPerRequest {
			out.OnDemand, out.Read, out.Write = now, 0, 0
		}
		return out, nil
	}
	if !u.throughput {
		return out, errValidation(invalidParameter + "ProvisionedThroughput must be specified when BillingMode is PROVISIONED")
	}
	out.Read, out.Write = u.capacity.Read, u.capacity.Write
	out.MaxRead, out.MaxWrite = 0, 0
	if err := checkThroughput(&out, true); err != nil {
		return out, err
	}
	if was.BillingMode != provisioned {
		return out, nil
	}
	return out, out.markThroughput(&was, now)
}

// markThroughput notes when the capacity grew and shrank, and refuses no change at all.
func (o *options) markThroughput(was *options, now int64) error {
	if o.Read == was.Read && o.Write == was.Write {
		return errValidation("The provisioned throughput for the table will not change. The requested value equals the current value. "+
			"Current ReadCapacityUnits provisioned for the table: %d. Requested ReadCapacityUnits: %d. "+
			"Current WriteCapacityUnits provisioned for the table: %d. Requested WriteCapacityUnits: %d. "+
			"Refer to the Amazon DynamoDB Developer Guide for current limits and how to request higher limits.",
			was.Read, o.Read, was.Write, o.Write)
	}
	if o.Read > was.Read || o.Write > was.Write {
		o.Increased = now
	}
	if o.Read < was.Read || o.Write < was.Write {
		o.Decreases = was.decreasesOn(now) + 1
		o.Decreased = now
	}
	return nil
}
