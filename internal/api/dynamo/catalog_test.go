package dynamo

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/control"
	"github.com/antipode-io/antipode/internal/data/table"
)

func regionName(s string) antipode.Region { return antipode.Region(s) }

func asTableError(err error, e **table.Error) bool { return errors.As(err, e) }

func TestTags(t *testing.T) {
	state := newFakeControl(t).State()
	both := []antipode.Region{"mumbai", "oregon"}
	for name, tc := range map[string]struct {
		tags map[string]string
		want control.Table
	}{
		"none":          {nil, control.Table{Writes: "global", Writer: "oregon", Failover: "lease", Return: "manual", Replicas: both}},
		"other tags":    {map[string]string{"team": "x"}, control.Table{Writes: "global", Writer: "oregon", Failover: "lease", Return: "manual", Replicas: both}},
		"global":        {map[string]string{tagWrites: "global", tagWriter: "mumbai"}, control.Table{Writes: "global", Writer: "mumbai", Failover: "lease", Return: "manual", Replicas: both}},
		"alias":         {map[string]string{tagWriter: "ap-south-1"}, control.Table{Writes: "global", Writer: "mumbai", Failover: "lease", Return: "manual", Replicas: both}},
		"replicas":      {map[string]string{tagReplicas: "us-west-2"}, control.Table{Writes: "global", Writer: "oregon", Failover: "pinned", Return: "manual", Replicas: both[1:]}},
		"replica lists": {map[string]string{tagReplicas: "oregon, mumbai"}, control.Table{Writes: "global", Writer: "oregon", Failover: "lease", Return: "manual", Replicas: both}},
		"partitioned":   {map[string]string{tagWrites: "partitioned"}, control.Table{Writes: "partitioned", HomeBy: "creator", Failover: "lease", Return: "auto", Replicas: both}},
		"prefix":        {map[string]string{tagWrites: "partitioned", tagHome: "prefix"}, control.Table{Writes: "partitioned", HomeBy: "prefix", Failover: "lease", Return: "auto", Replicas: both}},
		"attribute":     {map[string]string{tagWrites: "partitioned", tagHome: "attribute:home:town"}, control.Table{Writes: "partitioned", HomeBy: "attribute", HomeAttr: "home:town", Failover: "lease", Return: "auto", Replicas: both}},
		"local":         {map[string]string{tagWrites: "local", tagRule: "last-writer"}, control.Table{Writes: "local", Rule: "last-writer", Replicas: both}},
		"first":         {map[string]string{tagWrites: "local", tagRule: "first-writer", tagRPO: "5s"}, control.Table{Writes: "local", Rule: "first-writer", RPO: "5s", Replicas: both}},
		"priority":      {map[string]string{tagWrites: "local", tagRule: "region-priority=oregon,ap-south-1"}, control.Table{Writes: "local", Rule: "region-priority", Priority: []antipode.Region{"oregon", "mumbai"}, Replicas: both}},
		"priority +":    {map[string]string{tagWrites: "local", tagRule: "region-priority:oregon+mumbai"}, control.Table{Writes: "local", Rule: "region-priority", Priority: []antipode.Region{"oregon", "mumbai"}, Replicas: both}},
		"priority bare": {map[string]string{tagWrites: "local", tagRule: "region-priority"}, control.Table{Writes: "local", Rule: "region-priority", Priority: both, Replicas: both}},
		"zero rpo":      {map[string]string{tagRPO: "0s"}, control.Table{Writes: "global", Writer: "oregon", RPO: "0s", Copies: 1, Unprotected: "degrade", Failover: "lease", Return: "manual", Replicas: both}},
		"copies":        {map[string]string{tagWrites: "local", tagRule: "last-writer", tagRPO: "0s", tagCopies: "1", tagUnprotected: "block"}, control.Table{Writes: "local", Rule: "last-writer", RPO: "0s", Copies: 1, Unprotected: "block", Replicas: both}},
		"failover":      {map[string]string{tagFailover: "pinned", tagSuccessors: "ap-south-1+oregon", tagReturn: "auto"}, control.Table{Writes: "global", Writer: "oregon", Failover: "pinned", Successors: both, Return: "auto", Replicas: both}},
	} {
		t.Run(name, func(t *testing.T) {
			got := &control.Table{Tags: tc.tags, Partition: control.KeyAttribute{Name: "id", Type: "S"}}
			if err := applyTags(got, state, "oregon"); err != nil {
				t.Fatal(err)
			}
			tc.want.Tags, tc.want.Partition = got.Tags, got.Partition
			if d := cmp.Diff(&tc.want, got, cmpopts.IgnoreUnexported(control.Table{})); d != "" {
				t.Error(d)
			}
			got.Name = "made"
			if _, err := control.Apply(state, 99, control.Command{CreateTable: got}); err != nil {
				t.Errorf("the group refuses it: %v", err)
			}
		})
	}
}

