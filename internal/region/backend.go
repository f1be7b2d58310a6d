package region

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/api/access"
	"github.com/antipode-io/antipode/internal/api/dynamo/attr"
	"github.com/antipode-io/antipode/internal/api/operator"
	"github.com/antipode-io/antipode/internal/control"
	"github.com/antipode-io/antipode/internal/control/group"
	"github.com/antipode-io/antipode/internal/data/table"
	"github.com/antipode-io/antipode/internal/hlc"
	"github.com/antipode-io/antipode/internal/link"
	"github.com/antipode-io/antipode/internal/link/identity"
	"github.com/antipode-io/antipode/internal/replica/collision"
)

var _ operator.Backend = (*Region)(nil)

// laggingAfter is the lag from which a region counts as lagging.
const laggingAfter = 2 * time.Second

// Health says whether the region serves clients.
func (r *Region) Health() operator.Health {
	state, reason := r.state()
	select {
	case <-r.ready:
		return operator.Health{Ready: state != operator.StateDraining, State: state, Reason: reason}
	default:
		return operator.Health{State: operator.StateDraining, Reason: reason}
	}
}

func (r *Region) state() (operator.State, string) {
	if reason := r.reason.Load(); reason != nil && (!r.spec.Witness || r.ctx.Err() != nil) {
		return operator.StateDraining, *reason
	}
	if why := r.detached(); why != "" {
		return operator.StateDetached, why
	}
	if s := r.group.Status(); len(s.Reachable) <= len(s.Voters)/2 {
		return operator.StateDetached, fmt.Sprintf("it reaches %d of %d regions; local tables and reads go on", len(s.Reachable), len(s.Voters))
	}
	if d := r.data.Load(); d != nil {
		for origin, lag := range d.ship.Lag() {
			if lag > laggingAfter {
				return operator.StateLagging, fmt.Sprintf("what %s wrote in the last %v may be missing here", origin, lag.Round(time.Second))
			}
		}
	}
	return operator.StateLive, ""
}

// Status tells what the region knows of itself.
func (r *Region) Status(ctx context.Context) (operator.RegionStatus, error) {
	state, reason := r.state()
	st := operator.RegionStatus{
		Name: r.cfg.Name, State: state, Reason: reason, Witness: r.spec.Witness,
		LagMS: map[string]int64{}, Frontier: map[string]map[string]uint64{}, Tables: []operator.TableStatus{},
		Index: r.group.State().Index, Version: r.cfg.Version, PID: r.cfg.PID, Started: r.started.UTC(),
	}
	st.Leader, _ = r.group.Leader()
	st.Roles, st.Lease = r.roles(), r.heldLease()
	for name, p := range r.mesh.Stats().Peers {
		_, cut := r.cuts.Load(name)
		peer := operator.PeerStatus{Name: name, Connected: p.Connected, Cut: cut, RTTMS: inMillis(p.RTT)}
		if delay, err := r.mesh.Delay(name); err == nil { // else nothing is emulated
			peer.DelayMS = inMillis(delay)
		}
		st.Peers = append(st.Peers, peer)
	}
	if err := r.clock.Check(); err != nil {
		st.Clock.Refuses = err.Error()
	}
	st.Clock.SkewMS = time.Duration(r.skew.Load()).Milliseconds()
	st.Clock.OffsetMS, st.Clock.UncertaintyMS = r.clockOffset()
	st.Store.DiskBytes = r.store.DiskBytes()
	d := r.data.Load()
	if d == nil {
		return st, nil
	}
	if !r.spec.Witness {
		st.API = r.apiURL()
	}
	st.Store.WaitingBytes = uint64(max(d.ship.Waiting(), 0))
	r.lags(d, st.LagMS)
	for _, id := range d.journal.Shards() {
		for _, m := range d.journal.Shard(id).Applied() {
			shards := st.Frontier[m.Origin.String()]
			if shards == nil {
				shards = map[string]uint64{}
				st.Frontier[m.Origin.String()] = shards
			}
			shards[id.String()] = m.Seq
		}
	}
	return st, r.tableStatus(ctx, d, &st)
}

