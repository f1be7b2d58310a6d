package dynamo

import (
	"net"
	"testing"
	"time"
)

// deadlines is a connection that notes which deadlines were in effect.
type deadlines struct {
	net.Conn
	read, write time.Time
	moved       int
}

func (d *deadlines) SetReadDeadline(t time.Time) error {
	d.read, d.moved = t, d.moved+1
	return nil
}

func (d *deadlines) SetWriteDeadline(t time.Time) error {
	d.write, d.moved = t, d.moved+1
	return nil
}

func (d *deadlines) Read(b []byte) (int, error)  { return len(b), nil }
func (d *deadlines) Write(b []byte) (int, error) { return len(b), nil }

// TestPatientConn checks that whatever waits has about the deadline that was asked
// for, and that a busy connection hardly ever moves one.
func TestPatientConn(t *testing.T) {
	inner := &deadlines{}
	conn := &patientConn{Conn: inner}
	now := time.Unix(1_000_000, 0)
	near := func(what string, got, want time.Time) {
		t.Helper()
		if off := got.Sub(want); got.IsZero() != want.IsZero() || off <= -deadlineSlack || off >= deadlineSlack {
			t.Errorf("%s waits until %v, want %v", what, got, want)
		}
	}
	do := func(read bool, want time.Time) {
		t.Helper()
		var err error
		if read {
			_, err = conn.Read(make([]byte, 1))
			near("a read", inner.read, want)
		} else {
			_, err = conn.Write(make([]byte, 1))
			near("a write", inner.write, want)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for range 1000 { // as the server asks, for requests that come whole
		now = now.Add(10 * time.Millisecond)
		_ = conn.SetReadDeadline(now.Add(120 * time.Second))
		do(true, now.Add(120*time.Second))
		_ = conn.SetReadDeadline(now.Add(30 * time.Second))
		_ = conn.SetWriteDeadline(now.Add(30 * time.Second))
		do(false, now.Add(30*time.Second))
	}
	if inner.moved > 25 {
		t.Errorf("deadlines were moved %d times in 1000 requests of 10 s, want twice a second at most", inner.moved)
	}
	_ = conn.SetReadDeadline(now.Add(30 * time.Second)) // one that does not
	do(true, now.Add(30*time.Second))
	_ = conn.SetDeadline(time.Time{})
	do(true, time.Time{})
	do(false, time.Time{})
	_ = conn.SetDeadline(now)
	do(true, now)
	do(false, now)
}
