package cli

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
)

// TestSignalRegion: a process that is no region is left alone, whatever number a
// region elsewhere may have.
func TestSignalRegion(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only where /proc says what a process is")
	}
	if err := signalRegion(os.Getpid(), syscall.SIGKILL); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("this test: %v", err)
	}
	// A shell that waits for its input, which never comes, has a region's arguments.
	region := exec.CommandContext(t.Context(), "/bin/sh", "-c", "read x", "region", "run", "oregon")
	input, err := region.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = input.Close() }()
	if err := region.Start(); err != nil {
		t.Fatal(err)
	}
	if err := signalRegion(region.Process.Pid, syscall.SIGKILL); err != nil {
		t.Errorf("a region: %v", err)
	}
	err = region.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != -1 {
		t.Errorf("it ended with %v; want it killed", err)
	}
	if err := signalRegion(region.Process.Pid, syscall.SIGKILL); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("a region that has ended: %v", err)
	}
}
