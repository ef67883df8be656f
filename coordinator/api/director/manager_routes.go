package director

import (
	"encoding/json"
	"io"
	"net/http"
	"strconv"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// kind is how a method is called; another way is not found.
type kind int

const (
	byGet kind = iota
	byPost
	byUpload
)

// managerMethod is one row of the table. params are those it knows; any other is refused.
type managerMethod struct {
	name   string
	kind   kind
	serve  func(*managerCall) (any, error)
	params []string
	about  bool // its parameter service_id says which service of the application it is about (2.x)
}

// managerMethods is the table: what is not in it is not found. The common ones come first, then those of web hosting, of
// databases, of scripts, and of the application manager of 2.x.
var managerMethods = []managerMethod{
	{"get_service_info", byGet, (*managerCall).getServiceInfo, nil, false},
	{"startup", byPost, (*managerCall).startup, []string{"cloud"}, false},
	{"shutdown", byPost, (*managerCall).shutdown, nil, false},
	{"delete", byPost, (*managerCall).delete, nil, false},
	{"list_nodes", byGet, (*managerCall).listNodes, nil, false},
	{"get_node_info", byGet, (*managerCall).getNodeInfo, []string{"serviceNodeId"}, false},
	{"add_nodes", byPost, (*managerCall).addNodes, nodeParams, true},
	{"remove_nodes", byPost, (*managerCall).removeNodes, nodeParams, true},
	{"getLog", byGet, (*managerCall).getLog, nil, false},
	{"get_service_history", byGet, (*managerCall).getServiceHistory, nil, false},
	{"get_service_performance", byGet, (*managerCall).getServicePerformance, nil, false},

	{"list_code_versions", byGet, (*managerCall).listCodeVersions, nil, false},
	{"upload_code_version", byUpload, (*managerCall).uploadCodeVersion, []string{"description"}, false},
	{"download_code_version", byGet, (*managerCall).downloadCodeVersion, []string{"codeVersionId"}, false},
	{"delete_code_version", byPost, (*managerCall).deleteCodeVersion, []string{"codeVersionId"}, false},
	{"update_php_configuration", byPost, (*managerCall).updateConfiguration, []string{"codeVersionId", "phpconf"}, false},
	{"update_java_configuration", byPost, (*managerCall).updateConfiguration, []string{"codeVersionId"}, false},
	{"enable_code", byPost, (*managerCall).updateConfiguration, []string{"codeVersionId"}, false},
	{"get_configuration", byGet, (*managerCall).getConfiguration, nil, false},

	{"set_password", byPost, (*managerCall).setPassword, []string{"user", "password"}, false},
	{"load_dump", byUpload, (*managerCall).loadDump, nil, false},
	{"sqldump", byGet, (*managerCall).sqlDump, nil, false},

	{"execute_script", byPost, (*managerCall).executeScript, []string{"command", "parameters"}, false},
	{"run", byPost, (*managerCall).runScript, nil, false},
	{"get_script_status", byGet, (*managerCall).getScriptStatus, nil, false},
	{"get_agent_log", byGet, (*managerCall).getAgentLog, []string{"agentId", "filename"}, false},

	{"list_authorized_keys", byGet, (*managerCall).listAuthorizedKeys, nil, false},
	{"upload_authorized_key", byUpload, notOffered("a service has no git repository; upload_code_version takes its code"), nil, false},
	{"upload_startup_script", byUpload, notOffered("nothing of a service's owner runs as root on its nodes"), []string{"sid"}, false},
	{"get_startup_script", byGet, notOffered("nothing of a service's owner runs as root on its nodes"), []string{"sid"}, false},
	{"migrate_nodes", byPost, notOffered("nodes stay in their cloud; add_nodes and remove_nodes change how many there are"), []string{"migration_plan", "nodes", "delay"}, false},
	{"on_autoscaling", byPost, notOffered("nodes are added by add_nodes alone"), []string{"cool_down", "reserved_cpu", "strategy", "response_time"}, false},
	{"off_autoscaling", byPost, notOffered("nodes are added by add_nodes alone"), nil, false},
	{"list_volumes", byGet, (*managerCall).listVolumes, []string{"service_id"}, true},
	{"create_volume", byPost, notOffered(noVolumes), volumeParams, false},
	{"delete_volume", byPost, notOffered(noVolumes), volumeParams, false},
	{"generic_create_volume", byPost, notOffered(noVolumes), volumeParams, false},
	{"generic_delete_volume", byPost, notOffered(noVolumes), volumeParams, false},

	{"start_service", byPost, (*managerCall).startup, []string{"service_id", "cloud"}, true},
	{"stop_service", byPost, (*managerCall).shutdown, []string{"service_id"}, true},
	{"get_app_info", byGet, (*managerCall).getAppInfo, nil, false},
	{"get_manager_log", byGet, (*managerCall).getLog, nil, false},
	{"check_process", byGet, (*managerCall).checkProcess, nil, false},
}

const noVolumes = "services have no volumes"

var volumeParams = []string{"volumeName", "volumeSize", "agentId", "service_id"}

// notOffered refuses a method that tools know, in words that they show: of a method that is not found they make a traceback.
func notOffered(why string) func(*managerCall) (any, error) {
	return func(*managerCall) (any, error) {
		return nil, core.Errorf(core.Unsupported, core.ObjService, "ERROR: not offered: %s", why)
	}
}

// listAuthorizedKeys has none to list: nobody can add one.
func (c *managerCall) listAuthorizedKeys() (any, error) {
	_, err := c.service()
	return map[string][]string{"authorizedKeys": {}}, err
}

// listVolumes has none to list, for the same reason.
func (c *managerCall) listVolumes() (any, error) {
	_, err := c.service()
	return map[string][]string{"volumes": {}}, err
}

// nodeParams are numbers of nodes by their role, and where they should be.
var nodeParams = []string{"backend", "web", "proxy", "nodes", "glb_nodes", "mysql", "glb", "node", "count", "cloud", "service_id"}

// rawFile is a result that is sent as it is.
type rawFile struct {
	name string
	size int64
	data io.ReadCloser
}

func (c *managerCall) send(w http.ResponseWriter, f rawFile) {
	defer f.data.Close()
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Disposition", `attachement; filename="`+f.name+`"`) // sic
	h.Set("Content-Length", strconv.FormatInt(f.size, 10))
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(http.StatusOK)
	if _, err := io.Copy(w, f.data); err != nil && c.ctx().Err() == nil {
		c.m.log.Warn("a file was not sent to its end", "service", c.num, "err", err)
	}
}

// reply is a success; result is never null.
type reply struct {
	Result any             `json:"result"`
	Error  any             `json:"error"`
	ID     json.RawMessage `json:"id"`
}

// refusal is a failure: there is no member result, which clients would take for a success.
type refusal struct {
	Error string          `json:"error"`
	ID    json.RawMessage `json:"id"`
}
