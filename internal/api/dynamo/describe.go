package dynamo

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/valyala/fastjson"

	"github.com/antipode-io/antipode/internal/control"
)

const (
	provisioned   = "PROVISIONED"
	payPerRequest = "PAY_PER_REQUEST"
	// maxCapacity is the largest provisioned capacity that DynamoDB takes.
	maxCapacity = 1000000000000
)

// options are what only this API knows of a table. They are kept in the
// catalog and given back, and change nothing: capacity is what the machines give.
type options struct {
	BillingMode string `json:"billing_mode,omitempty"`
	Read        int64  `json:"read,omitempty"`
	Write       int64  `json:"write,omitempty"`
	TableClass  string `json:"table_class,omitempty"`
	MaxRead     int64  `json:"max_read,omitempty"` // on demand; 0 is no limit
	MaxWrite    int64  `json:"max_write,omitempty"`
	Expires     string `json:"expires,omitempty"` // the attribute that says when; "" is never

	// When these were changed, in milliseconds since the Unix epoch; 0 is never.
	OnDemand  int64 `json:"on_demand,omitempty"`
	Increased int64 `json:"increased,omitempty"`
	Decreased int64 `json:"decreased,omitempty"`
	Decreases int64 `json:"decreases,omitempty"` // on the day of the last one, in UTC
	Classed   int64 `json:"classed,omitempty"`
}

// readTable reads and checks CreateTable, but for the tags' meaning.
func (c *call) readTable() (*control.Table, error) {
	var v violations
	var opts options
	name, there, err := readString(c.root, "TableName")
	if err != nil {
		return nil, err
	}
	if !there {
		return nil, errValidation("The parameter 'TableName' is required but was not present in the request")
	}
	v.name(name, true, "tableName")
	if err := v.err(); err != nil {
		return nil, err
	}
	if opts.BillingMode, err = v.enum(c.root, "BillingMode", provisioned, payPerRequest); err != nil {
		return nil, err
	}
	types, err := c.readDefinitions(&v)
	if err != nil {
		return nil, err
	}
	schema, err := c.readSchema(&v)
	if err != nil {
		return nil, err
	}
	throughput, err := c.readThroughput(&v, &opts)
	if err != nil {
		return nil, err
	}
	if err := v.err(); err != nil {
		return nil, err
	}
	if err := checkThroughput(&opts, throughput); err != nil {
		return nil, err
	}
	if opts.TableClass, err = c.readTableClass(); err != nil {
		return nil, err
	}
	limits, err := c.readOnDemand()
	if err != nil {
		return nil, err
	}
	if err := limits.apply(&opts, 1); err != nil {
		return nil, err
	}
	if err := notYet(c.root); err != nil {
		return nil, err
	}
	t := &control.Table{Name: name}
	if t.Protected, _, err = readBool(c.root, "DeletionProtectionEnabled"); err != nil {
		return nil, err
	}
	if err := setSchema(t, schema, types); err != nil {
		return nil, err
	}
	if t.Tags, err = c.readTags(); err != nil {
		return nil, err
	}
	t.Options, err = json.Marshal(opts)
	return t, err
}

// readTableClass reads TableClass, "" where it is missing.
func (c *call) readTableClass() (string, error) {
	class, there, err := readString(c.root, "TableClass")
	if err == nil && there && class != "STANDARD" && class != "STANDARD_INFREQUENT_ACCESS" {
		err = errValidation("Invalid table-class parameter provided. Please try again with a valid table-class value: [STANDARD, STANDARD_INFREQUENT_ACCESS].")
	}
	return class, err
}

// onDemand are the limits of a table's capacity on demand, nil where they are not given.
type onDemand struct{ read, write *int64 }

func (c *call) readOnDemand() (out onDemand, err error) {
	o, err := readMap(c.root, "OnDemandThroughput")
	if err != nil || o == nil {
		return out, err
	}
	for name, to := range map[string]**int64{"MaxReadRequestUnits": &out.read, "MaxWriteRequestUnits": &out.write} {
		n, there, err := readInt(o, name)
		if err != nil {
			return out, err
		}
		if there {
			*to = &n
		}
	}
	return out, nil
}

