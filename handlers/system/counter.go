package system

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers"
)

// CPUStat is the time all CPUs spent since boot. It is the call that is made most often, so it reads one line and
// allocates nothing but the result.
//
// Params:  none
// Result:  agentapi.CPUStat, clock ticks
// Source:  spec agent-core 4.1; proc(5) /proc/stat
func (s *Service) CPUStat(context.Context, handlers.NoParams) (agentapi.CPUStat, error) {
	var buf [256]byte
	data, err := s.stat.ReadInto(buf[:])
	if err != nil {
		return agentapi.CPUStat{}, err
	}
	line, _, _ := bytes.Cut(data, []byte("\n"))
	line, ok := bytes.CutPrefix(line, []byte("cpu "))
	var v [4]uint64
	for i := range v {
		line = bytes.TrimLeft(line, " ")
		n := 0
		for n < len(line) && line[n] >= '0' && line[n] <= '9' {
			v[i] = v[i]*10 + uint64(line[n]-'0')
			n++
		}
		ok = ok && n > 0
		line = line[n:]
	}
	if !ok {
		return agentapi.CPUStat{}, fmt.Errorf("/proc/stat does not start with the counters of all CPUs")
	}
	return agentapi.CPUStat{User: v[0], Nice: v[1], System: v[2], Idle: v[3]}, nil
}

// CPUInfo is /proc/cpuinfo as a list, one object per CPU, all values text.
//
// Params:  none
// Result:  list of {key: value}, as in the file; "" where the file gives no value
// Source:  spec agent-core 4.1
func (s *Service) CPUInfo(context.Context, handlers.NoParams) ([]map[string]string, error) {
	data, err := s.host.ReadFile("/proc/cpuinfo")
	if err != nil {
		return nil, err
	}
	return parseCPUInfo(string(data)), nil
}

// parseCPUInfo starts a new CPU when a key repeats: blank lines also part what is not a CPU on some architectures.
func parseCPUInfo(text string) []map[string]string {
	cpus := []map[string]string{}
	var cpu map[string]string
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(line, ":")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		if key == "" {
			continue
		}
		if _, repeats := cpu[key]; cpu == nil || repeats {
			cpu = map[string]string{}
			cpus = append(cpus, cpu)
		}
		cpu[key] = value
	}
	return cpus
}

// MemInfo is what the memory is used for.
//
// Params:  none
// Result:  agentapi.MemInfo, KiB (/proc/meminfo writes "kB" and means KiB)
// Source:  spec agent-core 4.1
func (s *Service) MemInfo(context.Context, handlers.NoParams) (agentapi.MemInfo, error) {
	var m agentapi.MemInfo
	data, err := s.host.ReadFile("/proc/meminfo")
	if err != nil {
		return m, err
	}
	fields := map[string]*uint64{
		"SwapTotal": &m.TotalSwap, "SwapFree": &m.AvailSwap, "MemTotal": &m.TotalReal, "MemFree": &m.TotalFree,
		"Shmem": &m.Shared, "Buffers": &m.Buffer, "Cached": &m.Cached,
	}
	for line := range bytes.Lines(data) {
		key, value, _ := strings.Cut(string(line), ":")
		into := fields[key]
		if into == nil {
			continue
		}
		number, _, _ := strings.Cut(strings.TrimSpace(value), " ")
		if *into, err = strconv.ParseUint(number, 10, 64); err != nil {
			return m, fmt.Errorf("/proc/meminfo: %s: %w", key, err)
		}
	}
	return m, nil
}

// LoadAverage is the load over 1, 5 and 15 minutes.
//
// Params:  none
// Result:  list of three numbers
// Source:  spec agent-core 4.1
func (s *Service) LoadAverage(context.Context, handlers.NoParams) ([3]agentapi.Float, error) {
	var load [3]agentapi.Float
	data, err := s.host.ReadFile("/proc/loadavg")
	if err != nil {
		return load, err
	}
	fields := strings.Fields(string(data))
	if len(fields) < len(load) {
		return load, fmt.Errorf("/proc/loadavg holds %d columns, want at least %d", len(fields), len(load))
	}
	for i := range load {
		v, err := strconv.ParseFloat(fields[i], 64)
		if err != nil {
			return load, fmt.Errorf("/proc/loadavg: %w", err)
		}
		load[i] = agentapi.Float(v)
	}
	return load, nil
}

// BlockDevices are the names of all block devices, RAM and loop devices too, in the kernel's order.
//
// Params:  none
// Result:  list of names without /dev
// Source:  spec agent-core 4.1
func (s *Service) BlockDevices(context.Context, handlers.NoParams) ([]string, error) {
	names := []string{}
	err := s.eachDisk(func(fields []string) { names = append(names, fields[2]) })
	return names, err
}

// DiskStats counts reads and writes of each block device since boot.
//
// Params:  none
// Result:  {device: agentapi.DiskStat}
// Source:  spec agent-core 4.1, D10; kernel Documentation/admin-guide/iostats.rst
func (s *Service) DiskStats(context.Context, handlers.NoParams) (map[string]agentapi.DiskStat, error) {
	stats := map[string]agentapi.DiskStat{}
	err := s.eachDisk(func(fields []string) {
		var columns [4]int // reads, sectors read, writes, sectors written
		switch {
		case len(fields) >= 14: // 18 columns since Linux 4.18, 20 since 5.5
			columns = [4]int{3, 5, 7, 9}
		case len(fields) == 7: // a partition on Linux before 2.6.25
			columns = [4]int{3, 4, 5, 6}
		default:
			return
		}
		var v [4]uint64
		for i, c := range columns {
			v[i], _ = strconv.ParseUint(fields[c], 10, 64)
		}
		stats[fields[2]] = agentapi.DiskStat{
			Read:  agentapi.DiskIO{Num: v[0], Sectors: v[1], Bytes: v[1] * 512},
			Write: agentapi.DiskIO{Num: v[2], Sectors: v[3], Bytes: v[3] * 512},
		}
	})
	return stats, err
}

func (s *Service) eachDisk(visit func(fields []string)) error {
	data, err := s.host.ReadFile("/proc/diskstats")
	if err != nil {
		return err
	}
	for line := range bytes.Lines(data) {
		if fields := strings.Fields(string(line)); len(fields) >= 3 {
			visit(fields)
		}
	}
	return nil
}

// NetStats counts what each network interface received and sent since it exists. The leaf values are strings.
//
// Params:  none
// Result:  {interface: agentapi.NetStat}
// Source:  spec agent-core 4.1; proc(5) /proc/net/dev
func (s *Service) NetStats(context.Context, handlers.NoParams) (map[string]agentapi.NetStat, error) {
	data, err := s.host.ReadFile("/proc/net/dev")
	if err != nil {
		return nil, err
	}
	stats := map[string]agentapi.NetStat{}
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		colon := strings.LastIndexByte(lines.Text(), ':') // an alias has a colon in its name
		if colon < 0 {
			continue
		}
		f := strings.Fields(lines.Text()[colon+1:])
		if len(f) < 11 {
			continue
		}
		stats[strings.TrimSpace(lines.Text()[:colon])] = agentapi.NetStat{
			Receive:  agentapi.NetIO{Bytes: f[0], Packets: f[1], Errors: f[2]},
			Transmit: agentapi.NetIO{Bytes: f[8], Packets: f[9], Errors: f[10]},
		}
	}
	return stats, lines.Err()
}
