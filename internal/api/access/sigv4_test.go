package access

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/cockroachdb/pebble/v2/vfs"
)

type fixture struct {
	c    *clock
	ring *Keyring
	key  Key
	v    *Verifier
}

func newFixture(tb testing.TB) *fixture {
	tb.Helper()
	c := newClock()
	ring, err := Open(Config{FS: vfs.NewMem(), Path: "keys.json", Now: c.now})
	if err != nil {
		tb.Fatal(err)
	}
	key, err := ring.Create(Scope{})
	if err != nil {
		tb.Fatal(err)
	}
	v, err := NewVerifier(VerifierConfig{
		Keys: ring, Regions: []string{"oregon", "us-west-2"}, Service: "dynamodb", Now: c.now,
		MustSign: []string{"x-amz-target"},
	})
	if err != nil {
		tb.Fatal(err)
	}
	return &fixture{c, ring, key, v}
}

// sign makes a request as the AWS SDK does.
func (f *fixture) sign(tb testing.TB, url, body, region, service string, k Key) *http.Request {
	tb.Helper()
	r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		tb.Fatal(err)
	}
	r.Header.Set("X-Amz-Target", "DynamoDB_20120810.GetItem")
	r.Header.Set("Content-Type", "application/x-amz-json-1.0")
	r.Header.Set("X-Amz-Meta", "  two   words  and more ")
	sum := sha256.Sum256([]byte(body))
	err = v4.NewSigner().SignHTTP(context.Background(), aws.Credentials{AccessKeyID: k.ID, SecretAccessKey: k.Secret, SessionToken: "token"},
		r, hex.EncodeToString(sum[:]), service, region, f.c.now())
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

func (f *fixture) verify(tb testing.TB, r *http.Request) (Key, error) {
	tb.Helper()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		tb.Fatal(err)
	}
	return f.v.Verify(&Request{
		Method: []byte(r.Method), Path: []byte(r.URL.EscapedPath()), Query: []byte(r.URL.RawQuery),
		Header: header(r), BodyHash: sha256.Sum256(body),
	})
}

func header(r *http.Request) Header {
	return HeaderFunc(func(name string) []byte {
		switch strings.ToLower(name) {
		case "host":
			return []byte(r.Host)
		case "content-length":
			return []byte("2")
		}
		return []byte(strings.Join(r.Header.Values(name), ","))
	})
}

func TestVerifySDK(t *testing.T) {
	f := newFixture(t)
	for name, url := range map[string]string{
		"root":    "http://127.0.0.1:7100/",
		"no path": "http://127.0.0.1:7100",
		"path":    "http://127.0.0.1:7100/a%20b/c+d",
		"query":   "http://127.0.0.1:7100/?b=2&a=1&a=0&c=%2Fx%20y&d",
	} {
		for _, region := range []string{"oregon", "us-west-2"} {
			t.Run(name+" "+region, func(t *testing.T) {
				k, err := f.verify(t, f.sign(t, url, "{}", region, "dynamodb", f.key))
				if err != nil {
					t.Fatal(err)
				}
				if k.ID != f.key.ID {
					t.Errorf("key %s, want %s", k.ID, f.key.ID)
				}
			})
		}
	}
}

