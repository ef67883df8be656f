package nspawn

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"
)

// Some hosts drop what they forward unless a rule of iptables lets it pass; Docker sets them up so. Where
// bridge-nf-call-iptables is on, that cuts even one node from another on the same bridge. No nft table of ours can overrule
// a drop in somebody else's, so on such hosts, and only there, two rules go into the host's own chain.

const forwardChain = "FORWARD"

func forwardRules(bridge string) [][]string {
	return [][]string{
		{forwardChain, "-i", bridge, "-m", "comment", "--comment", "reeve nspawn", "-j", "ACCEPT"},
		{forwardChain, "-o", bridge, "-m", "comment", "--comment", "reeve nspawn", "-j", "ACCEPT"},
	}
}

// allowForwarding adds the rules where the host's policy would drop.
func allowForwarding(ctx context.Context, bridge string) error {
	if _, err := exec.LookPath("iptables"); err != nil {
		return nil
	}
	out, err := iptables(ctx, "-S", forwardChain)
	if err != nil || !bytes.HasPrefix(out, []byte("-P "+forwardChain+" DROP")) {
		return nil // no such chain, or it lets everything pass
	}
	for _, rule := range forwardRules(bridge) {
		if _, err := iptables(ctx, append([]string{"-C"}, rule...)...); err == nil {
			continue
		}
		if out, err := iptables(ctx, append([]string{"-I"}, rule...)...); err != nil {
			return fmt.Errorf("let nodes reach one another: iptables: %w: %s", err, bytes.TrimSpace(out))
		}
	}
	return nil
}

// forbidForwarding takes the rules away again.
func forbidForwarding(ctx context.Context, bridge string) error {
	if _, err := exec.LookPath("iptables"); err != nil {
		return nil
	}
	out, err := iptables(ctx, "-S", forwardChain)
	if err != nil || !strings.Contains(string(out), " "+bridge+" ") {
		return nil
	}
	for _, rule := range forwardRules(bridge) {
		if _, err := iptables(ctx, append([]string{"-C"}, rule...)...); err != nil {
			continue
		}
		if out, err := iptables(ctx, append([]string{"-D"}, rule...)...); err != nil {
			return fmt.Errorf("iptables: %w: %s", err, bytes.TrimSpace(out))
		}
	}
	return nil
}

func iptables(ctx context.Context, args ...string) ([]byte, error) {
	return exec.CommandContext(ctx, "iptables", append([]string{"-w", "5"}, args...)...).CombinedOutput()
}
