package dynamo

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/antipode-io/antipode/internal/api/access"
)

func str(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }
func num(n int) types.AttributeValue {
	return &types.AttributeValueMemberN{Value: strconv.Itoa(n)}
}

var ignoreSDK = cmpopts.IgnoreUnexported(types.AttributeValueMemberS{}, types.AttributeValueMemberN{}, types.AttributeValueMemberB{},
	types.AttributeValueMemberL{}, types.AttributeValueMemberM{}, types.AttributeValueMemberSS{}, types.AttributeValueMemberBOOL{},
	types.AttributeValueMemberNULL{}, types.Tag{})

// TestSDK goes through the life of a table with the AWS SDK over a socket.
func TestSDK(t *testing.T) {
	f := newFixture(t)
	c := f.client(f.serve(), f.key)
	ctx := t.Context()
	name := aws.String("lines")
	made, err := c.CreateTable(ctx, &dynamodb.CreateTableInput{
		TableName: name, BillingMode: types.BillingModePayPerRequest,
		AttributeDefinitions: []types.AttributeDefinition{
			{AttributeName: aws.String("id"), AttributeType: types.ScalarAttributeTypeS},
			{AttributeName: aws.String("n"), AttributeType: types.ScalarAttributeTypeN},
		},
		KeySchema: []types.KeySchemaElement{
			{AttributeName: aws.String("id"), KeyType: types.KeyTypeHash}, {AttributeName: aws.String("n"), KeyType: types.KeyTypeRange},
		},
		Tags: []types.Tag{{Key: aws.String("antipode:writes"), Value: aws.String("local")}, {Key: aws.String("antipode:rule"), Value: aws.String("last-writer")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := dynamodb.NewTableExistsWaiter(c).Wait(ctx, &dynamodb.DescribeTableInput{TableName: name}, time.Minute); err != nil {
		t.Fatal(err)
	}
	tags, err := c.ListTagsOfResource(ctx, &dynamodb.ListTagsOfResourceInput{ResourceArn: made.TableDescription.TableArn})
	if err != nil || len(tags.Tags) != 2 {
		t.Fatalf("%v %+v", err, tags)
	}
	testSDKItems(t, c, name)
	testSDKPages(t, c, name)
	if _, err := c.TagResource(ctx, &dynamodb.TagResourceInput{
		ResourceArn: made.TableDescription.TableArn, Tags: []types.Tag{{Key: aws.String("a"), Value: aws.String("b")}},
	}); err != nil {
		t.Error(err)
	}
	if _, err := c.DescribeLimits(ctx, &dynamodb.DescribeLimitsInput{}); err != nil {
		t.Error(err)
	}
	if _, err := c.DeleteTable(ctx, &dynamodb.DeleteTableInput{TableName: name}); err != nil {
		t.Fatal(err)
	}
	if err := dynamodb.NewTableNotExistsWaiter(c).Wait(ctx, &dynamodb.DescribeTableInput{TableName: name}, time.Minute); err != nil {
		t.Fatal(err)
	}
	var gone *types.ResourceNotFoundException
	if _, err := c.GetItem(ctx, &dynamodb.GetItemInput{TableName: name, Key: map[string]types.AttributeValue{"id": str("a"), "n": num(1)}}); !errors.As(err, &gone) {
		t.Errorf("%v, want ResourceNotFoundException", err)
	}
}

func testSDKItems(t *testing.T, c *dynamodb.Client, name *string) {
	t.Helper()
	ctx := t.Context()
	item := map[string]types.AttributeValue{
		"id": str("a"), "n": num(1), "bin": &types.AttributeValueMemberB{Value: []byte{0, 1, 255}},
		"list": &types.AttributeValueMemberL{Value: []types.AttributeValue{&types.AttributeValueMemberBOOL{Value: true}, &types.AttributeValueMemberNULL{Value: true}}},
		"map":  &types.AttributeValueMemberM{Value: map[string]types.AttributeValue{"ünï \"cödé\"": str("a\n\t\\\"b\u2028\x01")}},
		"set":  &types.AttributeValueMemberSS{Value: []string{"x", "y"}},
	}
	if _, err := c.PutItem(ctx, &dynamodb.PutItemInput{TableName: name, Item: item}); err != nil {
		t.Fatal(err)
	}
	key := map[string]types.AttributeValue{"id": str("a"), "n": num(1)}
	got, err := c.GetItem(ctx, &dynamodb.GetItemInput{TableName: name, Key: key, ConsistentRead: aws.Bool(true)})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(item, got.Item, ignoreSDK); d != "" {
		t.Error(d)
	}
	_, err = c.PutItem(ctx, &dynamodb.PutItemInput{
		TableName: name, Item: item, ConditionExpression: aws.String("attribute_not_exists(id)"),
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	})
	var failed *types.ConditionalCheckFailedException
	if !errors.As(err, &failed) {
		t.Fatalf("%v, want ConditionalCheckFailedException", err)
	}
	if d := cmp.Diff(item, failed.Item, ignoreSDK); d != "" {
		t.Error(d)
	}
	up, err := c.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName: name, Key: key, UpdateExpression: aws.String("SET #c = if_not_exists(#c, :zero) + :one REMOVE bin"),
		ExpressionAttributeNames:  map[string]string{"#c": "count"},
		ExpressionAttributeValues: map[string]types.AttributeValue{":zero": num(0), ":one": num(1)},
		ReturnValues:              types.ReturnValueUpdatedNew,
	})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(map[string]types.AttributeValue{"count": num(1)}, up.Attributes, ignoreSDK); d != "" {
		t.Error(d)
	}
	if _, err := c.DeleteItem(ctx, &dynamodb.DeleteItemInput{TableName: name, Key: key}); err != nil {
		t.Error(err)
	}
}

func testSDKPages(t *testing.T, c *dynamodb.Client, name *string) {
	t.Helper()
	ctx := t.Context()
	var puts []types.WriteRequest
	for i := range 25 {
		puts = append(puts, types.WriteRequest{PutRequest: &types.PutRequest{Item: map[string]types.AttributeValue{"id": str("q"), "n": num(i)}}})
	}
	out, err := c.BatchWriteItem(ctx, &dynamodb.BatchWriteItemInput{RequestItems: map[string][]types.WriteRequest{*name: puts}})
	if err != nil || len(out.UnprocessedItems) != 0 {
		t.Fatalf("%v %+v", err, out)
	}
	n := 0
	for p := dynamodb.NewQueryPaginator(c, &dynamodb.QueryInput{
		TableName: name, KeyConditionExpression: aws.String("id = :i AND n >= :n"), Limit: aws.Int32(7),
		ExpressionAttributeValues: map[string]types.AttributeValue{":i": str("q"), ":n": num(5)},
	}); p.HasMorePages(); {
		page, err := p.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range page.Items {
			if d := cmp.Diff(num(n+5), i["n"], ignoreSDK); d != "" {
				t.Error(d)
			}
			n++
		}
	}
	if n != 20 {
		t.Errorf("query gave %d items, want 20", n)
	}
	got, err := c.BatchGetItem(ctx, &dynamodb.BatchGetItemInput{RequestItems: map[string]types.KeysAndAttributes{
		*name: {Keys: []map[string]types.AttributeValue{{"id": str("q"), "n": num(3)}, {"id": str("q"), "n": num(99)}}},
	}})
	if err != nil || len(got.Responses[*name]) != 1 {
		t.Errorf("%v %+v", err, got)
	}
	scan, err := c.Scan(ctx, &dynamodb.ScanInput{TableName: name, Select: types.SelectCount})
	if err != nil || scan.Count != 25 {
		t.Errorf("%v %+v", err, scan)
	}
}

func TestSDKRefusals(t *testing.T) {
	f := newFixture(t)
	addr := f.serve()
	for name, tc := range map[string]struct {
		key  access.Key
		code string
	}{
		"unknown key": {access.Key{ID: "AKIAAAAAAAAAAAAAAAAA", Secret: "s"}, "UnrecognizedClientException"},
		"bad secret":  {access.Key{ID: f.key.ID, Secret: "s"}, "InvalidSignatureException"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := f.client(addr, tc.key).ListTables(t.Context(), &dynamodb.ListTablesInput{})
			var api smithy.APIError
			if !errors.As(err, &api) || api.ErrorCode() != tc.code {
				t.Errorf("%v, want %s", err, tc.code)
			}
		})
	}
}

// TestShutdownLetsRequestsFinish stops the server while a write is on its way.
func TestShutdownLetsRequestsFinish(t *testing.T) {
	f := newFixture(t)
	f.ok("CreateTable", createTable("carts", "id", "", ""))
	started, release := make(chan struct{}), make(chan struct{})
	f.tables.hold = func() { close(started); <-release }
	var lc net.ListenConfig
	ln, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served, put, shut := make(chan error, 1), make(chan error, 1), make(chan error, 1)
	go func() { served <- f.server.Serve(context.Background(), ln) }()
	c := f.client(ln.Addr().String(), f.key)
	go func() {
		_, err := c.PutItem(context.Background(), &dynamodb.PutItemInput{TableName: aws.String("carts"), Item: map[string]types.AttributeValue{"id": str("a")}})
		put <- err
	}()
	<-started
	go func() { shut <- f.server.Shutdown(context.Background()) }()
	if err := <-served; err != nil {
		t.Error(err)
	}
	close(release)
	if err := <-put; err != nil {
		t.Errorf("a request that was running: %v", err)
	}
	if err := <-shut; err != nil {
		t.Error(err)
	}
}

func TestShutdownBeforeServe(t *testing.T) {
	f := newFixture(t)
	if err := f.server.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.server.Serve(t.Context(), ln); err != nil {
		t.Error(err)
	}
	if _, err := ln.Accept(); err == nil {
		t.Error("the listener was left open")
	}
}

func TestTLS(t *testing.T) {
	f := newFixture(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	f.server.cfg.TLS = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	defer tr.CloseIdleConnections()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+f.serve()+"/", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	res, err := (&http.Client{Transport: tr}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Errorf("status %s", res.Status)
	}
}
