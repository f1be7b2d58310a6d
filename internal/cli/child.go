package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/antipode-io/antipode"
)

const (
	stopGrace  = 20 * time.Second // from SIGTERM to SIGKILL
	maxLogSize = 8 << 20          // a region's log is put aside at its start when it is larger
	tailLines  = 8
)

// child is a region that this process started.
type child struct {
	region antipode.Region
	cmd    *exec.Cmd
	log    string        // path of its output
	exited chan struct{} // closed when it has ended
	err    error         // how; valid once exited is closed
}

// nursery starts children. Linux ends a child when the thread that started it
// ends, so all are started from one thread that lasts as long as the nursery.
type nursery struct {
	requests chan func()
	wg       sync.WaitGroup
}

func newNursery() *nursery {
	n := &nursery{requests: make(chan func())}
	n.wg.Go(func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		for f := range n.requests {
			f()
		}
	})
	return n
}

// close ends the thread. Children that still run are told to stop.
func (n *nursery) close() {
	close(n.requests)
	n.wg.Wait()
}

// start runs this program as a region.
func (n *nursery) start(ctx context.Context, name string, region antipode.Region, log string, args []string) (*child, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	out, err := openLog(log)
	if err != nil {
		return nil, fmt.Errorf("log of region %s: %w", region, err)
	}
	defer out.Close() //nolint:errcheck // the child has its own handle
	// The context's end must not kill it: it is stopped in an orderly way.
	cmd := exec.CommandContext(context.WithoutCancel(ctx), exe, args...)
	cmd.Args[0] = name
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = childAttributes()
	c := &child{region: region, cmd: cmd, log: log, exited: make(chan struct{})}
	started := make(chan error)
	n.requests <- func() { started <- cmd.Start() }
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start region %s: %w", region, err)
	}
	go func() { // ends with the child, which stop waits for
		c.err = cmd.Wait()
		close(c.exited)
	}()
	return c, nil
}

func openLog(path string) (*os.File, error) {
	if info, err := os.Stat(path); err == nil && info.Size() > maxLogSize {
		if err := os.Rename(path, path+".1"); err != nil {
			return nil, err
		}
	}
	return os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
}

func (c *child) running() bool {
	select {
	case <-c.exited:
		return false
	default:
		return true
	}
}

// death says how it ended.
func (c *child) death() string {
	var exit *exec.ExitError
	if !errors.As(c.err, &exit) {
		if c.err == nil {
			return "ended by itself"
		}
		return c.err.Error()
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return "was killed by " + unix.SignalName(status.Signal())
	}
	return fmt.Sprintf("failed (exit code %d)", exit.ExitCode())
}

// stopAll ends children in an orderly way, and by force after a grace time or
// when hurry is closed. It reports those that were forced.
func stopAll(children []*child, hurry <-chan struct{}) (forced []antipode.Region) {
	for _, c := range children {
		_ = c.cmd.Process.Signal(syscall.SIGTERM) // fails when it has ended, which is the aim
	}
	timer := time.NewTimer(stopGrace)
	defer timer.Stop()
	over := make(chan struct{})
	go func() {
		defer close(over)
		for _, c := range children {
			<-c.exited
		}
	}()
	select {
	case <-over:
		return nil
	case <-timer.C:
	case <-hurry:
	}
	for _, c := range children {
		if c.running() {
			forced = append(forced, c.region)
			_ = c.cmd.Process.Kill()
		}
	}
	<-over
	return forced
}

// tail returns the last lines of a file, from offset on.
func tail(path string, offset int64) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close() //nolint:errcheck // opened for reading
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return ""
	}
	text, err := io.ReadAll(io.LimitReader(f, maxLogSize))
	if err != nil {
		return ""
	}
	lines := strings.Split(string(bytes.TrimSpace(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-tailLines):], "\n")
}

func fileSize(path string) int64 {
	info, err := os.Stat(path)
	if err != nil || info.Size() > maxLogSize { // it will be put aside
		return 0
	}
	return info.Size()
}
