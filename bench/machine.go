//go:build linux

package main

import (
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// A machine is where and with what something was measured.
type machine struct {
	Go, Kernel, CPU string
	CPUs            int
	Load            string // at the beginning
	NoFile          uint64
	Versions        map[string]string `json:",omitempty"`
}

func thisMachine() machine {
	m := machine{Go: runtime.Version(), CPUs: runtime.NumCPU(), CPU: runtime.GOARCH}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.Kernel = unix.ByteSliceToString(u.Release[:])
		if i := strings.IndexByte(m.Kernel, '-'); i > 0 {
			m.Kernel = m.Kernel[:i]
		}
	}
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if name, value, found := strings.Cut(line, ":"); found && strings.TrimSpace(name) == "model name" {
				m.CPU = strings.TrimSpace(value)
				break
			}
		}
	}
	if b, err := os.ReadFile("/proc/loadavg"); err == nil {
		if f := strings.Fields(string(b)); len(f) > 0 {
			m.Load = f[0]
		}
	}
	var r unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &r) == nil {
		m.NoFile = r.Cur
	}
	m.Versions = make(map[string]string)
	for _, s := range allSubjects {
		if v := s.version(); v != "" {
			m.Versions[s.module] = v
		}
	}
	return m
}

// versions are those of the peers that were built in.
func (m machine) versions() string {
	var v []string
	for _, module := range slices.Sorted(maps.Keys(m.Versions)) {
		v = append(v, strings.TrimPrefix(module, "github.com/")+" "+m.Versions[module])
	}
	return strings.Join(v, ", ")
}

func (m machine) String() string {
	return fmt.Sprintf("%s, Linux %s, %d × %s, load average %s at the start", m.Go, m.Kernel, m.CPUs, m.CPU, m.Load)
}
