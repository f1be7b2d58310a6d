package dynamo

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

func TestUpdateTable(t *testing.T) {
	f := newFixture(t)
	now := time.Date(2026, 11, 23, 23, 0, 0, 0, time.UTC)
	f.server.cfg.Now = func() time.Time { return now }
	f.ok("CreateTable", createTable("carts", "id", "", ""))
	describe := func(op, body, member string) description {
		t.Helper()
		var out map[string]description
		if err := json.Unmarshal([]byte(f.ok(op, body)), &out); err != nil {
			t.Fatal(err)
		}
		return out[member]
	}
	update := func(rest string) description {
		t.Helper()
		return describe("UpdateTable", `{"TableName":"carts",`+rest+`}`, "TableDescription")
	}
	look := func() description { return describe("DescribeTable", `{"TableName":"carts"}`, "Table") }
	capacity := func(r, w string) string {
		return `"ProvisionedThroughput":{"ReadCapacityUnits":` + r + `,"WriteCapacityUnits":` + w + `}`
	}

	if d := update(`"BillingMode":"PROVISIONED",` + capacity("5", "6")); d.TableStatus != "UPDATING" || d.ProvisionedThroughput.ReadCapacityUnits != 0 {
		t.Errorf("announced: %+v", d)
	}
	if d := look(); d.TableStatus != "ACTIVE" || d.ProvisionedThroughput.ReadCapacityUnits != 5 || d.ProvisionedThroughput.WriteCapacityUnits != 6 || d.BillingModeSummary != nil {
		t.Errorf("provisioned: %+v", d)
	}
	if d := update(capacity("4", "7")); d.ProvisionedThroughput.ReadCapacityUnits != 5 || d.ProvisionedThroughput.LastIncreaseDateTime == 0 {
		t.Errorf("announced: %+v", d.ProvisionedThroughput)
	}
	if p := look().ProvisionedThroughput; p.ReadCapacityUnits != 4 || p.NumberOfDecreasesToday != 1 || p.LastDecreaseDateTime != p.LastIncreaseDateTime {
		t.Errorf("less and more: %+v", p)
	}
	now = now.Add(time.Hour) // the next day
	if p := look().ProvisionedThroughput; p.NumberOfDecreasesToday != 0 {
		t.Errorf("the day after: %+v", p)
	}
	update(`"BillingMode":"PAY_PER_REQUEST"`)
	if d := look(); d.BillingModeSummary == nil || d.BillingModeSummary.LastUpdateToPayPerRequestDateTime != seconds(now.UnixMilli()) || d.ProvisionedThroughput.ReadCapacityUnits != 0 {
		t.Errorf("on demand: %+v", d)
	}
	update(`"TableClass":"STANDARD_INFREQUENT_ACCESS"`)
	if d := look(); d.TableClassSummary == nil || d.TableClassSummary.TableClass != "STANDARD_INFREQUENT_ACCESS" || d.TableClassSummary.LastUpdateDateTime == 0 {
		t.Errorf("class: %+v", d.TableClassSummary)
	}

	update(`"OnDemandThroughput":{"MaxReadRequestUnits":20,"MaxWriteRequestUnits":15}`)
	if d := look(); d.OnDemandThroughput == nil || *d.OnDemandThroughput != (limits{20, 15}) {
		t.Errorf("limits: %+v", d.OnDemandThroughput)
	}
	update(`"OnDemandThroughput":{"MaxReadRequestUnits":-1}`)
	if d := look(); d.OnDemandThroughput == nil || *d.OnDemandThroughput != (limits{-1, 15}) {
		t.Errorf("limits: %+v", d.OnDemandThroughput)
	}

	const invalid = "ValidationException: One or more parameter values were invalid: "
	table := func(rest string) string { return `{"TableName":"carts",` + rest + `}` }
	f.run([]step{
		{"UpdateTable", `{"TableName":"nothere","BillingMode":"PAY_PER_REQUEST"}`, "ResourceNotFoundException: Requested resource not found: Table: nothere not found"},
		{"UpdateTable", `{"TableName":"carts"}`, "ValidationException: At least one of ProvisionedThroughput, BillingMode, UpdateStreamEnabled, GlobalSecondaryIndexUpdates, SSESpecification, ReplicaUpdates, MultiAccountReplicaReady, ReplicaTransitRoleArn, MultiRegionConsistency, DeletionProtectionEnabled, OnDemandThroughput, WarmThroughput or TableClass is required"},
		{"UpdateTable", table(`"MultiRegionConsistency":"STRONG","GlobalSecondaryIndexUpdates":[]`), "ValidationException: At least one of ProvisionedThroughput, BillingMode, UpdateStreamEnabled, GlobalSecondaryIndexUpdates, SSESpecification, ReplicaUpdates, MultiAccountReplicaReady, ReplicaTransitRoleArn, DeletionProtectionEnabled, OnDemandThroughput, WarmThroughput or TableClass is required"},
		{"UpdateTable", table(capacity("1", "1")), invalid + "Neither ReadCapacityUnits nor WriteCapacityUnits can be specified when BillingMode is PAY_PER_REQUEST"},
		{"UpdateTable", table(`"BillingMode":"PROVISIONED"`), invalid + "ProvisionedThroughput must be specified when BillingMode is PROVISIONED"},
		{"UpdateTable", table(`"BillingMode":"PROVISIONED",` + capacity("1000000000001", "1")), "ValidationException: Given value 1000000000001 for ReadCapacityUnits is out of bounds"},
		{"UpdateTable", table(`"BillingMode":"FREE",` + capacity("0", "1")), "ValidationException: 2 validation errors detected: Value 'FREE' at 'billingMode' failed to satisfy constraint: Member must satisfy enum value set: [PROVISIONED, PAY_PER_REQUEST]; Value '0' at 'provisionedThroughput.readCapacityUnits' failed to satisfy constraint: Member must have value greater than or equal to 1"},
		{"UpdateTable", table(`"TableClass":"GOLD"`), "ValidationException: Invalid table-class parameter provided. Please try again with a valid table-class value: [STANDARD, STANDARD_INFREQUENT_ACCESS]."},
		{"UpdateTable", table(`"TableClass":"STANDARD","BillingMode":"PAY_PER_REQUEST"`), invalid + "TableClass modification must be the only operation in the request"},
		{"UpdateTable", table(`"DeletionProtectionEnabled":true,"BillingMode":"PAY_PER_REQUEST"`), invalid + "DeletionProtection modification must be the only operation in the request"},
		{"UpdateTable", table(`"ReplicaUpdates":[{"Create":{"RegionName":"us-west-2"}}]`), "ValidationException: Cannot add or delete the local region through ReplicaUpdates. Use CreateTable, DeleteTable, or UpdateTable as required."},
		{"UpdateTable", table(`"OnDemandThroughput":{"MaxWriteRequestUnits":0}`), invalid + "Requested MaxWriteRequestUnits for OnDemandThroughput for table is outside of valid range"},
		{"UpdateTable", table(`"OnDemandThroughput":{"MaxWriteRequestUnits":9},"TableClass":"STANDARD"`), invalid + "TableClass modification must be the only operation in the request"},
		{"UpdateTable", table(`"OnDemandThroughput":{"MaxWriteRequestUnits":9},` + capacity("1", "1")), invalid + "OnDemandThroughput can only be combined with BillingMode in an UpdateTable request"},
		{"UpdateTable", table(`"BillingMode":"PROVISIONED","OnDemandThroughput":{"MaxWriteRequestUnits":9}`), invalid + "MaxWriteRequestUnits for OnDemandThroughput cannot be specified when the table BillingMode is PROVISIONED"},
		{"UpdateTable", table(`"ReplicaUpdates":[{}]`), "ValidationException: There are no actions specified in the Replica Update Action of the request."},
		{"UpdateTable", table(`"ReplicaUpdates":[{"Create":{"RegionName":"mumbai"}}]`), invalid + "ReplicaUpdates is not supported by this version of antipode yet; leave it out"},
		{"UpdateTable", table(`"StreamSpecification":{"StreamEnabled":true,"StreamViewType":"KEYS_ONLY"}`), invalid + "StreamSpecification is not supported by this version of antipode yet; leave it out"},
	})
	update(`"BillingMode":"PROVISIONED",` + capacity("3", "3"))
	if d := look(); d.OnDemandThroughput != nil {
		t.Errorf("limits of what is provisioned: %+v", d.OnDemandThroughput)
	}
	f.run([]step{{"UpdateTable", table(capacity("3", "3")), "ValidationException: The provisioned throughput for the table will not change. The requested value equals the current value. Current ReadCapacityUnits provisioned for the table: 3. Requested ReadCapacityUnits: 3. Current WriteCapacityUnits provisioned for the table: 3. Requested WriteCapacityUnits: 3. Refer to the Amazon DynamoDB Developer Guide for current limits and how to request higher limits."}})
}

