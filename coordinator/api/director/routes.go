package director

import (
	"net/http"
	"strings"
)

// access is who may call a route.
type access int

const (
	public  access = iota // anybody; some take user name and password
	user                  // a certificate of the role user
	manager               // a certificate of the role manager, of a service that is there
)

// route is one row of the table. A path may have the segments {id}, a number, and {name}, any text.
type route struct {
	methods string // those that are answered; HEAD goes with GET
	path    string
	access  access
	serve   func(*call)
}

const (
	get    = http.MethodGet
	post   = http.MethodPost
	either = get + " " + post
)

// routes is the table: what is not in it is not found.
var routes = []route{
	// Documented.
	{post, "/new_user", public, (*call).newUser},
	{post, "/login", public, (*call).login},
	{post, "/get_user_certs", public, (*call).getCerts},
	{post, "/getcerts", public, (*call).getCerts}, // what clients really call
	{get, "/available_services", public, (*call).availableServices},
	{post, "/start/{name}", user, (*call).start},
	{post, "/start/{name}/{name}", user, (*call).start},
	{post, "/stop/{id}", user, (*call).stop},
	{post, "/rename/{id}", user, (*call).rename},
	{either, "/list", user, (*call).list},
	{get, "/download/ConPaaS.tar.gz", public, (*call).download},
	{post, "/callback/decrementUserCredit.php", manager, (*call).decrementUserCredit},
	{post, "/ca/get_cert.php", manager, (*call).getCert},

	// What the clients of 1.x call besides.
	{either, "/list/{id}", user, (*call).list},
	{either, "/listapp", user, (*call).listApp},
	{post, "/createapp", user, (*call).createApp},
	{post, "/renameapp/{id}", user, (*call).renameApp},
	{post, "/delete/{id}", user, (*call).deleteApp},
	{get, "/available_clouds", public, (*call).availableClouds},
	{get, "/version", public, (*call).version},
	{get, "/user_credit", user, (*call).userCredit},
	{get, "/user_config", user, (*call).userConfig},
	{post, "/callback/terminateService.php", manager, (*call).terminateService},
	{get, "/support_external_idp", public, (*call).unsupported},
	{get, "/support_openid", public, (*call).unsupported},
	{get, "/debug_level/{name}", public, (*call).debugLevel},
	{post, "/upload_manifest", user, (*call).uploadManifest},
	{post, "/download_manifest/{id}", user, (*call).downloadManifest},

	// What those of 2.x call.
	{post, "/startapp/{id}", user, (*call).startApp},
	{post, "/startapp/{id}/{name}", user, (*call).startApp},
	{post, "/stopapp/{id}", user, (*call).stopApp},
	{post, "/deleteapp/{id}", user, (*call).deleteApp},
	{post, "/add/{name}", user, (*call).start},
	{post, "/add/{name}/{name}", user, (*call).start},
	{post, "/remove", user, (*call).stop},
	{post, "/rename", user, (*call).rename},
	{get, "/list_resources", user, (*call).listResources},
}

// find returns the rows of a path, and the values of its segments.
func find(path string) (rows []*route, values []string) {
	parts := strings.Split(path, "/")
	for i := range routes {
		if v, ok := match(routes[i].path, parts); ok {
			rows, values = append(rows, &routes[i]), v
		}
	}
	return rows, values
}

func match(pattern string, parts []string) (values []string, ok bool) {
	want := strings.Split(pattern, "/")
	if len(want) != len(parts) {
		return nil, false
	}
	for i, w := range want {
		switch {
		case w == "{id}" && isNumber(parts[i]), w == "{name}" && parts[i] != "":
			values = append(values, parts[i])
		case w != parts[i] || strings.HasPrefix(w, "{"):
			return nil, false
		}
	}
	return values, true
}

func isNumber(s string) bool {
	return s != "" && len(s) < 19 && strings.Trim(s, "0123456789") == ""
}

func (r *route) answers(method string) bool {
	if method == http.MethodHead {
		method = get
	}
	return strings.Contains(" "+r.methods+" ", " "+method+" ")
}
