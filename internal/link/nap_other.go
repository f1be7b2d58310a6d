//go:build !linux

package link

import "time"

// napper waits for short whiles.
type napper struct{}

func newNapper() *napper { return &napper{} }

// nap sleeps for a short while that nothing interrupts.
func (*napper) nap(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	<-timer.C
}

func (*napper) close() {}
