package deploy

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/reeve-paas/reeve/agent/agentapi"
)

var envName = regexp.MustCompile(`^[A-Z_][A-Z0-9_]{0,127}$`)

// Limits of an app's environment, in bytes.
const (
	maxEnvValue = 32 << 10
	maxEnvTotal = 256 << 10
)

func checkEnv(env map[string]agentapi.Secret) error {
	total := 0
	for name, value := range env {
		switch {
		case !envName.MatchString(name):
			return invalid("an environment name is made of A-Z, 0-9 and _, not %.80q", name)
		case strings.ContainsAny(string(value), "\n\r\x00"):
			return invalid("the value of %s holds a line break or a NUL", name)
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

// renderEnv is httpd configuration that sets a checked environment, sorted by name.
//
// Within double quotes httpd unescapes \\ and \". It also replaces ${NAME} anywhere in a line and offers no escape for
// that, so the dollar of a literal "${" comes from a variable of our own: what it replaces is not looked at again.
func renderEnv(app string, env map[string]agentapi.Secret) []byte {
	var b strings.Builder
	b.WriteString("# Environment of app " + app + ". Written by reeve-agent; changes are lost.\n")
	quote := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "${", "${REEVE_DOLLAR}{")
	define := false
	var lines strings.Builder
	for _, name := range slices.Sorted(maps.Keys(env)) {
		value := string(env[name])
		define = define || strings.Contains(value, "${")
		lines.WriteString("SetEnv " + name + ` "` + quote.Replace(value) + "\"\n")
	}
	if define {
		b.WriteString("Define REEVE_DOLLAR $\n")
	}
	b.WriteString(lines.String())
	return []byte(b.String())
}
