package bench

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
)

// FuzzParsePlain: whatever is taken for a plain answer is read so by fasthttp too.
func FuzzParsePlain(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nx-amz-crc32: 2745614147\r\n\r\n{}",
		"HTTP/1.1 200 OK\ncontent-length:2\n\n{}",
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}",
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 1\r\n\r\n{}",
		"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n{}",
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n",
		"HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\n{}",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		head, length, ok := parsePlain(b)
		if !ok || length > len(b)-head {
			return
		}
		var r fasthttp.Response
		if err := r.ReadLimitBody(bufio.NewReader(bytes.NewReader(b)), maxReply); err != nil {
			t.Skip("fasthttp is stricter: ", err)
		}
		if r.StatusCode() != fasthttp.StatusOK || !bytes.Equal(r.Body(), b[head:head+length]) {
			t.Errorf("took body %q out of %q; fasthttp has status %d, body %q", b[head:head+length], b, r.StatusCode(), r.Body())
		}
	})
}

func TestParsePlainTakesWhatNearlyAllAnswersAre(t *testing.T) {
	const head, body = "HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.0\r\ncontent-length: 2\r\n\r\n", "{}"
	if h, n, ok := parsePlain([]byte(head + body)); !ok || h != len(head) || n != len(body) {
		t.Errorf("parsePlain = %d, %d, %v; want %d, %d, true", h, n, ok, len(head), len(body))
	}
	for _, s := range []string{
		"", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n", "HTTP/1.1 200 OK\r\nDate: now\r\n\r\n{}",
		"HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\n{}",
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nconnection: close\r\n\r\n{}",
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\ntransfer-encoding: chunked\r\n\r\n{}",
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
		"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n{}",
	} {
		if _, _, ok := parsePlain([]byte(s)); ok {
			t.Errorf("parsePlain took %q for a plain answer", s)
		}
	}
}

// connected gives both ends of a connection, the first as the load has it.
func connected(t *testing.T) (client, server net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dialled, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if server, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	if client, err = paired(dialled); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = errors.Join(client.Close(), server.Close(), ln.Close()) })
	return client, server
}

// TestPairedConnSendsMoreThanSocketsHold: the request goes out in pieces, the
// answer comes in pieces, several times over.
func TestPairedConnSendsMoreThanSocketsHold(t *testing.T) {
	client, server := connected(t)
	request := bytes.Repeat([]byte("0123456789abcdef"), 1<<20) // 16 MiB
	const rounds = 2
	served := make(chan error, 1)
	go func() {
		buf := make([]byte, len(request))
		for range rounds {
			if _, err := io.ReadFull(server, buf); err != nil {
				served <- err
				return
			}
			if _, err := server.Write(buf[:1<<20]); err != nil {
				served <- err
				return
			}
		}
		served <- nil
	}()
	answer := make([]byte, 1<<20)
	for range rounds {
		if _, err := client.Write(request); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(client, answer); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(answer, request[:len(answer)]) {
			t.Fatal("another answer came than was sent")
		}
	}
	if err := <-served; err != nil {
		t.Fatal(err)
	}
}

func TestPairedConnEnds(t *testing.T) {
	request, answer := []byte("request"), make([]byte, 16)
	t.Run("peer", func(t *testing.T) {
		client, server := connected(t)
		_ = server.Close()
		_, _ = client.Write(request)
		if n, err := client.Read(answer); err == nil {
			t.Errorf("read %d bytes from a peer that is gone; want an error", n)
		}
	})
	t.Run("peer after the request", func(t *testing.T) {
		client, server := connected(t)
		go func() {
			_, _ = io.ReadFull(server, make([]byte, len(request)))
			_ = server.Close()
		}()
		_, _ = client.Write(request)
		if _, err := client.Read(answer); !errors.Is(err, io.EOF) {
			t.Errorf("read: %v; want EOF", err)
		}
	})
	t.Run("deadline", func(t *testing.T) {
		client, _ := connected(t)
		if err := client.SetDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		_, _ = client.Write(request)
		if _, err := client.Read(answer); kind(err) != "timeout" || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read: %v, of kind %q; want a timeout", err, kind(err))
		}
	})
	t.Run("close", func(t *testing.T) {
		client, server := connected(t)
		go func() {
			_, _ = io.ReadFull(server, make([]byte, len(request)))
			_ = client.Close()
		}()
		_, _ = client.Write(request)
		if _, err := client.Read(answer); !errors.Is(err, net.ErrClosed) {
			t.Errorf("read: %v; want %v", err, net.ErrClosed)
		}
	})
}
