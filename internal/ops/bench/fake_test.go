package bench

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/antipode-io/antipode"
)

// item is a stored item and when each region shows it.
type item struct {
	body    json.RawMessage
	bytes   int // as DynamoDB counts it
	written time.Time
}

// world is a table in two regions: what is written to one is shown by the other
// after a delay.
type world struct {
	t     *testing.T
	delay time.Duration

	mu     sync.Mutex
	items  map[string][]item // by partition key, in the order written
	origin map[string]string // the region of the last write
	sizes  map[int]int       // how many items of each size were written
	calls  map[string]int    // by target
	// refuse, when set, answers instead of the table.
	refuse func(call int) (status int, body string)
}

func newWorld(t *testing.T, delay time.Duration) *world {
	t.Helper()
	return &world{
		t: t, delay: delay, items: map[string][]item{}, origin: map[string]string{}, sizes: map[int]int{}, calls: map[string]int{},
	}
}

// endpoint starts a region.
func (w *world) endpoint(name string) Endpoint {
	w.t.Helper()
	e := Endpoint{Region: antipode.Region(name), AccessKey: "AK" + name, Secret: "secret of " + name, SigningRegion: name}
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { w.serve(rw, r, e) }))
	w.t.Cleanup(server.Close)
	e.URL = server.URL
	return e
}

func (w *world) serve(rw http.ResponseWriter, r *http.Request, e Endpoint) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		w.t.Errorf("read a request: %v", err)
	}
	if want := resign(w.t, r, body, e); r.Header.Get("Authorization") != want {
		w.t.Errorf("authorization is\n%s\nwant\n%s", r.Header.Get("Authorization"), want)
		http.Error(rw, `{"__type":"com.amazon.coral.service#InvalidSignatureException"}`, http.StatusBadRequest)
		return
	}
	target := r.Header.Get("X-Amz-Target")
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls[target]++
	if w.refuse != nil && target != targetDescribe {
		if status, text := w.refuse(w.calls[target]); status != 0 {
			http.Error(rw, text, status)
			return
		}
	}
	switch target {
	case targetDescribe:
		_, _ = io.WriteString(rw, `{"Table":{"AttributeDefinitions":[{"AttributeName":"sk","AttributeType":"N"},{"AttributeName":"id","AttributeType":"S"}],
			"KeySchema":[{"AttributeName":"id","KeyType":"HASH"},{"AttributeName":"sk","KeyType":"RANGE"}]}}`)
	case targetPut:
		w.put(e, body)
		_, _ = io.WriteString(rw, "{}")
	case targetGet:
		_, _ = rw.Write(w.get(e, body))
	default:
		w.t.Errorf("called with target %q", target)
	}
}

type values map[string]map[string]string

func (w *world) put(e Endpoint, body []byte) {
	var req struct {
		TableName string
		Item      values
	}
	if err := json.Unmarshal(body, &req); err != nil {
		w.t.Errorf("parse %s: %v", body, err)
		return
	}
	size := 0
	for name, typed := range req.Item {
		size += len(name) + len(typed["S"])
		if n := typed["N"]; n != "" {
			size += numberBytes(len(n))
		}
	}
	kept, err := json.Marshal(req.Item)
	if err != nil {
		w.t.Error(err)
	}
	key := req.Item["id"]["S"]
	w.items[key] = append(w.items[key], item{kept, size, time.Now()})
	w.origin[key] = e.SigningRegion
	w.sizes[size]++
}

func (w *world) get(e Endpoint, body []byte) []byte {
	var req struct {
		TableName string
		Key       values
	}
	if err := json.Unmarshal(body, &req); err != nil || req.Key["sk"]["N"] != "0" {
		w.t.Errorf("parse %s: %v", body, err)
	}
	key := req.Key["id"]["S"]
	versions := w.items[key]
	for _, v := range slices.Backward(versions) {
		if w.origin[key] == e.SigningRegion || time.Since(v.written) >= w.delay {
			return bytes.Join([][]byte{[]byte(`{"Item":`), v.body, []byte("}")}, nil)
		}
	}
	return []byte("{}")
}

// resign computes what Authorization should be, by the AWS SDK's own signer.
func resign(t *testing.T, got *http.Request, body []byte, e Endpoint) string {
	t.Helper()
	at, err := time.Parse(dateFormat, got.Header.Get("X-Amz-Date"))
	if err != nil {
		t.Errorf("parse X-Amz-Date: %v", err)
	}
	req, err := http.NewRequestWithContext(got.Context(), got.Method, "http://"+got.Host+got.URL.String(), nil)
	if err != nil {
		t.Errorf("make a request to sign: %v", err)
		return ""
	}
	for _, h := range []string{"Content-Type", "X-Amz-Target"} {
		req.Header.Set(h, got.Header.Get(h))
	}
	hash := sha256.Sum256(body)
	creds := aws.Credentials{AccessKeyID: e.AccessKey, SecretAccessKey: e.Secret}
	if err := v4.NewSigner().SignHTTP(got.Context(), creds, req, hex.EncodeToString(hash[:]), "dynamodb", e.SigningRegion, at); err != nil {
		t.Errorf("sign: %v", err)
	}
	return req.Header.Get("Authorization")
}
