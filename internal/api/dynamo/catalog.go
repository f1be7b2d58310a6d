package dynamo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/valyala/fastjson"

	"github.com/antipode-io/antipode/internal/control"
	"github.com/antipode-io/antipode/internal/data/table"
)

func (c *call) createTable() error {
	t, err := c.readTable()
	if err != nil {
		return err
	}
	if err := c.authorize(t.Name); err != nil {
		return err
	}
	state := c.s.cfg.Control.State()
	if _, there := state.Tables[t.Name]; there {
		return errInUse(t.Name)
	}
	if err := applyTags(t, state, c.s.cfg.Region); err != nil {
		return err
	}
	t.Created = c.s.cfg.Now().UnixMilli()
	state, err = c.propose(control.Command{CreateTable: t})
	if errors.Is(err, control.ErrTableExists) {
		return errInUse(t.Name)
	}
	if err != nil {
		return err
	}
	made, ok := state.Tables[t.Name]
	if !ok { // deleted in the very next entry
		made = t
	}
	// Other regions may learn of it a moment later, as DynamoDB's own tables
	// take a while; here it can be used at once.
	return c.answer(map[string]any{"TableDescription": c.describe(made, "CREATING")})
}

// propose has the regions agree on a change of the catalog, as long as that
// may take.
func (c *call) propose(command control.Command) (*control.State, error) {
	ctx, cancel := context.WithTimeout(c.ctx, c.s.cfg.ControlTimeout)
	defer cancel()
	state, err := c.s.cfg.Control.Propose(ctx, command)
	for _, refusal := range []error{nil, control.ErrTableExists, control.ErrNoTable, control.ErrProtected, control.ErrTableBusy, control.ErrInvalid} {
		if errors.Is(err, refusal) {
			return state, err
		}
	}
	return nil, fmt.Errorf("%w: %w", errCatalog, err)
}

func errInUse(name string) error {
	return &table.Error{Code: codeInUse, Message: "Table already exists: " + name}
}

func (c *call) describeTable() error {
	t, err := c.findNamed()
	if err != nil {
		return err
	}
	return c.answer(map[string]any{"Table": c.describe(t, "ACTIVE")})
}

func (c *call) deleteTable() error {
	name, err := c.readTableName()
	if err != nil {
		return err
	}
	t, err := c.catalogTable(name)
	if err != nil {
		return err
	}
	if _, err = c.propose(control.Command{DeleteTable: name}); err != nil {
		if errors.Is(err, control.ErrNoTable) {
			return errNoTable(name)
		}
		return err
	}
	return c.answer(map[string]any{"TableDescription": c.describe(t, "DELETING")})
}

func (c *call) readTableName() (string, error) {
	var v violations
	name, err := v.tableName(c.root)
	if err != nil {
		return "", err
	}
	return name, v.err()
}

// catalogTable finds a table that has a replica here: as with DynamoDB, a table
// is described and deleted in the regions that keep it.
func (c *call) catalogTable(name string) (*control.Table, error) {
	if err := c.authorize(name); err != nil {
		return nil, err
	}
	t, ok := c.s.cfg.Control.State().Tables[name]
	switch {
	case !ok:
		return nil, errNoTable(name)
	case !t.HasReplica(c.s.cfg.Region):
		return nil, c.errElsewhere(t)
	}
	return t, nil
}

func (c *call) errElsewhere(t *control.Table) error {
	return errNotFound("Requested resource not found: Table: %s is kept in %v and not in %s; ask one of these regions",
		t.Name, t.Replicas, c.s.cfg.Region)
}

func errNoTable(name string) error {
	return errNotFound("Requested resource not found: Table: %s not found", name)
}

func (c *call) answer(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	c.out = append(c.out, b...)
	return nil
}

const maxListed = 100

