package access

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"hash"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	algorithm  = "AWS4-HMAC-SHA256"
	terminator = "aws4_request"
	isoBasic   = "20060102T150405Z"
)

// maxSigners bounds the cache of signing keys. A key needs one entry a day and
// region name, so that it is never reached but by thousands of keys in use.
const maxSigners = 4096

// Keys finds access keys.
type Keys interface {
	// Lookup returns the key with this id if it may be used now.
	Lookup(id string) (Key, bool)
}

// Header reads a request's headers. The value of a header that was sent more
// than once is its values joined by commas, or the first: the latter makes such
// a signature fail. *fasthttp.RequestHeader is a Header.
type Header interface {
	// Peek returns the header's value, nil if there is none. The name's case does not matter.
	Peek(name string) []byte
}

// HeaderFunc makes a Header of a function.
type HeaderFunc func(name string) []byte

// Peek calls f.
func (f HeaderFunc) Peek(name string) []byte { return f(name) }

// Request is what a signature covers.
type Request struct {
	Method   []byte
	Path     []byte // as sent, escapes and all
	Query    []byte // as sent, without the question mark
	Header   Header
	BodyHash [sha256.Size]byte
}

// Verifier checks Signature Version 4 in the Authorization header.
type Verifier struct {
	cfg     VerifierConfig
	scratch sync.Pool // *[]byte
	last    atomic.Pointer[sentDate]

	mu      sync.RWMutex
	signers map[signerID]*sync.Pool // of hash.Hash, keyed with the signing key
}

type signerID struct{ key, date, region string }

// NewVerifier makes a Verifier.
func NewVerifier(cfg VerifierConfig) (*Verifier, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Verifier{
		cfg:     cfg,
		scratch: sync.Pool{New: func() any { return new([]byte) }},
		signers: map[signerID]*sync.Pool{},
	}, nil
}

// Verify returns the key that signed the request, or an *Error. The checks come
// in the order in which AWS makes them, so that a request with two faults gets
// the answer that its author knows.
func (v *Verifier) Verify(r *Request) (Key, error) {
	text := string(bytes.TrimSpace(r.Header.Peek("Authorization")))
	if !strings.HasPrefix(text, "AWS4-") {
		return Key{}, refuse(ErrMissing, "Request is missing Authentication Token")
	}
	sent := r.Header.Peek("X-Amz-Date")
	if len(sent) == 0 {
		sent = r.Header.Peek("Date")
	}
	a, err := parseAuthorization(text, len(sent) > 0)
	if err != nil {
		return Key{}, err
	}
	date, err := v.checkDate(sent)
	if err != nil {
		return Key{}, err
	}
	if err := v.checkSigned(r, a); err != nil {
		return Key{}, err
	}
	c, err := v.checkScope(a, date)
	if err != nil {
		return Key{}, err
	}
	key, ok := v.cfg.Keys.Lookup(c.keyID)
	if !ok {
		return Key{}, refuse(ErrUnknownKey, "The security token included in the request is invalid.")
	}
	if !v.matches(r, a, c, key, date) {
		return Key{}, refuse(ErrSignature, "The request signature we calculated does not match the signature you provided. "+
			"Check your AWS Secret Access Key and signing method. Consult the service documentation for details.")
	}
	return key, nil
}

type authorization struct{ algorithm, credential, signedHeaders, signature string }

// parseAuthorization reads the header. It names all that is missing at once.
func parseAuthorization(text string, dated bool) (authorization, error) {
	var a authorization
	var rest string
	a.algorithm, rest, _ = strings.Cut(text, " ")
	for part := range strings.SplitSeq(rest, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		name, value, ok := strings.Cut(part, "=")
		if !ok {
			return a, refuse(ErrIncomplete, fmt.Sprintf(
				"'%s' not a valid key=value pair (missing equal-sign) in Authorization header: '%s'.", part, text))
		}
		switch name {
		case "Credential":
			a.credential = value
		case "SignedHeaders":
			a.signedHeaders = value
		case "Signature":
			a.signature = value
		}
	}
	if dated && a.credential != "" && a.signature != "" && a.signedHeaders != "" {
		return a, nil
	}
	return a, refuse(ErrIncomplete, a.missing(dated)+"Authorization="+text)
}

func (a *authorization) missing(dated bool) string {
	var missing strings.Builder
	for _, p := range [...]struct{ name, value string }{
		{"Credential", a.credential}, {"Signature", a.signature}, {"SignedHeaders", a.signedHeaders},
	} {
		if p.value == "" {
			fmt.Fprintf(&missing, "Authorization header requires '%s' parameter. ", p.name)
		}
	}
	if !dated {
		missing.WriteString("Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. ")
	}
	return missing.String()
}

// sentDate is a request's time.
type sentDate struct {
	sent  string // as the request had it
	time  time.Time
	basic string // in ISO 8601 basic form
}