func TestTagsRefused(t *testing.T) {
	state := newFakeControl(t).State()
	for name, tc := range map[string]struct {
		tags map[string]string
		has  string
	}{
		"mode":                 {map[string]string{tagWrites: "everywhere"}, "one of global, partitioned, local"},
		"typing error":         {map[string]string{"antipode:write": "local"}, "Tag antipode:write is not known; known are antipode:writes"},
		"local without a rule": {map[string]string{tagWrites: "local"}, "Pick the rule that decides which version is visible then: set the tag antipode:rule to last-writer, first-writer, region-priority"},
		"rule":                 {map[string]string{tagWrites: "local", tagRule: "best"}, "one of last-writer"},
		"rule with a list":     {map[string]string{tagWrites: "local", tagRule: "last-writer=oregon"}, "one of last-writer"},
		"priority unknown":     {map[string]string{tagWrites: "local", tagRule: "region-priority=paris"}, "a region that keeps data (mumbai, oregon)"},
		"priority empty":       {map[string]string{tagWrites: "local", tagRule: "region-priority="}, "region-priority=REGION"},
		"priority twice":       {map[string]string{tagWrites: "local", tagRule: "region-priority=oregon,us-west-2"}, "names each region once"},
		"priority no replica":  {map[string]string{tagWrites: "local", tagRule: "region-priority=mumbai", tagReplicas: "oregon"}, "regions that keep the table (oregon)"},
		"witness":              {map[string]string{tagReplicas: "frankfurt"}, "a region that keeps data (mumbai, oregon)"},
		"no replicas":          {map[string]string{tagReplicas: ""}, "a list of regions"},
		"writer":               {map[string]string{tagWriter: "paris"}, "a region that keeps data"},
		"writer no replica":    {map[string]string{tagReplicas: "mumbai"}, "would be oregon, which keeps no replica"},
		"writer of local":      {map[string]string{tagWrites: "local", tagRule: "last-writer", tagWriter: "oregon"}, "no meaning for a table written in local mode"},
		"rule of global":       {map[string]string{tagRule: "last-writer"}, "no meaning for a table written in global mode"},
		"home":                 {map[string]string{tagWrites: "partitioned", tagHome: "attribute:"}, "creator, attribute:NAME or prefix"},
		"home word":            {map[string]string{tagWrites: "partitioned", tagHome: "creator:x"}, "creator, attribute:NAME or prefix"},
		"rpo":                  {map[string]string{tagRPO: "soon"}, "a duration"},
		"rpo alone":            {map[string]string{tagRPO: "0s", tagReplicas: "oregon"}, "only oregon keeps the table"},
		"copies too many":      {map[string]string{tagRPO: "0s", tagCopies: "2"}, "a number from 1 to 1"},
		"copies without rpo":   {map[string]string{tagRPO: "1s", tagCopies: "1"}, "no meaning without the tag antipode:rpo set to 0s"},
		"unprotected":          {map[string]string{tagRPO: "0s", tagUnprotected: "pray"}, "degrade or block"},
		"failover":             {map[string]string{tagFailover: "yes"}, "lease or pinned"},
		"failover alone":       {map[string]string{tagFailover: "lease", tagReplicas: "oregon"}, "pinned here"},
		"failover of local":    {map[string]string{tagWrites: "local", tagRule: "last-writer", tagFailover: "lease"}, "no meaning for a table written in local mode"},
		"successor no replica": {map[string]string{tagSuccessors: "mumbai", tagReplicas: "oregon"}, "regions that keep the table (oregon)"},
		"return":               {map[string]string{tagReturn: "soon"}, "auto or manual"},
	} {
		t.Run(name, func(t *testing.T) {
			err := applyTags(&control.Table{Tags: tc.tags}, state, "oregon")
			if w := wireOf(err); err == nil || w.code != codeValidation || !strings.Contains(w.message, tc.has) {
				t.Errorf("%v, want %q in a ValidationException", err, tc.has)
			}
		})
	}
	err := applyTags(&control.Table{Tags: map[string]string{tagWrites: "partitioned", tagHome: "prefix"}, Partition: control.KeyAttribute{Type: "N"}}, state, "oregon")
	if err == nil {
		t.Error("prefix with a numeric key accepted")
	}
}

