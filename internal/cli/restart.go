package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/antipode-io/antipode"
)

// restartGrace is how long `up` may take to heed a request. It looks twice a second.
const restartGrace = 5 * time.Second

// restart has a region that died started again: by the `up` that runs the others,
// so that it ends with them, or, where there is none or it does not heed, as a
// process of its own that outlives this one. It returns when the process has been
// started, which is before the region serves.
func (in *install) restart(ctx context.Context, name string, region antipode.Region) error {
	if in.upRuns() {
		heeded, err := in.askRestart(ctx, region)
		if heeded || err != nil {
			return err
		}
	}
	return in.startDetached(ctx, name, region)
}

// upRuns reports whether an `up` holds the data directory.
func (in *install) upRuns() bool {
	f, err := os.Open(filepath.Join(in.dir, lockFile))
	if err != nil {
		return false
	}
	defer f.Close() //nolint:errcheck // opened for reading; a lock got here goes with it
	return errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
}

// askRestart asks `up`, and withdraws the request when nobody heeds it.
func (in *install) askRestart(ctx context.Context, region antipode.Region) (heeded bool, err error) {
	path := in.path(region, restartFile)
	if err := writeFile(path, nil, 0o600); err != nil {
		return false, err
	}
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	late := time.NewTimer(restartGrace)
	defer late.Stop()
	for {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return true, nil
		}
		select {
		case <-tick.C:
			continue
		case <-late.C:
		case <-ctx.Done():
			err = ctx.Err()
		}
		if gone := os.Remove(path); errors.Is(gone, fs.ErrNotExist) {
			return true, nil // heeded just now
		}
		return false, err
	}
}

// startDetached runs a region as a process of its own.
func (in *install) startDetached(ctx context.Context, name string, region antipode.Region) error {
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	out, err := openLog(in.path(region, logFile))
	if err != nil {
		return fmt.Errorf("log of region %s: %w", region, err)
	}
	defer out.Close() //nolint:errcheck // the region has its own handle
	cmd := exec.CommandContext(context.WithoutCancel(ctx), exe, "region", "run", string(region), "--data", in.dir)
	cmd.Args[0] = name
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // a Ctrl-C in this terminal is not meant for it
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start region %s: %w", region, err)
	}
	go func() { _ = cmd.Wait() }() // so that it leaves no zombie, should it end before this process
	return nil
}