func parseDate(sent string) (*sentDate, error) {
	t, err := time.Parse(isoBasic, sent)
	if err == nil {
		return &sentDate{sent, t, sent}, nil
	}
	if t, err = time.Parse(time.RFC1123, sent); err != nil {
		return nil, refuse(ErrIncomplete, fmt.Sprintf(
			"Date must be in ISO-8601 'basic format'. Got '%s'. See http://en.wikipedia.org/wiki/ISO_8601", sent))
	}
	return &sentDate{sent, t, t.UTC().Format(isoBasic)}, nil
}

// checkDate returns the request's time in ISO 8601 basic form. Requests of one
// second have the same, so the last one is kept.
func (v *Verifier) checkDate(sent []byte) (string, error) {
	d := v.last.Load()
	if d == nil || d.sent != string(sent) {
		var err error
		if d, err = parseDate(string(sent)); err != nil {
			return "", err
		}
		v.last.Store(d)
	}
	t, text := d.time, d.basic
	now, skew := v.cfg.Now().UTC(), v.cfg.MaxSkew
	minutes := int(skew / time.Minute)
	if oldest := now.Add(-skew); t.Before(oldest) {
		return "", refuse(ErrSignature, fmt.Sprintf("Signature expired: %s is now earlier than %s (%s - %d min.)",
			text, oldest.Format(isoBasic), now.Format(isoBasic), minutes))
	}
	if newest := now.Add(skew); t.After(newest) {
		return "", refuse(ErrSignature, fmt.Sprintf("Signature not yet current: %s is still later than %s (%s + %d min.)",
			text, newest.Format(isoBasic), now.Format(isoBasic), minutes))
	}
	return text, nil
}

// checkSigned refuses a signature that leaves out what decides on the
// request's meaning: a copy of it could be sent to another host, or with
// another operation.
func (v *Verifier) checkSigned(r *Request, a authorization) error {
	if !isSigned(a.signedHeaders, "host") {
		return refuse(ErrSignature, "'Host' must be a 'SignedHeader' in the AWS Authorization.")
	}
	for _, name := range v.cfg.MustSign {
		if !isSigned(a.signedHeaders, name) && len(r.Header.Peek(name)) > 0 {
			return refuse(ErrSignature, fmt.Sprintf("'%s' must be a 'SignedHeader' in the AWS Authorization.", name))
		}
	}
	return nil
}

func isSigned(signed, name string) bool {
	for h := range strings.SplitSeq(signed, ";") {
		if strings.EqualFold(h, name) {
			return true
		}
	}
	return false
}

type credential struct{ keyID, date, region, service, scope string }

// parseCredential takes the five elements apart; end is the last of them.
func parseCredential(text string) (c credential, end string, ok bool) {
	if strings.Count(text, "/") != 4 {
		return c, "", false
	}
	c.keyID, c.scope, _ = strings.Cut(text, "/")
	rest := c.scope
	c.date, rest, _ = strings.Cut(rest, "/")
	c.region, rest, _ = strings.Cut(rest, "/")
	c.service, end, _ = strings.Cut(rest, "/")
	return c, end, true
}

func (v *Verifier) checkScope(a authorization, date string) (credential, error) {
	if a.algorithm != algorithm {
		return credential{}, refuse(ErrIncomplete, fmt.Sprintf("Unsupported AWS 'algorithm': '%s' (only %s for now). ",
			a.algorithm, algorithm))
	}
	c, end, ok := parseCredential(strings.TrimRight(a.credential, "/"))
	if !ok {
		return c, refuse(ErrIncomplete, fmt.Sprintf(
			"Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '%s'", a.credential))
	}
	if slices.Contains(v.cfg.Regions, c.region) && c.service == v.cfg.Service && end == terminator && c.date == date[:8] {
		return c, nil
	}
	return c, refuse(ErrSignature, v.wrongScope(c, end, date))
}

// wrongScope says all that is wrong with a credential's scope.
func (v *Verifier) wrongScope(c credential, end, date string) string {
	var wrong strings.Builder
	if !slices.Contains(v.cfg.Regions, c.region) {
		fmt.Fprintf(&wrong, "Credential should be scoped to a valid region. Here that is '%s', not '%s'. ",
			strings.Join(v.cfg.Regions, "' or '"), c.region)
	}
	if c.service != v.cfg.Service {
		fmt.Fprintf(&wrong, "Credential should be scoped to correct service: '%s'. ", v.cfg.Service)
	}
	if end != terminator {
		fmt.Fprintf(&wrong, "Credential should be scoped with a valid terminator: '%s', not '%s'. ", terminator, end)
	}
	if c.date != date[:8] {
		fmt.Fprintf(&wrong, "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: "+
			"'%s' != '%s', from '%s'. ", c.date, date[:8], date)
	}
	return wrong.String()
}