func TestVerifyRefuses(t *testing.T) {
	const url = "http://127.0.0.1:7100/"
	f := newFixture(t)
	ok := func() *http.Request { return f.sign(t, url, "{}", "oregon", "dynamodb", f.key) }
	with := func(name, value string) *http.Request {
		r := ok()
		r.Header.Set(name, value)
		return r
	}
	replace := func(old, new string) *http.Request {
		return with("Authorization", strings.Replace(ok().Header.Get("Authorization"), old, new, 1))
	}
	unsigned := ok()
	unsigned.Header.Del("Authorization")
	undated := ok()
	undated.Header.Del("X-Amz-Date")
	old := ok()
	f.c.add(-16 * time.Minute)
	late := ok()
	f.c.add(32 * time.Minute)
	future := ok()
	f.c.add(-16 * time.Minute)
	stranger := Key{ID: "AKIAAAAAAAAAAAAAAAAA", Secret: "s"}
	_ = old
	for name, tc := range map[string]struct {
		r    *http.Request
		kind error
		text string
	}{
		"unsigned":      {unsigned, ErrMissing, "Request is missing Authentication Token"},
		"other scheme":  {with("Authorization", "Bearer x"), ErrMissing, "Request is missing Authentication Token"},
		"no parameters": {with("Authorization", "AWS4-HMAC-SHA256 "), ErrIncomplete, "Authorization header requires 'Credential' parameter. Authorization header requires 'Signature' parameter. Authorization header requires 'SignedHeaders' parameter. Authorization=AWS4-HMAC-SHA256"},
		"no equal sign": {with("Authorization", "AWS4-HMAC-SHA256 Credential"), ErrIncomplete, "missing equal-sign"},
		"no date":       {undated, ErrIncomplete, "requires existence of either a 'X-Amz-Date' or a 'Date' header."},
		"bad date":      {with("X-Amz-Date", "201"), ErrIncomplete, "Date must be in ISO-8601 'basic format'. Got '201'."},
		"algorithm":     {replace("SHA256 ", "SHA25 "), ErrIncomplete, "Unsupported AWS 'algorithm': 'AWS4-HMAC-SHA25'"},
		"short scope":   {replace("/aws4_request", ""), ErrIncomplete, "Credential must have exactly 5 slash-delimited elements"},
		"host":          {replace("host;", ""), ErrSignature, "'Host' must be a 'SignedHeader' in the AWS Authorization."},
		"target":        {replace(";x-amz-target", ""), ErrSignature, "'x-amz-target' must be a 'SignedHeader' in the AWS Authorization."},
		"region":        {f.sign(t, url, "{}", "mumbai", "dynamodb", f.key), ErrSignature, "Credential should be scoped to a valid region. Here that is 'oregon' or 'us-west-2', not 'mumbai'. "},
		"service":       {f.sign(t, url, "{}", "oregon", "s3", f.key), ErrSignature, "Credential should be scoped to correct service: 'dynamodb'. "},
		"terminator":    {replace("aws4_request", "aws5"), ErrSignature, "valid terminator: 'aws4_request', not 'aws5'. "},
		"scope date":    {replace("/20261123/", "/20261122/"), ErrSignature, "'20261122' != '20261123'"},
		"stranger":      {f.sign(t, url, "{}", "oregon", "dynamodb", stranger), ErrUnknownKey, "The security token included in the request is invalid."},
		"bad secret":    {f.sign(t, url, "{}", "oregon", "dynamodb", Key{ID: f.key.ID, Secret: "x"}), ErrSignature, "does not match the signature you provided"},
		"late":          {late, ErrSignature, "Signature expired: 20261123T022328Z is now earlier than 20261123T022428Z (20261123T023928Z - 15 min.)"},
		"future":        {future, ErrSignature, "Signature not yet current: 20261123T025528Z is still later than 20261123T025428Z (20261123T023928Z + 15 min.)"},
		"header":        {with("X-Amz-Target", "DynamoDB_20120810.DeleteItem"), ErrSignature, "does not match"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := f.verify(t, tc.r)
			var e *Error
			if !errors.As(err, &e) || !errors.Is(err, tc.kind) {
				t.Fatalf("%v, want %v", err, tc.kind)
			}
			if !strings.Contains(e.Message, tc.text) {
				t.Errorf("message %q, want %q in it", e.Message, tc.text)
			}
		})
	}
	body := ok()
	body.Body = io.NopCloser(strings.NewReader("{ }"))
	if _, err := f.verify(t, body); !errors.Is(err, ErrSignature) {
		t.Errorf("changed body: %v, want ErrSignature", err)
	}
	if err := f.ring.Revoke(f.key.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := f.verify(t, ok()); !errors.Is(err, ErrUnknownKey) {
		t.Errorf("revoked key: %v, want ErrUnknownKey", err)
	}
}

func TestVerifyDateHeader(t *testing.T) {
	f := newFixture(t)
	r := f.sign(t, "http://h/", "{}", "oregon", "dynamodb", f.key)
	signed := strings.Replace(r.Header.Get("Authorization"), "x-amz-date;", "", 1)
	r.Header.Set("Authorization", signed)
	r.Header.Set("Date", f.c.now().Format(http.TimeFormat))
	r.Header.Del("X-Amz-Date")
	if _, err := f.verify(t, r); !errors.Is(err, ErrSignature) || !strings.Contains(err.Error(), "does not match") {
		t.Errorf("%v: want the Date header to be read and the signature to be wrong", err)
	}
}

