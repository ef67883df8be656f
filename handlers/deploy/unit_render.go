package deploy

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers/deploy/platform"
)

// This file is pure: parameters in, text of units and of their environment out.

// Where a release and the app's shared directory lie for what runs of it, whatever the host and the release are: what a
// build writes down (a virtual environment's paths, say) holds wherever the release is fetched to.
const (
	insideHome   = "/home/application"
	insideDir    = insideHome + "/current" // TSURU_APPDIR
	insideShared = insideHome + "/shared"
)

// Names of what a unit is made of. A dash in a slice's name means "below", so an app's dashes are written differently.
func unitSlice(app, unit string) string {
	return "reeve-" + strings.ReplaceAll(app, "-", "_") + "_" + unit + ".slice"
}

func unitService(app, unit, process string) string {
	return "reeve-" + app + "-" + unit + "-" + process + ".service"
}

// stopLimit bounds how long systemd itself waits for a process to end; stop_unit may kill sooner.
const stopLimit = 60 // s

// Systemd starts a process that ended again after a second; when that happened burstLimit times within burstWindow it gives
// up, and the agent goes on with growing pauses (unit_watch.go): systemd itself can make pauses grow from version 254 on.
const (
	burstLimit  = 5
	burstWindow = 60 // s
)

// sandbox is what a process of an app may touch, as properties of its unit: its release, the shared directory, /tmp of its
// own and the network. release is a directory of the host; writable is for builds.
func sandbox(a app, release string, writable bool, binds ...string) []string {
	bind := "BindReadOnlyPaths="
	if writable {
		bind = "BindPaths="
	}
	lines := []string{
		"User=" + unixUser(a.App),
		"Group=" + unixUser(a.App),
		"WorkingDirectory=" + insideDir,
		"UMask=0027",
		"NoNewPrivileges=yes",
		"CapabilityBoundingSet=",
		"ProtectSystem=strict",
		"ProtectHome=tmpfs",
		"TemporaryFileSystem=" + a.Base + ":ro",
		bind + release + ":" + insideDir,
		"BindPaths=" + a.shared() + ":" + insideShared,
	}
	lines = append(lines, binds...)
	return append(lines,
		"PrivateTmp=yes",
		"PrivateDevices=yes",
		"ProtectKernelTunables=yes",
		"ProtectKernelModules=yes",
		"ProtectKernelLogs=yes",
		"ProtectControlGroups=yes",
		"ProtectClock=yes",
		"ProtectHostname=yes",
		"ProtectProc=invisible",
		"RestrictNamespaces=yes",
		"RestrictRealtime=yes",
		"RestrictSUIDSGID=yes",
		"RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
		"LockPersonality=yes",
		"KeyringMode=private",
		"SystemCallArchitectures=native",
		"SystemCallFilter=@system-service",
		"SystemCallErrorNumber=EPERM",
		"LimitCORE=0",
	)
}

// renderService is the unit file of one process.
func renderService(a app, p agentapi.StartUnitParams, process agentapi.Process, envFile string) ([]byte, error) {
	exec, err := execLine(process.Command)
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("# Written by reeve-agent; changes are lost.")
	line("[Unit]")
	line("Description=%s of app %s, unit %s, release %d", process.Name, p.App, p.Unit, p.Release)
	line("Wants=%s", limitsUnit)
	line("After=network.target local-fs.target %s", limitsUnit)
	line("RequiresMountsFor=%s", a.home())
	line("ConditionPathIsDirectory=%s", a.release(p.Release))
	line("StartLimitIntervalSec=%d", burstWindow)
	line("StartLimitBurst=%d", burstLimit)
	line("")
	line("[Service]")
	line("Type=exec")
	line("ExecStart=%s", exec)
	line("EnvironmentFile=%s", envFile)
	line("Restart=always")
	line("RestartSec=1")
	line("TimeoutStopSec=%d", stopLimit)
	line("OOMPolicy=continue")
	line("Slice=%s", unitSlice(p.App, p.Unit))
	line("SyslogIdentifier=%s.%s", p.App, process.Name)
	for _, field := range [][2]string{{fieldApp, p.App}, {fieldUnit, p.Unit}, {fieldProcess, process.Name}} {
		line("LogExtraFields=%s=%s", field[0], field[1])
	}
	for _, property := range sandbox(a, a.release(p.Release), false) {
		line("%s", property)
	}
	line("")
	line("[Install]")
	line("WantedBy=multi-user.target")
	return []byte(b.String()), nil
}