// apply sets limits, which are at least this; -1 takes one away.
func (d onDemand) apply(opts *options, least int64) error {
	for _, l := range []struct {
		name  string
		given *int64
		to    *int64
	}{{"MaxReadRequestUnits", d.read, &opts.MaxRead}, {"MaxWriteRequestUnits", d.write, &opts.MaxWrite}} {
		switch {
		case l.given == nil:
			continue
		case opts.BillingMode != payPerRequest:
			return errValidation(invalidParameter+"%s for OnDemandThroughput cannot be specified when the table BillingMode is PROVISIONED", l.name)
		case *l.given == 0 || *l.given < least:
			return errValidation(invalidParameter+"Requested %s for OnDemandThroughput for table is outside of valid range", l.name)
		}
		*l.to = max(0, *l.given)
	}
	return nil
}

type definition struct{ name, typ string }

func (c *call) readDefinitions(v *violations) ([]definition, error) {
	list, err := readStructs(c.root, "AttributeDefinitions")
	if err != nil {
		return nil, err
	}
	if member(c.root, "AttributeDefinitions") == nil {
		v.add(nil, "attributeDefinitions", notNull)
	}
	out := make([]definition, len(list))
	for i, o := range list {
		at := fmt.Sprintf("attributeDefinitions.%d.member.", i+1)
		if out[i].name, err = v.required(o, "AttributeName", at); err != nil {
			return nil, err
		}
		if out[i].typ, err = v.required(o, "AttributeType", at, "B", "N", "S"); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// required reads a string that must be there, and be one of the words if any are given.
func (v *violations) required(o *fastjson.Object, name, at string, words ...string) (string, error) {
	s, there, err := readString(o, name)
	switch {
	case err != nil:
		return "", err
	case !there:
		v.add(nil, at+lowerFirst(name), notNull)
	case len(words) > 0 && !slices.Contains(words, s):
		v.add(s, at+lowerFirst(name), enumSet(words))
	case s == "" || len(s) > maxTableName:
		v.add(s, at+lowerFirst(name), fmt.Sprintf("Member must have length between 1 and %d", maxTableName))
	}
	return s, nil
}

// readSchema reads KeySchema as pairs of attribute and key type.
func (c *call) readSchema(v *violations) ([]definition, error) {
	list, err := readStructs(c.root, "KeySchema")
	if err != nil {
		return nil, err
	}
	if member(c.root, "KeySchema") == nil {
		v.add(nil, "keySchema", notNull)
		return nil, nil
	}
	out := make([]definition, len(list))
	shown := make([]string, len(list))
	for i, o := range list {
		at := fmt.Sprintf("keySchema.%d.member.", i+1)
		if out[i].name, err = v.required(o, "AttributeName", at); err != nil {
			return nil, err
		}
		if out[i].typ, err = v.required(o, "KeyType", at, "HASH", "RANGE"); err != nil {
			return nil, err
		}
		shown[i] = fmt.Sprintf("KeySchemaElement(attributeName=%s, keyType=%s)", out[i].name, out[i].typ)
	}
	switch value := "[" + strings.Join(shown, ", ") + "]"; {
	case len(list) == 0:
		v.add(value, "keySchema", "Member must have length greater than or equal to 1")
	case len(list) > 2:
		v.add(value, "keySchema", "Member must have length less than or equal to 2")
	}
	return out, nil
}

func (c *call) readThroughput(v *violations, opts *options) (there bool, err error) {
	o, err := readMap(c.root, "ProvisionedThroughput")
	if err != nil || o == nil {
		return false, err
	}
	if opts.Read, err = v.units(o, "ReadCapacityUnits"); err != nil {
		return true, err
	}
	opts.Write, err = v.units(o, "WriteCapacityUnits")
	return true, err
}

// units reads a capacity.
func (v *violations) units(o *fastjson.Object, name string) (int64, error) {
	n, there, err := readInt(o, name)
	at := "provisionedThroughput." + lowerFirst(name)
	switch {
	case err != nil:
		return 0, err
	case !there:
		v.add(nil, at, notNull)
	case n < 1:
		v.add(n, at, "Member must have value greater than or equal to 1")
	}
	return n, nil
}

func checkThroughput(opts *options, there bool) error {
	switch {
	case opts.BillingMode == payPerRequest && there:
		return errValidation(invalidParameter + "Neither ReadCapacityUnits nor WriteCapacityUnits can be specified when BillingMode is PAY_PER_REQUEST")
	case opts.BillingMode != payPerRequest && !there:
		return errValidation(invalidParameter + "ReadCapacityUnits and WriteCapacityUnits must both be specified when BillingMode is PROVISIONED")
	case opts.Read > maxCapacity:
		return errValidation("Given value %d for ReadCapacityUnits is out of bounds", opts.Read)
	case opts.Write > maxCapacity:
		return errValidation("Given value %d for WriteCapacityUnits is out of bounds", opts.Write)
	}
	return nil
}

// setSchema gives the table its key attributes.
func setSchema(t *control.Table, schema, types []definition) error {
	if len(schema) > len(types) {
		return errValidation("Invalid KeySchema: Some index key attribute have no definition")
	}
	typeOf := func(name string) string {
		if i := slices.IndexFunc(types, func(d definition) bool { return d.name == name }); i >= 0 {
			return types[i].typ
		}
		return ""
	}
	for _, k := range schema {
		if typeOf(k.name) == "" {
			return errValidation("One or more parameter values were invalid: Some index key attributes are not defined in AttributeDefinitions. "+
				"Keys: [%s], AttributeDefinitions: [%s]", names(schema), names(types))
		}
	}
	switch {
	case len(schema) == 2 && schema[0].name == schema[1].name:
		return errValidation("Both the Hash Key and the Range Key element in the KeySchema have the same name")
	case schema[0].typ != "HASH":
		return errValidation("Invalid KeySchema: The first KeySchemaElement is not a HASH key type")
	case len(schema) == 2 && schema[1].typ != "RANGE":
		return errValidation("Invalid KeySchema: The second KeySchemaElement is not a RANGE key type")
	case len(schema) != len(types):
		return errValidation("One or more parameter values were invalid: Number of attributes in KeySchema does not exactly match " +
			"number of attributes defined in AttributeDefinitions")
	}
	t.Partition = control.KeyAttribute{Name: schema[0].name, Type: typeOf(schema[0].name)}
	if len(schema) == 2 {
		t.Sort = &control.KeyAttribute{Name: schema[1].name, Type: typeOf(schema[1].name)}
	}
	return nil
}

func names(list []definition) string {
	out := make([]string, len(list))
	for i, d := range list {
		out[i] = d.name
	}
	return strings.Join(out, ", ")
}

// The parts of a TableDescription.
type (
	description struct {
		TableName                 string
		TableStatus               string
		TableArn                  string
		TableID                   string `json:"TableId"`
		CreationDateTime          float64
		AttributeDefinitions      []attributeDefinition
		KeySchema                 []keyElement
		ProvisionedThroughput     throughput
		BillingModeSummary        *billing    `json:",omitempty"`
		TableClassSummary         *tableClass `json:",omitempty"`
		OnDemandThroughput        *limits     `json:",omitempty"`
		ItemCount                 int64
		TableSizeBytes            int64
		DeletionProtectionEnabled bool
		GlobalTableVersion        string    `json:",omitempty"`
		Replicas                  []replica `json:",omitempty"`
	}
	attributeDefinition struct{ AttributeName, AttributeType string }
	keyElement          struct{ AttributeName, KeyType string }
	throughput          struct {
		LastIncreaseDateTime, LastDecreaseDateTime                    float64 `json:",omitempty"`
		NumberOfDecreasesToday, ReadCapacityUnits, WriteCapacityUnits int64
	}
	billing struct {
		BillingMode                       string
		LastUpdateToPayPerRequestDateTime float64
	}
	limits     struct{ MaxReadRequestUnits, MaxWriteRequestUnits int64 } // -1 is none
	tableClass struct {
		TableClass         string
		LastUpdateDateTime float64 `json:",omitempty"`
	}
	replica struct{ RegionName, ReplicaStatus string }
)

func (c *call) describe(t *control.Table, status string) *description {
	created := seconds(t.Created)
	d := &description{
		TableName: t.Name, TableStatus: status, TableArn: c.arn(t.Name), TableID: tableUUID(t), CreationDateTime: created,
		DeletionProtectionEnabled: t.Protected,
		AttributeDefinitions:      []attributeDefinition{{t.Partition.Name, t.Partition.Type}},
		KeySchema:                 []keyElement{{t.Partition.Name, "HASH"}},
	}
	if t.Sort != nil {
		d.AttributeDefinitions = append(d.AttributeDefinitions, attributeDefinition{t.Sort.Name, t.Sort.Type})
		d.KeySchema = append(d.KeySchema, keyElement{t.Sort.Name, "RANGE"})
	}
	opts := optionsOf(t)
	d.ProvisionedThroughput = throughput{
		ReadCapacityUnits: opts.Read, WriteCapacityUnits: opts.Write, NumberOfDecreasesToday: opts.decreasesOn(c.s.cfg.Now().UnixMilli()),
		LastIncreaseDateTime: seconds(opts.Increased), LastDecreaseDateTime: seconds(opts.Decreased),
	}
	switch {
	case opts.OnDemand > 0:
		d.BillingModeSummary = &billing{opts.BillingMode, seconds(opts.OnDemand)}
	case opts.BillingMode == payPerRequest:
		d.BillingModeSummary = &billing{payPerRequest, created}
	}
	if opts.MaxRead > 0 || opts.MaxWrite > 0 {
		d.OnDemandThroughput = &limits{cmp.Or(opts.MaxRead, -1), cmp.Or(opts.MaxWrite, -1)}
	}
	if opts.TableClass != "" {
		d.TableClassSummary = &tableClass{opts.TableClass, seconds(opts.Classed)}
	}
	if c.s.cfg.Stats != nil && status == "ACTIVE" {
		d.ItemCount, d.TableSizeBytes = c.s.cfg.Stats(t)
	}
	if len(t.Replicas) > 1 {
		d.GlobalTableVersion = "2019.11.21"
		for _, r := range t.Replicas {
			d.Replicas = append(d.Replicas, replica{string(r), status})
		}
	}
	return d
}

func seconds(ms int64) float64 { return float64(ms) / 1000 }

// optionsOf reads what this API keeps of a table.
func optionsOf(t *control.Table) options {
	opts := options{BillingMode: payPerRequest} // of tables that the spec made
	if len(t.Options) > 0 {
		opts.BillingMode = ""                        // which stands for provisioned
		if json.Unmarshal(t.Options, &opts) != nil { // made by another API
			return options{BillingMode: payPerRequest}
		}
	}
	if opts.BillingMode == "" {
		opts.BillingMode = provisioned
	}
	return opts
}

// decreasesOn is how often the capacity was decreased on the day that now is in.
func (o *options) decreasesOn(now int64) int64 {
	const day = 24 * 60 * 60 * 1000
	if o.Decreased/day != now/day {
		return 0
	}
	return o.Decreases
}

// tableUUID is an id in DynamoDB's form, the same in all regions.
func tableUUID(t *control.Table) string {
	h := sha256.Sum256(fmt.Appendf(nil, "%d %s %d", t.ID, t.Name, t.Created))
	return fmt.Sprintf("%x-%x-%x-%x-%x", h[0:4], h[4:6], h[6:8], h[8:10], h[10:16])
}
