// Package clients_test runs antipode as its users do: one binary, `antipode up`, and
// clients that others wrote. The checks are the check_*.py files beside it; each runs
// alone too, against regions that run already (see system.py).
package clients_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// checks lists the files by the system that they run against, in their order, each
// with where to look for ports: below those that outgoing connections get (32768 on
// Linux). The checks that kill regions come last: they end them when they are done.
func checks() map[int][]string {
	return map[int][]string{
		21000: {"modes", "crash"},
		27000: {"collisions", "bulk", "api", "auth", "input", "failover"},
	}
}

func TestClients(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	for _, need := range [][]string{{"python3", "-c", "import boto3"}, {"aws", "--version"}} {
		if out, err := exec.CommandContext(t.Context(), need[0], need[1:]...).CombinedOutput(); err != nil {
			t.Skipf("SKIPPED, not checked: `%s` does not work here (%v): %s", strings.Join(need, " "), err, bytes.TrimSpace(out))
		}
	}
	// go test can't see that this test depends on the program, and would show an old
	// result; what a test lists, it sees.
	for _, dir := range []string{"../../cmd", "../../internal"} {
		if err := filepath.WalkDir(dir, func(_ string, _ fs.DirEntry, err error) error { return err }); err != nil {
			t.Fatal(err)
		}
	}
	binary := filepath.Join(t.TempDir(), "antipode")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "../../cmd/antipode").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	for ports, names := range checks() {
		t.Run(strings.Join(names, ","), func(t *testing.T) {
			t.Parallel()
			s := start(t, binary, ports)
			for _, name := range names {
				t.Run(name, func(t *testing.T) { s.check(t, name) })
			}
			if t.Failed() {
				s.showLogs(t)
			}
		})
	}
}

// system is what `up` started.
type system struct{ binary, data, log string }

func (s *system) check(t *testing.T, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "python3", "check_"+name+".py")
	cmd.Env = append(os.Environ(), "ANTIPODE="+s.binary, "ANTIPODE_DATA="+s.data, "ANTIPODE_UP_LOG="+s.log, "PYTHONDONTWRITEBYTECODE=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("check_%s.py: %v\n%s", name, err, out)
		return
	}
	t.Logf("%s", out)
}

func (s *system) showLogs(t *testing.T) {
	t.Helper()
	logs, _ := filepath.Glob(filepath.Join(s.data, "*", "log"))
	for _, path := range append(logs, s.log) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Errorf("read log: %v", err)
			continue
		}
		lines := strings.Split(string(bytes.TrimSpace(text)), "\n")
		t.Logf("the end of %s:\n%s", path, strings.Join(lines[max(0, len(lines)-25):], "\n"))
	}
}

// start runs `up` on free ports until the test ends.
func start(t *testing.T, binary string, ports int) *system {
	t.Helper()
	dir := t.TempDir()
	s := &system{binary: binary, data: filepath.Join(dir, "data"), log: filepath.Join(dir, "up.log")}
	log, err := os.Create(s.log)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	up := exec.CommandContext(context.WithoutCancel(t.Context()), s.binary, "up", "-f", "antipode.yaml", "--data", s.data, "--base-port", basePort(t, ports))
	up.Stdout, up.Stderr = log, log
	if err := up.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- up.Wait() }()
	t.Cleanup(func() {
		_ = up.Process.Signal(syscall.SIGINT) // fails when it has ended, which is reported below
		if err := <-ended; err != nil {
			t.Errorf("`up` did not end well: %v", err)
		}
	})
	deadline := time.After(time.Minute)
	for !s.said(t, "Ctrl-C stops everything") {
		select {
		case err := <-ended:
			ended <- err
			s.showLogs(t)
			t.Fatalf("`up` ended before it was ready: %v", err)
		case <-deadline:
			s.showLogs(t)
			t.Fatal("`up` is not ready after a minute")
		case <-time.After(100 * time.Millisecond):
		}
	}
	return s
}

func (s *system) said(t *testing.T, text string) bool {
	t.Helper()
	f, err := os.Open(s.log)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if strings.Contains(lines.Text(), text) {
			return true
		}
	}
	return false
}

// basePort finds one, from first on, from which all ports of the three regions are free.
func basePort(t *testing.T, first int) string {
	t.Helper()
	for base := first; base < first+5000; base += 500 {
		if allFree(t.Context(), base) {
			return fmt.Sprint(base)
		}
	}
	t.Fatal("no free ports")
	return ""
}

func allFree(ctx context.Context, base int) bool {
	for region := range 3 {
		for port := range 3 {
			l, err := new(net.ListenConfig).Listen(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", base+100*region+port))
			if err != nil {
				return false
			}
			_ = l.Close() // it was only tried
		}
	}
	return true
}
