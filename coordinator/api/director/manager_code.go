package director

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/reeve-paas/reeve/coordinator/core"
)

func jsonNumber(n int64) string { return strconv.FormatInt(n, 10) }

// firstCode is the version that is active until one that was uploaded is. Clients take it for granted that there is one:
// cpsclient's list_uploads has a traceback for an empty list.
const firstCode = "code-default"

// codeID is a code version's name on this wire.
func codeID(num int64) string {
	if num == 0 {
		return firstCode
	}
	return fmt.Sprintf("code-%d", num)
}

// codeNumber is the version that the call is about, 0 for the first one while it is active.
func (c *managerCall) codeNumber() (int64, error) {
	if c.text("codeVersionId") == firstCode {
		if s, err := c.service(); err != nil || s.App.Platform != "" && s.Version == 0 {
			return 0, err
		}
	}
	text, ok := strings.CutPrefix(c.text("codeVersionId"), "code-")
	if !ok || !isNumber(text) {
		return 0, core.Errorf(core.NotFound, core.ObjCode, "ERROR: Invalid codeVersionId")
	}
	return strconv.ParseInt(text, 10, 64)
}

type codeVersion struct {
	ID          string  `json:"codeVersionId"`
	Filename    string  `json:"filename"`
	Description string  `json:"description"`
	Time        float64 `json:"time"`
	Current     bool    `json:"current,omitempty"`
}

func (c *managerCall) listCodeVersions() (any, error) {
	s, err := c.service()
	if err != nil {
		return nil, err
	}
	all, err := c.m.o.Core.CodeVersions(c.ctx(), c.caller, c.num)
	rows := []codeVersion{}
	for _, v := range all {
		rows = append(rows, codeVersion{codeID(v.Num), v.Filename, v.Description, seconds(v.CreatedAt), v.Num == s.Version})
	}
	if s.App.Platform != "" && s.Version == 0 {
		rows = append(rows, codeVersion{firstCode, firstCode + ".tar.gz", "Until a code version is active", seconds(s.App.CreatedAt), true})
	}
	return map[string]any{"codeVersions": rows}, err
}

func (c *managerCall) uploadCodeVersion() (any, error) {
	f, header, err := c.file("code")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	v := core.CodeVersion{Filename: clip(header.Filename), Description: clip(c.text("description"))}
	v, err = c.m.o.Core.UploadCode(c.ctx(), c.caller, c.num, v, f, header.Size)
	return map[string]string{"codeVersionId": codeID(v.Num)}, err
}

func (c *managerCall) downloadCodeVersion() (any, error) {
	num, err := c.codeNumber()
	if err != nil {
		return nil, err
	}
	if num == 0 {
		return nil, core.Errorf(core.Unsupported, core.ObjCode, "ERROR: %s is what nodes have until a code version is active; there is no archive of it", firstCode)
	}
	v, data, err := c.m.o.Core.OpenCode(c.ctx(), c.caller, c.num, num)
	return rawFile{codeID(v.Num) + ".tar.gz", v.SizeBytes, data}, err
}

func (c *managerCall) deleteCodeVersion() (any, error) {
	num, err := c.codeNumber()
	if err == nil && num == 0 {
		err = core.Errorf(core.Busy, core.ObjCode, "ERROR: the active code version cannot be deleted")
	}
	if err == nil {
		err = c.m.o.Core.DeleteCode(c.ctx(), c.caller, c.num, num)
	}
	return struct{}{}, err
}

// updateConfiguration makes a code version active, or changes settings of PHP, or both.
func (c *managerCall) updateConfiguration() (any, error) {
	var num int64
	var err error
	text := c.text("codeVersionId")
	if text != "" && text != "null" {
		if num, err = c.codeNumber(); err != nil {
			return nil, err
		}
	}
	settings := map[string]string{}
	var conf map[string]any
	if err := readObject(c.params["phpconf"], &conf); err != nil {
		return nil, core.Errorf(core.Invalid, "", "ERROR: phpconf is no object")
	}
	for name, v := range conf {
		allowed, known := core.PHPSettings[name]
		value := fmt.Sprint(v)
		if !known || !allowed.Values.MatchString(value) {
			return nil, core.Errorf(core.Invalid, "", "ERROR: phpconf cannot have %s = %s", clip(name), clip(value))
		}
		settings["phpconf."+name] = value
	}
	if num == 0 && len(settings) == 0 {
		if text == firstCode {
			return struct{}{}, nil // it is active
		}
		return nil, core.Errorf(core.Invalid, "", "ERROR: at least one of codeVersionId or phpconf is needed")
	}
	return struct{}{}, c.m.o.Core.ConfigureService(c.ctx(), c.caller, c.num, num, settings)
}

// configuration is what a web service runs.
type configuration struct {
	CodeVersion *string           `json:"codeVersionId"`
	PHP         map[string]string `json:"phpconf"`
	CDN         bool              `json:"cdn"`
	Autoscaling bool              `json:"autoscaling"`
}

func (c *managerCall) getConfiguration() (any, error) {
	s, err := c.service()
	conf := configuration{PHP: map[string]string{}}
	if s.App.Platform == "php" {
		for name, setting := range core.PHPSettings {
			conf.PHP[name] = setting.Default
		}
	}
	if s.App.Platform != "" {
		id := codeID(s.Version)
		conf.CodeVersion = &id
	}
	for name, v := range s.Settings {
		if short, ok := strings.CutPrefix(name, "phpconf."); ok {
			conf.PHP[short] = v
		}
	}
	return conf, err
}