// clockOffset tells by how much this clock is ahead of the live peer that it is
// best compared with, and how well that is known.
func (r *Region) clockOffset() (offsetMS, uncertaintyMS float64) {
	best := hlc.Unknown
	for _, p := range r.clock.Peers() {
		if p.Live && p.Uncertainty < best {
			best = p.Uncertainty
			offsetMS, uncertaintyMS = inMillis(-p.Offset), inMillis(p.Uncertainty)
		}
	}
	return offsetMS, uncertaintyMS
}

func (r *Region) apiURL() string {
	if r.tls != nil {
		return "https://" + r.spec.Addresses.API
	}
	return "http://" + r.spec.Addresses.API
}

// lags gives the lag per origin: that of its region, for the incarnation that writes.
func (r *Region) lags(d *data, out map[string]int64) {
	heard := d.ship.Lag()
	for name, reg := range r.group.State().Regions {
		if reg.Witness || name == r.cfg.Name || reg.Incarnation == 0 {
			continue
		}
		origin := antipode.Origin{Region: name, Incarnation: reg.Incarnation}
		lag, ok := heard[name]
		if !ok { // never heard since this region started: nobody knows what it wrote
			lag = r.cfg.Now().Sub(r.started)
		}
		out[origin.String()] = lag.Milliseconds()
	}
}

func (r *Region) tableStatus(ctx context.Context, d *data, st *operator.RegionStatus) error {
	for _, t := range sortedTables(r.group.State()) {
		if !t.HasReplica(r.cfg.Name) {
			continue
		}
		items, _, err := d.tables.Count(ctx, t)
		if err != nil {
			return err
		}
		st.Tables = append(st.Tables, operator.TableStatus{
			Name: t.Name, Writes: t.Writes, Writer: t.Writer, Rule: t.Rule, Items: items,
			Replicas: t.Replicas, Home: homeRule(t), RPO: t.RPO, Copies: t.Copies, Failover: t.Failover,
		})
	}
	return nil
}

// homeRule writes where items of a partitioned table are born as the spec does.
func homeRule(t *control.Table) string {
	if t.HomeAttr != "" {
		return string(t.HomeBy) + ":" + t.HomeAttr
	}
	return string(t.HomeBy)
}

func (r *Region) table(name string) (*data, *control.Table, error) {
	d := r.data.Load()
	if d == nil {
		return nil, nil, fmt.Errorf("region %s keeps no tables, or not yet; see antipode status: %w", r.cfg.Name, table.ErrNoTable)
	}
	t, err := d.tables.Table(name)
	return d, t, err
}

// told gives an error the class by which the operator API answers.
func told(err error) error {
	classes := []struct{ is, class error }{
		{table.ErrNoTable, operator.ErrNotFound},
		{table.ErrNotHome, operator.ErrNotFound},
		{table.ErrUnavailable, operator.ErrUnavailable},
		{table.ErrOutcomeUnknown, operator.ErrUnavailable},
		{access.ErrNoKey, operator.ErrNotFound},
		{access.ErrEnded, operator.ErrConflict},
		{link.ErrUnknownPeer, operator.ErrNotFound},
		{table.ErrNotStranded, operator.ErrNotFound},
		{control.ErrNoTable, operator.ErrNotFound},
		{control.ErrStale, operator.ErrConflict},
		{control.ErrInvalid, operator.ErrInvalid},
		{group.ErrNoQuorum, operator.ErrUnavailable},
		{group.ErrNoLeader, operator.ErrUnavailable},
		{link.ErrNotEmulated, operator.ErrConflict},
	}
	for _, c := range classes {
		if errors.Is(err, c.is) {
			return fmt.Errorf("%w: %w", c.class, err)
		}
	}
	return err
}

// Collisions visits the collisions on record of a table.
func (r *Region) Collisions(ctx context.Context, name string, limit int, visit func(operator.Collision) error) error {
	d, t, err := r.table(name)
	if err != nil {
		return told(err)
	}
	n := 0
	var stop error
	err = d.tables.Collisions(t, func(c table.Collision) bool {
		if stop = ctx.Err(); stop != nil {
			return false
		}
		var out operator.Collision
		if out, stop = describeCollision(t, c); stop == nil {
			stop = visit(out)
		}
		n++
		return stop == nil && (limit == 0 || n < limit)
	})
	return errors.Join(err, stop)
}

