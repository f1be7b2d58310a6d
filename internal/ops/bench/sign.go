package bench

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"time"
)

const (
	contentType   = "application/x-amz-json-1.0"
	service       = "dynamodb"
	algorithm     = "AWS4-HMAC-SHA256"
	signedHeaders = "content-type;host;x-amz-date;x-amz-target"
	dateFormat    = "20060102T150405Z"
)

// signer signs POST requests to / with AWS Signature Version 4. What changes
// once a second (the date) or once a day (the key) is kept, which leaves two
// hashes and one HMAC per request. It belongs to one goroutine.
type signer struct {
	accessKey, secret, region, host string

	second          int64
	date            []byte // of that second
	scope           []byte // DAY/REGION/dynamodb/aws4_request
	mac             hash.Hash
	canonical, text []byte
	sum             []byte
}

func newSigner(e Endpoint, host string) *signer {
	return &signer{accessKey: e.AccessKey, secret: e.Secret, region: e.SigningRegion, host: host}
}

// at sets the time of the signatures that follow.
func (s *signer) at(now time.Time) {
	if sec := now.Unix(); s.mac == nil || sec != s.second {
		s.second = sec
		s.date = now.UTC().AppendFormat(s.date[:0], dateFormat)
	}
	if s.mac != nil && bytes.HasPrefix(s.scope, s.date[:8]) {
		return
	}
	key := []byte("AWS4" + s.secret)
	s.scope = s.scope[:0]
	for _, part := range []string{string(s.date[:8]), s.region, service, "aws4_request"} {
		mac := hmac.New(sha256.New, key)
		_, _ = mac.Write([]byte(part)) // hash.Hash never returns an error
		key = mac.Sum(nil)
		s.scope = append(append(s.scope, part...), '/')
	}
	s.scope = s.scope[:len(s.scope)-1]
	s.mac = hmac.New(sha256.New, key)
}

// appendHeaders appends the headers X-Amz-Date and Authorization for a request
// with this target and body.
func (s *signer) appendHeaders(dst []byte, target string, body []byte) []byte {
	hashed := sha256.Sum256(body)
	c := append(s.canonical[:0], "POST\n/\n\ncontent-type:"+contentType+"\nhost:"...)
	c = append(c, s.host...)
	c = append(append(c, "\nx-amz-date:"...), s.date...)
	c = append(append(c, "\nx-amz-target:"...), target...)
	c = append(c, "\n\n"+signedHeaders+"\n"...)
	c = hex.AppendEncode(c, hashed[:])
	s.canonical = c

	hashed = sha256.Sum256(c)
	t := append(append(s.text[:0], algorithm+"\n"...), s.date...)
	t = append(append(append(t, '\n'), s.scope...), '\n')
	t = hex.AppendEncode(t, hashed[:])
	s.text = t

	s.mac.Reset()
	_, _ = s.mac.Write(t) // hash.Hash never returns an error
	s.sum = s.mac.Sum(s.sum[:0])

	dst = append(append(dst, "X-Amz-Date: "...), s.date...)
	dst = append(append(dst, "\r\nAuthorization: "+algorithm+" Credential="...), s.accessKey...)
	dst = append(append(append(dst, '/'), s.scope...), ", SignedHeaders="+signedHeaders+", Signature="...)
	return append(hex.AppendEncode(dst, s.sum), "\r\n"...)
}