// limitsUnit comes with the agent's package, and makes limits work in containers that hide them from systemd.
const limitsUnit = "reeve-limits.service"

// maxTasks bounds the threads of a unit.
const maxTasks = 1024

// renderSlice is the unit file of the limits that all processes of a unit share.
func renderSlice(p agentapi.StartUnitParams) []byte {
	return []byte("# Written by reeve-agent; changes are lost.\n[Unit]\nDescription=Limits of app " + p.App + ", unit " + p.Unit + "\n\n[Slice]\n" +
		strings.Join(limitLines(p.MemoryMB, p.SwapMB, p.CPUPercent), "\n") + "\n")
}

func limitLines(memoryMB, swapMB, cpuPercent int) []string {
	lines := []string{"TasksMax=" + strconv.Itoa(maxTasks)}
	if memoryMB > 0 {
		lines = append(lines, fmt.Sprintf("MemoryMax=%dM", memoryMB), fmt.Sprintf("MemorySwapMax=%dM", swapMB))
	}
	if cpuPercent > 0 {
		lines = append(lines, fmt.Sprintf("CPUQuota=%d%%", cpuPercent))
	}
	return lines
}

// unitEnvName is wider than envName: nothing but systemd and the program reads it.
var unitEnvName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,127}$`)

// checkUnitEnv wants an environment that systemd passes on whole: it drops variables with control characters.
func checkUnitEnv(env map[string]agentapi.Secret) error {
	total := 0
	for name, value := range env {
		switch {
		case !unitEnvName.MatchString(name):
			return invalid("an environment name is made of letters, digits and _, not %.80q", name)
		case !utf8.ValidString(string(value)):
			return invalid("the value of %s is not UTF-8", name)
		case strings.IndexFunc(string(value), func(r rune) bool { return r < ' ' && r != '\t' && r != '\n' || r == 0x7f }) >= 0:
			return invalid("the value of %s holds a control character", name)
		case len(value) > maxEnvValue:
			return invalid("the value of %s is longer than %d bytes", name, maxEnvValue)
		}
		total += len(name) + len(value)
	}
	if total > maxEnvTotal {
		return invalid("the environment is larger than %d bytes", maxEnvTotal)
	}
	return nil
}

var envFileEscapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "$", `\$`, "`", "\\`")

// renderEnvFile is a checked environment as systemd reads it (systemd.exec(5), EnvironmentFile=), sorted by name.
func renderEnvFile(env map[string]agentapi.Secret) []byte {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(env)) {
		b.WriteString(name + `="` + envFileEscapes.Replace(string(env[name])) + "\"\n")
	}
	return []byte(b.String())
}

// fixedEnv is what every process of an app finds, whoever asks for it.
func fixedEnv(a app, port int) map[string]agentapi.Secret {
	env := map[string]agentapi.Secret{"TSURU_APPDIR": insideDir}
	if port > 0 {
		env["PORT"], env["port"] = agentapi.Secret(strconv.Itoa(port)), agentapi.Secret(strconv.Itoa(port))
	}
	return env
}

// defaultEnv is what an app's owner may set otherwise.
func defaultEnv(a app) map[string]agentapi.Secret {
	p, _ := platform.Get(a.Platform)
	env := map[string]agentapi.Secret{"HOME": insideHome, "LANG": "C.UTF-8", "PATH": agentapi.Secret(searchPath(p))}
	maps.Copy(env, p.Env)
	return env
}

// processEnv is the whole environment of a process of an app.
func processEnv(a app, own map[string]agentapi.Secret, port int) map[string]agentapi.Secret {
	env := defaultEnv(a)
	maps.Copy(env, a.Env)
	maps.Copy(env, own)
	maps.Copy(env, fixedEnv(a, port))
	return env
}