func (v *Verifier) matches(r *Request, a authorization, c credential, key Key, date string) bool {
	buf, ok := v.scratch.Get().(*[]byte)
	if !ok {
		return false
	}
	defer v.scratch.Put(buf)
	b := appendCanonical((*buf)[:0], r, a.signedHeaders)
	sum := sha256.Sum256(b)

	b = append(b[:0], algorithm...)
	b = append(b, '\n')
	b = append(b, date...)
	b = append(b, '\n')
	b = append(b, c.scope...)
	b = append(b, '\n')
	b = hex.AppendEncode(b, sum[:])

	pool := v.signer(key, c)
	h, ok := pool.Get().(hash.Hash)
	if !ok {
		return false
	}
	h.Reset()
	_, _ = h.Write(b) // hash.Hash never returns an error
	b = h.Sum(b[:0])
	pool.Put(h)
	mac := len(b)
	b = hex.AppendEncode(b, b[:mac])
	*buf = b
	return subtle.ConstantTimeCompare(b[mac:], []byte(a.signature)) == 1
}

// signer returns hashes keyed with the signing key of that day, region and service.
func (v *Verifier) signer(key Key, c credential) *sync.Pool {
	id := signerID{key.ID, c.date, c.region}
	v.mu.RLock()
	pool, ok := v.signers[id]
	v.mu.RUnlock()
	if ok {
		return pool
	}
	k := sum([]byte("AWS4"+key.Secret), c.date)
	k = sum(k, c.region)
	k = sum(k, c.service)
	k = sum(k, terminator)
	pool = &sync.Pool{New: func() any { return hmac.New(sha256.New, k) }}
	// The id's strings are parts of a request; the cache outlives it.
	id = signerID{key.ID, strings.Clone(c.date), strings.Clone(c.region)}
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.signers) >= maxSigners {
		clear(v.signers)
	}
	v.signers[id] = pool
	return pool
}

func sum(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	_, _ = h.Write([]byte(text))
	return h.Sum(nil)
}

// appendCanonical appends the canonical request.
func appendCanonical(b []byte, r *Request, signedHeaders string) []byte {
	b = append(b, r.Method...)
	b = append(b, '\n')
	b = appendPath(b, r.Path)
	b = append(b, '\n')
	b = appendQuery(b, r.Query)
	b = append(b, '\n')
	for name := range strings.SplitSeq(signedHeaders, ";") {
		b = append(b, name...)
		b = append(b, ':')
		b = appendValue(b, r.Header.Peek(name))
		b = append(b, '\n')
	}
	b = append(b, '\n')
	b = append(b, signedHeaders...)
	b = append(b, '\n')
	return hex.AppendEncode(b, r.BodyHash[:])
}

// appendPath escapes the path as it was sent: a signer escapes it twice.
func appendPath(b, path []byte) []byte {
	if len(path) == 0 {
		return append(b, '/')
	}
	return appendEscaped(b, path, true)
}

// appendValue appends a header's value without white space around it and with
// one space for every run of spaces within.
func appendValue(b, value []byte) []byte {
	space := false
	for _, c := range bytes.TrimSpace(value) {
		if c == ' ' {
			space = true
			continue
		}
		if space {
			b, space = append(b, ' '), false
		}
		b = append(b, c)
	}
	return b
}

// appendQuery appends the parameters, escaped in the one canonical way and sorted.
func appendQuery(b, query []byte) []byte {
	if len(query) == 0 {
		return b
	}
	type pair struct{ name, value []byte }
	var pairs []pair
	for part := range bytes.SplitSeq(query, []byte("&")) {
		if len(part) == 0 {
			continue
		}
		name, value, _ := bytes.Cut(part, []byte("="))
		pairs = append(pairs, pair{appendEscaped(nil, unescape(name), false), appendEscaped(nil, unescape(value), false)})
	}
	slices.SortFunc(pairs, func(p, q pair) int {
		if c := bytes.Compare(p.name, q.name); c != 0 {
			return c
		}
		return bytes.Compare(p.value, q.value)
	})
	for i, p := range pairs {
		if i > 0 {
			b = append(b, '&')
		}
		b = append(b, p.name...)
		b = append(b, '=')
		b = append(b, p.value...)
	}
	return b
}

// unescape resolves %XX. A percent sign without two digits stands for itself.
func unescape(s []byte) []byte {
	if bytes.IndexByte(s, '%') < 0 {
		return s
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			var one [1]byte
			if _, err := hex.Decode(one[:], s[i+1:i+3]); err == nil {
				out = append(out, one[0])
				i += 2
				continue
			}
		}
		out = append(out, s[i])
	}
	return out
}

func appendEscaped(b, s []byte, slashes bool) []byte {
	const digits = "0123456789ABCDEF"
	for _, c := range s {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9',
			c == '-', c == '.', c == '_', c == '~', c == '/' && slashes:
			b = append(b, c)
		default:
			b = append(b, '%', digits[c>>4], digits[c&15])
		}
	}
	return b
}