func (c *call) listTables() error {
	var v violations
	start, started, err := readString(c.root, "ExclusiveStartTableName")
	if err != nil {
		return err
	}
	switch {
	case !started:
	case len(start) < 3 || len(start) > maxTableName:
		v.add(start, "exclusiveStartTableName", "Member must have length between 3 and 255")
	case !isName(start):
		v.add(start, "exclusiveStartTableName", namePattern)
	}
	limit, limited, err := readInt(c.root, "Limit")
	if err != nil {
		return err
	}
	switch {
	case !limited:
		limit = maxListed
	case limit < 1:
		v.add(limit, "limit", "Member must have value greater than or equal to 1")
	case limit > maxListed:
		v.add(limit, "limit", "Member must have value less than or equal to 100")
	}
	if err := v.err(); err != nil {
		return err
	}
	names := []string{}
	for name, t := range c.s.cfg.Control.State().Tables {
		if t.HasReplica(c.s.cfg.Region) && c.key.Scope.AllowsTable(name) && strings.Compare(name, start) > 0 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	out := map[string]any{}
	if int64(len(names)) > limit {
		names = names[:limit]
		out["LastEvaluatedTableName"] = names[limit-1]
	}
	out["TableNames"] = names
	return c.answer(out)
}

// readARN reads ResourceArn and finds the table that it names.
func (c *call) readARN() (*control.Table, error) {
	arn, there, err := readString(c.root, "ResourceArn")
	if err != nil {
		return nil, err
	}
	if !there {
		return nil, errValidation("1 validation error detected: Value null at 'resourceArn' failed to satisfy constraint: " + notNull)
	}
	name, ok := nameOfARN(arn)
	if !ok {
		return nil, errARN(arn)
	}
	if err := c.authorize(name); err != nil {
		return nil, err
	}
	region := strings.SplitN(arn, ":", 5)[3]
	if region != string(c.s.cfg.Region) && !slices.Contains(c.s.cfg.Aliases, region) {
		return nil, errValidation("Invalid TableArn: Invalid ResourceArn provided as input %s", arn)
	}
	t, ok := c.s.cfg.Control.State().Tables[name]
	if !ok {
		return nil, errNotFound("Requested resource not found: ResourcArn: %s not found", arn)
	}
	return t, nil
}

// errARN says what an ARN that names no table has wrong.
func errARN(arn string) error {
	switch {
	case !strings.HasPrefix(arn, "arn:"):
		return errValidation(invalidParameter+"ARNs must start with 'arn:': %s", arn)
	case !strings.HasPrefix(arn, "arn:aws:dynamodb:"):
		return errValidation(invalidParameter+"Provided Arn is not a DynamoDB resource arn: %s", arn)
	default:
		return errValidation(invalidParameter+"Invalid resource arn provided, only table or stream is accepted. Provided resource arn: %s", arn)
	}
}

// readTags reads Tags. A key that comes twice is refused.
func (c *call) readTags() (map[string]string, error) {
	list, err := readStructs(c.root, "Tags")
	if err != nil {
		return nil, err
	}
	tags := make(map[string]string, len(list))
	for _, o := range list {
		k, hasKey, err := readString(o, "Key")
		if err != nil {
			return nil, err
		}
		v, hasValue, err := readString(o, "Value")
		if err != nil {
			return nil, err
		}
		switch _, twice := tags[k]; {
		case !hasKey:
			return nil, errValidation("The Tag Key provided is invalid, Key: null")
		case !hasValue:
			return nil, errValidation("The Tag Value provided is invalid, Value: null")
		case twice:
			return nil, errValidation("Duplicate Tag Keys provided as input: Duplicate Tag Key found %s", k)
		}
		tags[k] = v
	}
	return tags, checkTags(tags)
}

func (c *call) tagResource() error {
	t, err := c.readARN()
	if err != nil {
		return err
	}
	if member(c.root, "Tags") == nil {
		return errValidation("1 validation error detected: Value null at 'tags' failed to satisfy constraint: " + notNull)
	}
	if list, _, err := readList(c.root, "Tags"); err == nil && len(list) == 0 {
		return errValidation("Atleast one Tag needs to be provided as Input.")
	}
	tags, err := c.readTags()
	if err != nil {
		return err
	}
	all := maps.Clone(t.Tags)
	if all == nil {
		all = map[string]string{}
	}
	for k, v := range tags {
		if strings.HasPrefix(k, tagPrefix) && t.Tags[k] != v {
			return errFixedTag(k)
		}
		all[k] = v
	}
	if err := checkTags(all); err != nil {
		return err
	}
	_, err = c.propose(control.Command{TagTable: &control.TagTable{Name: t.Name, Set: tags}})
	return err
}

// errFixedTag refuses to change what a table was made with.
func errFixedTag(name string) error {
	return errValidation("One or more parameter values were invalid: Tag %s says how the table was made and can't be changed; make another table", name)
}

func (c *call) untagResource() error {
	t, err := c.readARN()
	if err != nil {
		return err
	}
	keys, there, err := readStrings(c.root, "TagKeys")
	if err != nil {
		return err
	}
	if !there {
		return errValidation("1 validation error detected: Value null at 'tagKeys' failed to satisfy constraint: " + notNull)
	}
	if len(keys) == 0 {
		return errValidation("Atleast one Tag Key needs to be provided as Input.")
	}
	for _, k := range keys {
		if _, has := t.Tags[k]; has && strings.HasPrefix(k, tagPrefix) {
			return errFixedTag(k)
		}
	}
	_, err = c.propose(control.Command{TagTable: &control.TagTable{Name: t.Name, Remove: keys}})
	return err
}

type tag struct{ Key, Value string }

func (c *call) listTags() error {
	t, err := c.readARN()
	if err != nil {
		return err
	}
	tags := []tag{}
	for _, k := range slices.Sorted(maps.Keys(t.Tags)) {
		tags = append(tags, tag{k, t.Tags[k]})
	}
	return c.answer(map[string]any{"Tags": tags})
}

func (c *call) describeLimits() error {
	return c.answer(map[string]int{
		"AccountMaxReadCapacityUnits": 80000, "AccountMaxWriteCapacityUnits": 80000,
		"TableMaxReadCapacityUnits": 40000, "TableMaxWriteCapacityUnits": 40000,
	})
}

func (c *call) describeEndpoints() error {
	type endpoint struct {
		Address              string
		CachePeriodInMinutes int
	}
	return c.answer(map[string]any{"Endpoints": []endpoint{{string(c.header.Peek("Host")), 1440}}})
}

// notYet refuses members of CreateTable that ask for what is not there yet.
func notYet(o *fastjson.Object) error {
	const text = "One or more parameter values were invalid: %s is not supported by this version of antipode yet; leave it out"
	for _, name := range []string{"GlobalSecondaryIndexes", "LocalSecondaryIndexes", "ResourcePolicy"} {
		if member(o, name) != nil {
			return errValidation(text, name)
		}
	}
	stream, err := readMap(o, "StreamSpecification")
	if err != nil {
		return err
	}
	if stream != nil {
		on, _, err := readBool(stream, "StreamEnabled")
		switch {
		case err != nil:
		case on:
			err = errValidation(text, "StreamSpecification")
		case member(stream, "StreamViewType") != nil:
			err = errValidation(invalidParameter + "Table is being created with a stream disabled, UpdateViewType should not be specified")
		}
		if err != nil {
			return err
		}
	}
	return nil
}