func TestDeletionProtection(t *testing.T) {
	f := newFixture(t)
	body := createTable("carts", "id", "", "")
	f.ok("CreateTable", strings.TrimSuffix(body, "}")+`,"DeletionProtectionEnabled":true}`)
	const refused = "ValidationException: Resource cannot be deleted as it is currently protected against deletion. Disable deletion protection first."
	f.run([]step{{"DeleteTable", `{"TableName":"carts"}`, refused}})
	if d := f.ok("UpdateTable", `{"TableName":"carts","DeletionProtectionEnabled":false}`); !strings.Contains(d, `"DeletionProtectionEnabled":false`) || !strings.Contains(d, `"TableStatus":"ACTIVE"`) {
		t.Error(d)
	}
	f.ok("UpdateTable", `{"TableName":"carts","DeletionProtectionEnabled":true}`)
	f.run([]step{{"DeleteTable", `{"TableName":"carts"}`, refused}})
	f.ok("UpdateTable", `{"TableName":"carts","DeletionProtectionEnabled":false}`)
	f.ok("DeleteTable", `{"TableName":"carts"}`)
}

func TestGlobalTablesOf2017(t *testing.T) {
	f := newFixture(t)
	f.ok("CreateTable", createTable("carts", "id", "", ""))
	const old = "ValidationException: One or more parameter values were invalid: DynamoDB global tables version 2017.11.29 is not supported. We recommend using DynamoDB global tables version 2019.11.21, instead of version 2017.11.29 (Legacy)."
	const gone = "GlobalTableNotFoundException: Global table with name: 'carts' does not exist."
	f.run([]step{
		{"CreateGlobalTable", `{"GlobalTableName":"carts","ReplicationGroup":[{"RegionName":"mumbai"}]}`, old},
		{"CreateGlobalTable", `{"ReplicationGroup":[]}`, "ValidationException: 1 validation error detected: Value null at 'globalTableName' failed to satisfy constraint: Member must not be null"},
		{"UpdateGlobalTable", `{"GlobalTableName":"carts","ReplicaUpdates":[{"Create":{"RegionName":"mumbai"}}]}`, old},
		{"UpdateGlobalTable", `{"GlobalTableName":"carts","ReplicaUpdates":[{"Delete":{"RegionName":"mumbai"}}]}`, gone},
		{"UpdateGlobalTable", `{"GlobalTableName":"carts","ReplicaUpdates":[]}`, "ValidationException: One or more parameter values were invalid"},
		{"DescribeGlobalTable", `{"GlobalTableName":"carts"}`, "GlobalTableNotFoundException: Global table not found: Global table with name: 'carts' does not exist."},
		{"DescribeGlobalTableSettings", `{"GlobalTableName":"carts"}`, gone},
		{"UpdateGlobalTableSettings", `{"GlobalTableName":"carts"}`, gone},
		{"ListGlobalTables", `{}`, `{"GlobalTables":[]}`},
		{"DescribeTimeToLive", `{"TableName":"carts"}`, `{"TimeToLiveDescription":{"TimeToLiveStatus":"DISABLED"}}`},
		{"DescribeTimeToLive", `{"TableName":"nothere"}`, "ResourceNotFoundException: Requested resource not found: Table: nothere not found"},
		{"DescribeContinuousBackups", `{"TableName":"carts"}`, `{"ContinuousBackupsDescription":{"ContinuousBackupsStatus":"DISABLED","PointInTimeRecoveryDescription":{"PointInTimeRecoveryStatus":"DISABLED"}}}`},
		{"TransactGetItems", `{}`, "UnknownOperationException: TransactGetItems is not supported by this version of antipode"},
		{"Sing", `{}`, "UnknownOperationException: "},
	})
}

