package ship

import (
	"strings"
	"testing"
	"time"

	"github.com/antipode-io/antipode"
)

// TestNear checks that what is sent to a peer is compressed, unless the peer is
// known to be near.
func TestNear(t *testing.T) {
	for rtt, want := range map[time.Duration]byte{
		0: flagZstd, 100 * time.Microsecond: 0, nearRTT: flagZstd, 200 * time.Millisecond: flagZstd,
	} {
		a := newMember(t, "oregon", func(c *Config) { c.RTT = func(antipode.Region) time.Duration { return rtt } })
		b := newMember(t, "mumbai", nil)
		a.write(0, strings.Repeat("x", minCompress))
		w := connect(t, a, b, 0)
		frame := w.next()
		if frame[1] != want {
			t.Errorf("%v away: a frame of %d bytes has flags %d, want %d", rtt, len(frame), frame[1], want)
		}
		w.deliver(frame)
		if b.count() != 1 {
			t.Errorf("%v away: %d entries arrived, want 1", rtt, b.count())
		}
		w.close()
	}
}

// TestPause checks that pauses between frames grow with the stream, shrink again,
// and stay short where writes wait for what is sent.
func TestPause(t *testing.T) {
	at := func(bytesPerMilli, frames int, length time.Duration, prompt bool) time.Duration {
		for range frames {
			length = nextPause(length, bytesPerMilli*int(length/time.Millisecond), func() bool { return prompt })
		}
		return length
	}
	for _, c := range []struct {
		rate   int
		from   time.Duration
		prompt bool
		want   time.Duration
	}{
		{busyBytes - 1, pauseAfterFrame, false, pauseAfterFrame},
		{busyBytes - 1, pauseWhenBusy, false, pauseAfterFrame},
		{2 * busyBytes, pauseAfterFrame, false, pauseWhenBusy},
		{2 * busyBytes, pauseAfterFrame, true, pausePromptly},
		{2 * busyBytes, pauseWhenBusy, true, pausePromptly},
	} {
		if got := at(c.rate, 10, c.from, c.prompt); got != c.want {
			t.Errorf("%d bytes a millisecond, prompt %v, from %v: %v, want %v", c.rate, c.prompt, c.from, got, c.want)
		}
	}
}
