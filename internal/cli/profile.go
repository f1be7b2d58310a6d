package cli

import (
	"errors"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strconv"
)

// profileVar names the directory for CPU profiles of this process and of those that
// it starts, one file each, as `make profile` wants them.
const profileVar = "ANTIPODE_PROFILE"

// profile begins a CPU profile if one is wanted, and returns what ends it.
func (a *app) profile() (end func()) {
	dir := a.getenv(profileVar)
	if dir == "" {
		return func() {}
	}
	file, err := os.Create(filepath.Join(dir, strconv.Itoa(os.Getpid())+".pprof"))
	if err == nil {
		err = pprof.StartCPUProfile(file)
	}
	if err != nil {
		a.note("no profile: %v; %s has to name a directory that can be written to", err, profileVar)
		return func() {}
	}
	return func() {
		pprof.StopCPUProfile()
		if err := errors.Join(file.Sync(), file.Close()); err != nil {
			a.note("profile is incomplete: %v", err)
		}
	}
}