func FuzzTags(f *testing.F) {
	f.Add("local", "region-priority=oregon,mumbai", "", "", "oregon mumbai", "5s", "", "", "", "")
	f.Add("partitioned", "", "", "attribute:x", "", "0s", "1", "block", "lease", "mumbai")
	f.Add("global", "", "us-west-2", "", "oregon", "0s", "", "", "pinned", "oregon")
	state := newFakeControl(f).State()
	f.Fuzz(func(t *testing.T, writes, rule, writer, home, replicas, rpo, copies, unprotected, failover, successors string) {
		tags := map[string]string{}
		for k, v := range map[string]string{
			tagWrites: writes, tagRule: rule, tagWriter: writer, tagHome: home, tagReplicas: replicas,
			tagRPO: rpo, tagCopies: copies, tagUnprotected: unprotected, tagFailover: failover, tagSuccessors: successors,
		} {
			if v != "" {
				tags[k] = v
			}
		}
		got := &control.Table{Name: "fuzz", Tags: tags, Partition: control.KeyAttribute{Name: "id", Type: "S"}}
		if applyTags(got, state, "oregon") != nil {
			return
		}
		if _, err := control.Apply(state, 99, control.Command{CreateTable: got}); err != nil {
			t.Errorf("accepted tags that the group refuses: %v", err)
		}
	})
}