func TestTagRefusals(t *testing.T) {
	f := newFixture(t)
	f.ok("CreateTable", createTable("carts", "id", "", ""))
	const invalid = "ValidationException: One or more parameter values were invalid: "
	tag := func(tags string) string {
		return `{"ResourceArn":"arn:aws:dynamodb:oregon:000000000000:table/carts","Tags":[` + tags + `]}`
	}
	var many []string
	for i := range 51 {
		many = append(many, `{"Key":"k`+itoa(i)+`","Value":""}`)
	}
	f.run([]step{
		{"TagResource", tag(``), "ValidationException: Atleast one Tag needs to be provided as Input."},
		{"TagResource", tag(`{"Key":"","Value":""}`), "ValidationException: The Tag Key provided is invalid, Key: "},
		{"TagResource", tag(`{"Key":"a"}`), "ValidationException: The Tag Value provided is invalid, Value: null"},
		{"TagResource", tag(`{"Key":"a","Value":"` + strings.Repeat("é", 257) + `"}`), "ValidationException: The Tag Value provided is invalid, Value: " + strings.Repeat("é", 257)},
		{"TagResource", tag(`{"Key":"` + strings.Repeat("é", 128) + `","Value":"` + strings.Repeat("é", 256) + `"}`), ""},
		{"TagResource", tag(`{"Key":"aws:a","Value":"x"}`), "ValidationException: Tag Key cannot be prefixed with aws:, Key: aws:a"},
		{"TagResource", tag(`{"Key":"a","Value":"x"},{"Key":"a","Value":"y"}`), "ValidationException: Duplicate Tag Keys provided as input: Duplicate Tag Key found a"},
		{"TagResource", tag(strings.Join(many, ",")), "ValidationException: Number of Tags exceed the current limit for the provided ResourceArn"},
		{"UntagResource", `{"ResourceArn":"arn:aws:dynamodb:oregon:000000000000:table/carts","TagKeys":[]}`, "ValidationException: Atleast one Tag Key needs to be provided as Input."},
		{"ListTagsOfResource", `{"ResourceArn":"arn:aws:s3:::bucket"}`, invalid + "Provided Arn is not a DynamoDB resource arn: arn:aws:s3:::bucket"},
		{"ListTagsOfResource", `{"ResourceArn":"arn:aws:dynamodb:oregon:000000000000:table/carts/index/x"}`, invalid + "Invalid resource arn provided, only table or stream is accepted. Provided resource arn: arn:aws:dynamodb:oregon:000000000000:table/carts/index/x"},
		{"ListTagsOfResource", `{"ResourceArn":"arn:aws:dynamodb:mumbai:000000000000:table/carts"}`, "ValidationException: Invalid TableArn: Invalid ResourceArn provided as input arn:aws:dynamodb:mumbai:000000000000:table/carts"},
	})
}

