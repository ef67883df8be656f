// Command mongod is the stand-in as a program, with the few options a host's mongod.service uses:
//
//	mongod --config FILE                    serve; FILE is YAML: net.port, net.bindIp, security.authorization, storage.dbPath
//	mongod --config FILE --outputConfig     print what it made of the file, or say what is wrong with it
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"go.yaml.in/yaml/v3"

	"github.com/reeve-paas/reeve/test/mongostandin"
)

type config struct {
	Net struct {
		Port   int    `yaml:"port"`
		BindIP string `yaml:"bindIp"`
	} `yaml:"net"`
	Security struct {
		Authorization string `yaml:"authorization"`
	} `yaml:"security"`
	Storage struct {
		DBPath string `yaml:"dbPath"`
	} `yaml:"storage"`
	Rest map[string]any `yaml:",inline"` // what a real server has more
}

func main() {
	path := flag.String("config", "/etc/mongod.conf", "configuration `file`")
	output := flag.Bool("outputConfig", false, "print the configuration and end")
	flag.Parse()
	if err := run(*path, *output); err != nil {
		fmt.Fprintln(os.Stderr, "mongod:", err)
		os.Exit(2)
	}
}

func run(path string, output bool) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var c config
	c.Net.Port, c.Net.BindIP, c.Storage.DBPath = 27017, "127.0.0.1", "/data/db"
	if err := yaml.Unmarshal(text, &c); err != nil {
		return err
	}
	if c.Security.Authorization != "" && c.Security.Authorization != "enabled" && c.Security.Authorization != "disabled" {
		return fmt.Errorf("security.authorization: %q", c.Security.Authorization)
	}
	if output {
		return yaml.NewEncoder(os.Stdout).Encode(c)
	}
	return serve(c)
}

func serve(c config) error {
	file := filepath.Join(c.Storage.DBPath, "standin.json")
	o := mongostandin.Options{Auth: c.Security.Authorization == "enabled"}
	if kept, err := os.ReadFile(file); err == nil {
		if err := json.Unmarshal(kept, &o.Data); err != nil {
			return err
		}
	}
	address, _, _ := strings.Cut(c.Net.BindIP, ",") // one of them will do
	s, err := mongostandin.New(net.JoinHostPort(strings.TrimSpace(address), strconv.Itoa(c.Net.Port)), o)
	if err != nil {
		return err
	}
	s.OnChange(func(d mongostandin.Data) {
		kept, err := json.Marshal(d)
		if err == nil {
			err = os.WriteFile(file+".new", kept, 0o600)
		}
		if err == nil {
			err = os.Rename(file+".new", file)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "mongod: keep the data:", err)
		}
	})
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	go func() { <-stop; s.Close() }()
	return s.Serve()
}