func TestSignersAreBounded(t *testing.T) {
	f := newFixture(t)
	for i := range maxSigners + 10 {
		f.v.signer(f.key, credential{date: time.Unix(int64(i)*86400, 0).Format("20060102"), region: "oregon", service: "dynamodb"})
	}
	if n := len(f.v.signers); n > maxSigners {
		t.Errorf("%d signing keys cached, want at most %d", n, maxSigners)
	}
}

func FuzzAuthorization(f *testing.F) {
	fx := newFixture(f)
	r := fx.sign(f, "http://h/?a=%zz&b", "{}", "oregon", "dynamodb", fx.key)
	f.Add(r.Header.Get("Authorization"), r.Header.Get("X-Amz-Date"), "/", "a=%zz&b")
	f.Add("AWS4-HMAC-SHA256 Credential=a/b/c/d/e,SignedHeaders=host,Signature=", "20261123T023928Z", "", "&&=&%")
	f.Add("AWS4-HMAC-SHA256 Credential=/////,SignedHeaders=;;;,Signature=x", "Mon, 23 Nov 2026 02:39:28 GMT", "//%", "")
	f.Fuzz(func(t *testing.T, auth, date, path, query string) {
		_, err := fx.v.Verify(&Request{
			Method: []byte("POST"), Path: []byte(path), Query: []byte(query),
			Header: HeaderFunc(func(name string) []byte {
				switch strings.ToLower(name) {
				case "authorization":
					return []byte(auth)
				case "x-amz-date":
					return []byte(date)
				}
				return nil
			}),
		})
		var e *Error
		if err == nil || !errors.As(err, &e) || e.Message == "" {
			t.Errorf("%v: a made-up signature must be refused with an *Error", err)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	f := newFixture(b)
	body := bytes.Repeat([]byte("x"), 600)
	r := f.sign(b, "http://127.0.0.1:7100/", string(body), "oregon", "dynamodb", f.key)
	values := map[string][]byte{"host": []byte(r.Host), "content-length": []byte("600")}
	for name := range r.Header {
		values[name] = []byte(r.Header.Get(name))
		values[strings.ToLower(name)] = []byte(r.Header.Get(name))
	}
	req := &Request{Method: []byte("POST"), Path: []byte("/"), Header: HeaderFunc(func(name string) []byte { return values[name] })}
	b.ReportAllocs()
	for b.Loop() {
		req.BodyHash = sha256.Sum256(body)
		if _, err := f.v.Verify(req); err != nil {
			b.Fatal(err)
		}
	}
}

// TestVerifyKeepsDates: a date that was read before is still compared with the
// clock each time, and is no other request's.
func TestVerifyKeepsDates(t *testing.T) {
	f := newFixture(t)
	const url = "http://127.0.0.1:7100/"
	r := f.sign(t, url, "{}", "oregon", "dynamodb", f.key)
	other := f.sign(t, url, "{}", "oregon", "dynamodb", f.key)
	other.Header.Set("X-Amz-Date", other.Header.Get("X-Amz-Date")[:13]+"01Z")
	for range 2 {
		if _, err := f.v.Verify(request(r)); err != nil {
			t.Fatal(err)
		}
		if _, err := f.v.Verify(request(other)); !errors.Is(err, ErrSignature) {
			t.Errorf("a date that was not signed: %v; want %v", err, ErrSignature)
		}
	}
	if _, err := f.v.Verify(request(r)); err != nil {
		t.Fatal(err)
	}
	f.c.add(16 * time.Minute)
	if _, err := f.v.Verify(request(r)); !errors.Is(err, ErrSignature) {
		t.Errorf("16 minutes later: %v; want %v", err, ErrSignature)
	}
}

func request(r *http.Request) *Request {
	return &Request{Method: []byte(r.Method), Path: []byte(r.URL.EscapedPath()), Header: header(r), BodyHash: sha256.Sum256([]byte("{}"))}
}
