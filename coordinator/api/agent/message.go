package agent

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"strings"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// about is what is kept of the bodies of all messages. Members that a message does not have are empty.
type about struct {
	Name       text `json:"name" xml:"name"`
	Status     text `json:"status" xml:"status"`
	ScriptName text `json:"script_name" xml:"script_name"`
	ReturnCode text `json:"return_code" xml:"return_code"`
	DBType     text `json:"db_type" xml:"db_type"`
	Base       struct {
		APIPort text `json:"api_port" xml:"api_port"`
	} `json:"base" xml:"base"`
}

// text is a scalar in either form; something else is empty.
type text string

func (t *text) UnmarshalJSON(data []byte) error {
	var s string
	var n json.Number
	switch {
	case json.Unmarshal(data, &s) == nil:
		*t = text(s)
	case json.Unmarshal(data, &n) == nil:
		*t = text(n)
	}
	return nil
}

// readMessage reads a message in the form it has, JSON or XML (spec agent-core A.3).
func readMessage(data []byte) (core.AgentMessage, error) {
	var m core.AgentMessage
	var body about
	if bytes.HasPrefix(bytes.TrimSpace(data), []byte("<")) {
		var sent struct {
			XMLName xml.Name `xml:"message"`
			ID      string   `xml:"id,attr"`
			Name    string   `xml:"name,attr"`
			Body    about    `xml:"body"`
		}
		if err := xml.Unmarshal(data, &sent); err != nil {
			return m, err
		}
		m.ID, m.Name, body = sent.ID, sent.Name, sent.Body
	} else {
		var sent struct {
			ID   string          `json:"id"`
			Name string          `json:"name"`
			Body json.RawMessage `json:"body"`
		}
		if err := json.Unmarshal(data, &sent); err != nil {
			return m, err
		}
		m.ID, m.Name = sent.ID, sent.Name
		_ = json.Unmarshal(sent.Body, &body) // a body of another form is about nothing that is kept
	}
	m.Subject, m.Outcome = string(body.Name), string(body.Status)
	switch {
	case m.Name == "ExecScriptResult":
		m.Subject, m.Outcome = string(body.ScriptName), string(body.ReturnCode)
	case m.Name == "HostUpdate":
		m.Subject, m.Outcome = "api_port", string(body.Base.APIPort)
	case strings.HasPrefix(m.Name, "DbMsr_"):
		m.Subject = string(body.DBType)
	}
	return m, nil
}
