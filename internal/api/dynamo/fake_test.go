package dynamo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/api/access"
	"github.com/antipode-io/antipode/internal/control"
	"github.com/antipode-io/antipode/internal/data/table"
)

// fakeControl is a group of one.
type fakeControl struct {
	mu    sync.Mutex
	state *control.State
	// mute makes proposals wait for an agreement that never comes.
	mute bool
}

func newFakeControl(tb testing.TB) *fakeControl {
	tb.Helper()
	f := &fakeControl{state: control.NewState()}
	for _, r := range []control.Region{
		{Name: "oregon", Location: "us-west-2"},
		{Name: "mumbai", Location: "ap-south-1"},
		{Name: "frankfurt", Location: "eu-central-1", Witness: true},
	} {
		if _, err := f.Propose(context.Background(), control.Command{PutRegion: &r}); err != nil {
			tb.Fatal(err)
		}
	}
	return f
}

func (f *fakeControl) State() *control.State {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state
}

func (f *fakeControl) Propose(ctx context.Context, c control.Command) (*control.State, error) {
	if f.mute {
		<-ctx.Done()
		return nil, errors.New("no majority")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	next, err := control.Apply(f.state, f.state.Index+1, c)
	f.state = next
	return next, err
}

// fakeTables keeps items in a sorted list.
type fakeTables struct {
	c    *fakeControl
	self antipode.Region

	mu    sync.Mutex
	items map[antipode.TableID][]fakeItem
	// fail, when set, answers writes and consistent reads.
	fail func(key table.Key) error
	// hold, when set, is called by writes.
	hold func()
	// far runs each write through Compile, as another region would.
	far bool
}

type fakeItem struct {
	order []byte
	key   table.Key
	body  []byte
}

func order(k table.Key) []byte {
	h := xxhash.Sum64(k.Partition)
	out := []byte{byte(h >> 56), byte(h >> 48), byte(h >> 40), byte(h >> 32)}
	return append(append(append(out, k.Partition...), 0, 1), k.Sort...)
}

func (f *fakeTables) Table(name string) (*table.TableRef, error) {
	t, ok := f.c.State().Tables[name]
	if !ok || !t.HasReplica(f.self) {
		return nil, table.ErrNoTable
	}
	return t, nil
}

func (f *fakeTables) find(t *table.TableRef, k table.Key) (int, bool) {
	return slices.BinarySearchFunc(f.items[t.ID], order(k), func(i fakeItem, o []byte) int { return bytes.Compare(i.order, o) })
}

func (f *fakeTables) Get(_ context.Context, t *table.TableRef, k table.Key, consistent bool, dst []byte) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil && consistent {
		if err := f.fail(k); err != nil {
			return nil, err
		}
	}
	i, ok := f.find(t, k)
	if !ok {
		return nil, nil
	}
	return append(dst, f.items[t.ID][i].body...), nil
}

func (f *fakeTables) Range(_ context.Context, r table.RangeRequest, visit table.Visit) error {
	f.mu.Lock()
	all := slices.Clone(f.items[r.Table.ID])
	f.mu.Unlock()
	if r.Reverse {
		slices.Reverse(all)
	}
	for _, i := range all {
		if r.After != nil {
			if c := bytes.Compare(i.order, order(*r.After)); c == 0 || (c < 0) != r.Reverse {
				continue
			}
		}
		if r.Partition != nil && (!bytes.Equal(i.key.Partition, r.Partition) ||
			bytes.Compare(i.key.Sort, r.Lower) < 0 || r.Upper != nil && bytes.Compare(i.key.Sort, r.Upper) >= 0) {
			continue
		}
		if !r.Covers(i.key) {
			continue
		}
		more, err := visit(i.key, i.body)
		if err != nil || !more {
			return err
		}
	}
	return nil
}

func (f *fakeTables) Write(_ context.Context, w table.WriteRequest) (res table.WriteResult, err error) {
	if f.hold != nil {
		f.hold()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		if err := f.fail(w.Key); err != nil {
			return res, err
		}
	}
	if f.far {
		if w.Op, w.Key, err = Compile(w.Verb, w.Payload, w.Table); err != nil {
			return res, err
		}
	}
	n, ok := f.find(w.Table, w.Key)
	list := f.items[w.Table.ID]
	var old []byte
	if ok {
		old = list[n].body
	}
	d, err := w.Op.Decide(old)
	if err != nil {
		return res, err
	}
	if w.WantOld {
		res.Old = old
	}
	now := old
	switch {
	case d.Keep:
	case d.Delete:
		list, now = slices.Delete(list, n, n+1), nil
	case ok:
		list[n].body, now = d.Body, d.Body
	default:
		k := table.Key{Partition: bytes.Clone(w.Key.Partition), Sort: bytes.Clone(w.Key.Sort)}
		list, now = slices.Insert(list, n, fakeItem{order(k), k, d.Body}), d.Body
	}
	f.items[w.Table.ID] = list
	if w.WantNew {
		res.New = now
	}
	return res, nil
}