func describeCollision(t *control.Table, c table.Collision) (operator.Collision, error) {
	key, err := keyJSON(t, c.Key)
	if err != nil {
		return operator.Collision{}, fmt.Errorf("key of a collision in %s: %w", t.Name, err)
	}
	rec := c.Record
	out := operator.Collision{
		Table: t.Name, Key: key, Rule: t.Rule, Final: c.Final,
		Visible: rec.Versions[rec.Visible].Dot.String(), First: rec.First().Dot.String(),
		FirstByMS: rec.Lead.Milliseconds(), ClockUncertaintyMS: uncertainty(rec),
	}
	for _, v := range rec.Versions {
		item := json.RawMessage("null")
		if !v.Delete {
			item = json.RawMessage(v.Body)
		}
		out.Versions = append(out.Versions, operator.CollisionVersion{
			Region: v.Dot.Origin.Region, Stamp: v.Stamp.String(), Dot: v.Dot.String(), Item: item,
		})
	}
	return out, nil
}

// uncertainty adds up how well the clocks of the first version and of its rival
// were known; -1 where one had never heard another clock.
func uncertainty(rec collision.Record) int64 {
	sum := int64(0)
	for _, v := range []collision.Recorded{rec.First(), rec.Versions[rec.Rival]} {
		ms := v.Uncertainty.Milliseconds()
		if ms >= math.MaxInt32 {
			return -1
		}
		sum += ms
	}
	return sum
}

// keyJSON gives a key's attributes as DynamoDB JSON.
func keyJSON(t *control.Table, k table.Key) (json.RawMessage, error) {
	v, err := attr.DecodeKey(k.Partition, t.Partition.Type)
	if err != nil {
		return nil, err
	}
	members := []attr.Member{{Name: t.Partition.Name, Value: v}}
	if t.Sort != nil {
		if v, err = attr.DecodeKey(k.Sort, t.Sort.Type); err != nil {
			return nil, err
		}
		members = append(members, attr.Member{Name: t.Sort.Name, Value: v})
	}
	return attr.AppendItem(nil, attr.NewItem(members...)), nil
}

// parseKey encodes a key given as plain text.
func parseKey(t *control.Table, texts []string) (k table.Key, err error) {
	attrs := []control.KeyAttribute{t.Partition}
	if t.Sort != nil {
		attrs = append(attrs, *t.Sort)
	}
	if len(texts) != len(attrs) {
		var names []string
		for _, a := range attrs {
			names = append(names, a.Name)
		}
		return k, fmt.Errorf("table %s has the key %s: give %d values, not %d", t.Name, strings.Join(names, ", "), len(attrs), len(texts))
	}
	for i, a := range attrs {
		enc, err := parseKeyAttribute(a, texts[i])
		if err != nil {
			return k, fmt.Errorf("key attribute %s of table %s: %w", a.Name, t.Name, err)
		}
		if i == 0 {
			k.Partition = enc
		} else {
			k.Sort = enc
		}
	}
	return k, nil
}

func parseKeyAttribute(a control.KeyAttribute, text string) ([]byte, error) {
	var v attr.Value
	switch a.Type {
	case "N":
		var err error
		if v, err = attr.Number(text); err != nil {
			return nil, err
		}
	case "B":
		b, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return nil, fmt.Errorf("%q is not base64: %w", text, err)
		}
		v = attr.Bytes(b)
	default:
		v = attr.String(text)
	}
	return attr.AppendKey(nil, v)
}

// Home tells which region an item belongs to.
func (r *Region) Home(ctx context.Context, name string, key []string) (operator.HomeStatus, error) {
	d, t, k, err := r.placed(name, key)
	if err != nil {
		return operator.HomeStatus{}, err
	}
	home, err := d.tables.Home(ctx, t, k)
	return operator.HomeStatus{Table: name, Key: key, Home: home}, told(err)
}