func TestCatalog(t *testing.T) {
	f := newFixture(t)
	const one = "ValidationException: 1 validation error detected: "
	const invalid = "ValidationException: One or more parameter values were invalid: "
	const def = `"AttributeDefinitions":[{"AttributeName":"id","AttributeType":"S"}]`
	const key = `"KeySchema":[{"AttributeName":"id","KeyType":"HASH"}]`
	const free = `"BillingMode":"PAY_PER_REQUEST"`
	f.run([]step{
		{"CreateTable", `{}`, `ValidationException: The parameter 'TableName' is required but was not present in the request`},
		{"CreateTable", `{"TableName":"ab",` + def + `,` + key + `}`, one + `Value 'ab' at 'tableName' failed to satisfy constraint: Member must have length greater than or equal to 3`},
		{"CreateTable", `{"TableName":"abc",` + key + `,` + free + `}`, one + `Value null at 'attributeDefinitions' failed to satisfy constraint: Member must not be null`},
		{"CreateTable", `{"TableName":"abc",` + def + `,` + key + `}`, invalid + `ReadCapacityUnits and WriteCapacityUnits must both be specified when BillingMode is PROVISIONED`},
		{"CreateTable", `{"TableName":"abc",` + def + `,` + key + `,` + free + `,"ProvisionedThroughput":{"ReadCapacityUnits":1,"WriteCapacityUnits":1}}`, invalid + `Neither ReadCapacityUnits nor WriteCapacityUnits can be specified when BillingMode is PAY_PER_REQUEST`},
		{"CreateTable", `{"TableName":"abc",` + def + `,"KeySchema":[{"AttributeName":"id","KeyType":"X"}],"BillingMode":"Y"}`, `ValidationException: 2 validation errors detected: Value 'Y' at 'billingMode' failed to satisfy constraint: Member must satisfy enum value set: [PROVISIONED, PAY_PER_REQUEST]; Value 'X' at 'keySchema.1.member.keyType' failed to satisfy constraint: Member must satisfy enum value set: [HASH, RANGE]`},
		{"CreateTable", `{"TableName":"abc",` + free + `,"AttributeDefinitions":[{"AttributeName":"id","AttributeType":"X"}],` + key + `}`, one + `Value 'X' at 'attributeDefinitions.1.member.attributeType' failed to satisfy constraint: Member must satisfy enum value set: [B, N, S]`},
		{"CreateTable", `{"TableName":"abc",` + free + `,` + def + `,"KeySchema":[{"AttributeName":"id","KeyType":"HASH"},{"AttributeName":"id","KeyType":"RANGE"}]}`, `ValidationException: Invalid KeySchema: Some index key attribute have no definition`},
		{"CreateTable", `{"TableName":"abc",` + free + `,` + def + `,"KeySchema":[{"AttributeName":"x","KeyType":"HASH"}]}`, invalid + `Some index key attributes are not defined in AttributeDefinitions. Keys: [x], AttributeDefinitions: [id]`},
		{"CreateTable", `{"TableName":"abc",` + free + `,` + def + `,"KeySchema":[{"AttributeName":"id","KeyType":"RANGE"}]}`, `ValidationException: Invalid KeySchema: The first KeySchemaElement is not a HASH key type`},
		{"CreateTable", `{"TableName":"abc",` + free + `,` + def + `,` + key + `,"GlobalSecondaryIndexes":[]}`, invalid + `GlobalSecondaryIndexes is not supported by this version of antipode yet; leave it out`},
		{"CreateTable", `{"TableName":"abc",` + free + `,` + def + `,` + key + `,"StreamSpecification":{"StreamEnabled":true}}`, invalid + `StreamSpecification is not supported by this version of antipode yet; leave it out`},
		{"CreateTable", `{"TableName":"abc",` + free + `,` + def + `,` + key + `,"StreamSpecification":{"StreamEnabled":false,"StreamViewType":"NEW_IMAGE"}}`, invalid + `Table is being created with a stream disabled, UpdateViewType should not be specified`},
		{"CreateTable", `{"TableName":"abc",` + free + `,` + def + `,` + key + `,"Tags":[{"Key":"aws:x","Value":""}]}`, `ValidationException: Tag Key cannot be prefixed with aws:, Key: aws:x`},
		{"DescribeTable", `{"TableName":"abc"}`, `ResourceNotFoundException: Requested resource not found: Table: abc not found`},
		{"DeleteTable", `{"TableName":"abc"}`, `ResourceNotFoundException: Requested resource not found: Table: abc not found`},
		{"ListTables", `{"Limit":0}`, one + `Value '0' at 'limit' failed to satisfy constraint: Member must have value greater than or equal to 1`},
	})
	made := f.ok("CreateTable", createTable("abc", "id", "n", `{"Key":"team","Value":"x"}`))
	if !strings.Contains(made, `"TableStatus":"CREATING"`) {
		t.Errorf("created: %s", made)
	}
	d := f.ok("DescribeTable", `{"TableName":"abc"}`)
	for _, want := range []string{
		`"TableStatus":"ACTIVE"`, `"TableArn":"arn:aws:dynamodb:oregon:000000000000:table/abc"`, `"GlobalTableVersion":"2019.11.21"`,
		`"Replicas":[{"RegionName":"mumbai","ReplicaStatus":"ACTIVE"},{"RegionName":"oregon","ReplicaStatus":"ACTIVE"}]`,
		`"AttributeDefinitions":[{"AttributeName":"id","AttributeType":"S"},{"AttributeName":"n","AttributeType":"N"}]`,
		`"KeySchema":[{"AttributeName":"id","KeyType":"HASH"},{"AttributeName":"n","KeyType":"RANGE"}]`,
		`"BillingModeSummary":{"BillingMode":"PAY_PER_REQUEST"`,
	} {
		if !strings.Contains(d, want) {
			t.Errorf("description lacks %s: %s", want, d)
		}
	}
	f.ok("CreateTable", createTable("abd", "id", "", `{"Key":"antipode:replicas","Value":"oregon"}`))
	f.ok("CreateTable", createTable("abe", "id", "", `{"Key":"antipode:replicas","Value":"mumbai"},{"Key":"antipode:writer","Value":"mumbai"}`))
	if d := f.ok("DescribeTable", `{"TableName":"abd"}`); strings.Contains(d, "Replicas") || strings.Contains(d, "GlobalTableVersion") {
		t.Errorf("a table of one region: %s", d)
	}
	const arn = `"ResourceArn":"arn:aws:dynamodb:oregon:000000000000:table/abc"`
	f.run([]step{
		{"CreateTable", createTable("abc", "id", "", ""), `ResourceInUseException: Table already exists: abc`},
		{"ListTables", `{}`, `{"TableNames":["abc","abd"]}`},
		{"ListTables", `{"Limit":1}`, `{"LastEvaluatedTableName":"abc","TableNames":["abc"]}`},
		{"ListTables", `{"ExclusiveStartTableName":"abc"}`, `{"TableNames":["abd"]}`},
		{"TagResource", `{` + arn + `,"Tags":[{"Key":"a","Value":"1"}]}`, ``},
		{"ListTagsOfResource", `{` + arn + `}`, `{"Tags":[{"Key":"a","Value":"1"},{"Key":"team","Value":"x"}]}`},
		{"UntagResource", `{` + arn + `,"TagKeys":["team","nothere"]}`, ``},
		{"ListTagsOfResource", `{"ResourceArn":"arn:aws:dynamodb:us-west-2:000000000000:table/abc"}`, `{"Tags":[{"Key":"a","Value":"1"}]}`},
		{"TagResource", `{` + arn + `,"Tags":[{"Key":"antipode:writes","Value":"local"}]}`, invalid + `Tag antipode:writes says how the table was made and can't be changed; make another table`},
		{"ListTagsOfResource", `{"ResourceArn":"x"}`, invalid + `ARNs must start with 'arn:': x`},
		{"ListTagsOfResource", `{"ResourceArn":"arn:aws:dynamodb:oregon:000000000000:table/nothere"}`, `ResourceNotFoundException: Requested resource not found: ResourcArn: arn:aws:dynamodb:oregon:000000000000:table/nothere not found`},
		{"DescribeLimits", `{}`, `{"AccountMaxReadCapacityUnits":80000,"AccountMaxWriteCapacityUnits":80000,"TableMaxReadCapacityUnits":40000,"TableMaxWriteCapacityUnits":40000}`},
		{"DescribeEndpoints", `{}`, `{"Endpoints":[{"Address":"127.0.0.1:7100","CachePeriodInMinutes":1440}]}`},
	})
	if d := f.ok("DeleteTable", `{"TableName":"abc"}`); !strings.Contains(d, `"TableStatus":"DELETING"`) {
		t.Errorf("deleted: %s", d)
	}
	f.run([]step{{"DescribeTable", `{"TableName":"abc"}`, `ResourceNotFoundException: Requested resource not found: Table: abc not found`}})
}

func TestCatalogWithoutMajority(t *testing.T) {
	f := newFixture(t)
	f.server.cfg.ControlTimeout = 10 * time.Millisecond
	f.control.mute = true
	r := f.call("CreateTable", createTable("abc", "id", "", ""))
	if e := f.asError("CreateTable", r); r.Status != 500 || e.Type != nsDynamo+codeInternal || !strings.Contains(e.Message, "no majority") {
		t.Errorf("%d %+v", r.Status, e)
	}
}
