package nspawn

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

func hasPrefixAny(list []string, prefix string) bool {
	for _, s := range list {
		if strings.HasPrefix(s, prefix) {
			return true
		}
	}
	return false
}

func nftTableExists(table string) bool {
	return exec.Command("nft", "list", "table", "ip", table).Run() == nil
}

// processesNaming finds processes with text in their command line: supervisors and nspawns of an instance.
func processesNaming(text string) []string {
	var found []string
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		line := strings.ReplaceAll(string(data), "\x00", " ")
		if strings.Contains(line, superviseCommand+" "+text) || strings.Contains(line, "--directory="+text) {
			found = append(found, fmt.Sprintf("process %s: %s", strings.Split(f, "/")[2], strings.TrimSpace(line)))
		}
	}
	return found
}