// fixture is a front before fake tables.
type fixture struct {
	tb      testing.TB
	control *fakeControl
	tables  *fakeTables
	keys    *access.Keyring
	key     access.Key
	server  *Server
}

func newFixture(tb testing.TB) *fixture {
	tb.Helper()
	f := &fixture{tb: tb, control: newFakeControl(tb)}
	f.tables = &fakeTables{c: f.control, self: "oregon", items: map[antipode.TableID][]fakeItem{}}
	var err error
	if f.keys, err = access.Open(access.Config{FS: vfs.NewMem(), Path: "keys.json", Now: time.Now}); err != nil {
		tb.Fatal(err)
	}
	f.key = f.newKey(access.Scope{})
	f.server, err = New(Config{
		Region: "oregon", Aliases: []string{"us-west-2"}, Tables: f.tables, Control: f.control, Keys: f.keys, Now: time.Now,
	})
	if err != nil {
		tb.Fatal(err)
	}
	return f
}

func (f *fixture) newKey(s access.Scope) access.Key {
	f.tb.Helper()
	k, err := f.keys.Create(s)
	if err != nil {
		f.tb.Fatal(err)
	}
	return k
}

// sign returns the headers of a signed request.
func (f *fixture) sign(op, body string, k access.Key) *http.Request {
	f.tb.Helper()
	r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, "http://127.0.0.1:7100/", strings.NewReader(body))
	if err != nil {
		f.tb.Fatal(err)
	}
	r.Header.Set("X-Amz-Target", targetPrefix+op)
	r.Header.Set("Content-Type", jsonType)
	sum := sha256.Sum256([]byte(body))
	err = v4.NewSigner().SignHTTP(context.Background(), aws.Credentials{AccessKeyID: k.ID, SecretAccessKey: k.Secret},
		r, hex.EncodeToString(sum[:]), "dynamodb", "oregon", time.Now())
	if err != nil {
		f.tb.Fatal(err)
	}
	return r
}

func headerOf(r *http.Request, length string) access.Header {
	return access.HeaderFunc(func(name string) []byte {
		switch strings.ToLower(name) {
		case "host":
			return []byte(r.Host)
		case "content-length":
			return []byte(length)
		}
		return []byte(strings.Join(r.Header.Values(name), ","))
	})
}

// call sends a signed request past HTTP.
func (f *fixture) call(op, body string) *Response { return f.callAs(f.key, op, body) }

func (f *fixture) callAs(k access.Key, op, body string) *Response {
	f.tb.Helper()
	r := f.sign(op, body, k)
	dst := &Response{}
	f.server.Handle(context.Background(), &Request{
		Method: []byte("POST"), Path: []byte("/"), Header: headerOf(r, itoa(len(body))), Body: []byte(body),
	}, dst)
	return dst
}

// ok sends a request that has to succeed and returns its answer.
func (f *fixture) ok(op, body string) string {
	f.tb.Helper()
	r := f.call(op, body)
	if r.Status != http.StatusOK {
		f.tb.Fatalf("%s %s: %d %s", op, body, r.Status, r.Body)
	}
	return string(r.Body)
}

func itoa(n int) string { return string(appendInt(nil, n)) }

func appendInt(b []byte, n int) []byte {
	if n >= 10 {
		b = appendInt(b, n/10)
	}
	return append(b, byte('0'+n%10))
}

// serve runs the server on a loopback listener until the test ends.
func (f *fixture) serve() string {
	f.tb.Helper()
	var lc net.ListenConfig
	ln, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		f.tb.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- f.server.Serve(context.Background(), ln) }()
	f.tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := f.server.Shutdown(ctx); err != nil {
			f.tb.Error(err)
		}
		if err := <-done; err != nil {
			f.tb.Error(err)
		}
	})
	return ln.Addr().String()
}

// client is the AWS SDK, which retries nothing.
func (f *fixture) client(addr string, k access.Key) *dynamodb.Client {
	f.tb.Helper()
	tr := &http.Transport{}
	f.tb.Cleanup(tr.CloseIdleConnections)
	return dynamodb.New(dynamodb.Options{
		Region: "us-west-2", BaseEndpoint: aws.String("http://" + addr), RetryMaxAttempts: 1,
		HTTPClient: &http.Client{Transport: tr},
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: k.ID, SecretAccessKey: k.Secret}, nil
		}),
	})
}

func createTable(name, hash, sort, tags string) string {
	defs, schema := `{"AttributeName":"`+hash+`","AttributeType":"S"}`, `{"AttributeName":"`+hash+`","KeyType":"HASH"}`
	if sort != "" {
		defs += `,{"AttributeName":"` + sort + `","AttributeType":"N"}`
		schema += `,{"AttributeName":"` + sort + `","KeyType":"RANGE"}`
	}
	if tags != "" {
		tags = `,"Tags":[` + tags + `]`
	}
	return `{"TableName":"` + name + `","BillingMode":"PAY_PER_REQUEST","AttributeDefinitions":[` + defs + `],"KeySchema":[` + schema + `]` + tags + `}`
}