// Move hands an item to another region.
func (r *Region) Move(ctx context.Context, name string, key []string, to antipode.Region) (operator.HomeStatus, error) {
	d, t, k, err := r.placed(name, key)
	if err != nil {
		return operator.HomeStatus{}, err
	}
	if !t.HasReplica(to) {
		return operator.HomeStatus{}, fmt.Errorf("%w: %s keeps no replica of %s; it is in %v", operator.ErrInvalid, to, name, t.Replicas)
	}
	if err := d.tables.Move(ctx, t, k, to); err != nil {
		return operator.HomeStatus{}, told(err)
	}
	return operator.HomeStatus{Table: name, Key: key, Home: to}, nil
}

func (r *Region) placed(name string, key []string) (*data, *control.Table, table.Key, error) {
	d, t, err := r.table(name)
	if err != nil {
		return nil, nil, table.Key{}, told(err)
	}
	if t.Writes != antipode.WritePartitioned {
		return nil, nil, table.Key{}, fmt.Errorf("%w: table %s is written in %s mode: only items of partitioned tables have a home", operator.ErrInvalid, name, t.Writes)
	}
	k, err := parseKey(t, key)
	if err != nil {
		err = fmt.Errorf("%w: %w", operator.ErrInvalid, err)
	}
	return d, t, k, err
}

// CutLink cuts this region's side of an emulated link.
func (r *Region) CutLink(peer antipode.Region, way operator.Direction) error {
	direction := link.Both
	switch way {
	case operator.Outgoing:
		direction = link.Outgoing
	case operator.Incoming:
		direction = link.Incoming
	case operator.Both:
	}
	err := r.mesh.Cut(peer, direction)
	if err == nil {
		r.cuts.Store(peer, true)
	}
	return told(err)
}

// HealLink undoes CutLink.
func (r *Region) HealLink(peer antipode.Region) error {
	err := r.mesh.Heal(peer)
	if err == nil {
		r.cuts.Delete(peer)
	}
	return told(err)
}

// DelayLink sets how long what is sent to a peer takes.
func (r *Region) DelayLink(peer antipode.Region, oneWay time.Duration) error {
	return told(r.mesh.SetDelay(peer, oneWay, 0))
}

// SkewClock sets the region's wall clock wrong, where its links are emulated too.
func (r *Region) SkewClock(offset time.Duration) error {
	if r.cfg.WAN == "" {
		return fmt.Errorf("%w: %w: only a region that was started with --wan pretends that its clock is wrong", operator.ErrConflict, link.ErrNotEmulated)
	}
	r.skew.Store(int64(offset))
	r.log.Warn("wall clock is set wrong on request", "ahead", offset)
	return nil
}

var errWitnessKeys = fmt.Errorf("%w: a witness serves no clients and has no access keys; ask a region that stores data", operator.ErrConflict)

// CreateKey makes an access key.
func (r *Region) CreateKey(scope access.Scope) (access.Key, error) {
	if r.keys == nil {
		return access.Key{}, errWitnessKeys
	}
	return r.keys.Create(scope)
}

// ListKeys lists the access keys.
func (r *Region) ListKeys() ([]access.Key, error) {
	if r.keys == nil {
		return nil, errWitnessKeys
	}
	return r.keys.List(), nil
}

// RotateKey gives a key a successor.
func (r *Region) RotateKey(id string, grace time.Duration) (access.Key, error) {
	if r.keys == nil {
		return access.Key{}, errWitnessKeys
	}
	k, err := r.keys.Rotate(id, grace)
	return k, told(err)
}

// RevokeKey ends a key.
func (r *Region) RevokeKey(id string) error {
	if r.keys == nil {
		return errWitnessKeys
	}
	return told(r.keys.Revoke(id))
}

// CreateJoinToken makes a token with which one region can join, or join anew.
func (r *Region) CreateJoinToken(_ context.Context, region antipode.Region, life time.Duration, replace bool) (string, error) {
	if r.id == nil {
		return "", errors.New("this region's links are in memory; nobody can join")
	}
	if replace && region == r.cfg.Name {
		return "", fmt.Errorf("%s can't invite who takes its own place; ask another region", region)
	}
	now := r.cfg.Now()
	token, err := r.tokens.Create(r.id, identity.Invitation{Region: region, Replace: replace, Expires: now.Add(life)}, now)
	if err != nil {
		return "", err
	}
	return token.Text(), nil
}