// TestSDKUpdateTable changes a table with the AWS SDK and sends it parameters of before expressions.
func TestSDKUpdateTable(t *testing.T) {
	f := newFixture(t)
	c := f.client(f.serve(), f.key)
	f.ok("CreateTable", createTable("carts", "id", "", ""))
	ctx, name := t.Context(), aws.String("carts")
	out, err := c.UpdateTable(ctx, &dynamodb.UpdateTableInput{
		TableName: name, BillingMode: types.BillingModeProvisioned,
		ProvisionedThroughput: &types.ProvisionedThroughput{ReadCapacityUnits: aws.Int64(5), WriteCapacityUnits: aws.Int64(5)},
	})
	if err != nil || out.TableDescription.TableStatus != types.TableStatusUpdating {
		t.Fatalf("%v %+v", err, out)
	}
	if err := dynamodb.NewTableExistsWaiter(c).Wait(ctx, &dynamodb.DescribeTableInput{TableName: name}, time.Minute); err != nil {
		t.Fatal(err)
	}
	if _, err := c.PutItem(ctx, &dynamodb.PutItemInput{
		TableName: name, Item: map[string]types.AttributeValue{"id": str("a"), "n": num(1)},
		Expected: map[string]types.ExpectedAttributeValue{"id": {Exists: aws.Bool(false)}},
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName: name, Key: map[string]types.AttributeValue{"id": str("a")},
		AttributeUpdates: map[string]types.AttributeValueUpdate{"n": {Action: types.AttributeActionAdd, Value: num(4)}},
	}); err != nil {
		t.Fatal(err)
	}
	got, err := c.Query(ctx, &dynamodb.QueryInput{
		TableName:     name,
		KeyConditions: map[string]types.Condition{"id": {ComparisonOperator: types.ComparisonOperatorEq, AttributeValueList: []types.AttributeValue{str("a")}}},
		QueryFilter:   map[string]types.Condition{"n": {ComparisonOperator: types.ComparisonOperatorGe, AttributeValueList: []types.AttributeValue{num(5)}}},
	})
	if err != nil || got.Count != 1 {
		t.Errorf("%v %+v", err, got)
	}
	if ttl, err := c.DescribeTimeToLive(ctx, &dynamodb.DescribeTimeToLiveInput{TableName: name}); err != nil || ttl.TimeToLiveDescription.TimeToLiveStatus != types.TimeToLiveStatusDisabled {
		t.Errorf("%v %+v", err, ttl)
	}
}
