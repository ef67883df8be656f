//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
)

// glance is what the three APIs say of one app, looked at one after the other. "" is: there is none.
type glance struct {
	gandi string   // state
	tsuru string   // "pending" or "ready"
	nodes []string // states of the nodes that are no router, as the Orchestrator numbers them
}

// agree says in what the APIs contradict each other. Several things may be true of an app at one moment, others never.
func (g glance) agree(restarts bool) error {
	bad := func() error { return fmt.Errorf("Gandi says %q, tsuru %q, Orchestrator %v", g.gandi, g.tsuru, g.nodes) }
	switch g.gandi {
	case "":
		if g.tsuru != "" || len(g.nodes) > 0 {
			return bad()
		}
	case "being_created", "being_deleted":
		if g.tsuru != "pending" || len(g.nodes) > 1 {
			return bad()
		}
	case "running":
		if g.tsuru != "ready" || len(g.nodes) != 1 || g.nodes[0] != "0" && !restarts {
			return bad()
		}
	default: // halted: its node does not answer while it boots
		if !restarts || g.tsuru != "ready" {
			return bad()
		}
	}
	return nil
}

// watch looks at an app through all APIs, again and again, until stop. Looks that the app changed under are not compared:
// no two answers are of one moment. The states that Gandi's API showed are returned in their order, each once.
type watch struct {
	s        *site
	o        orchestratorCaller
	app      string
	others   []string   // names of nodes that are not the app's
	token    string     // of tsuru's API
	mu       sync.Mutex // protects the fields below
	restarts bool
	states   []string
	compared int
	once     sync.Once
	quit     chan struct{}
	done     chan struct{}
}

func (s *site) watch(t *testing.T, o orchestratorCaller, app string, others ...string) *watch {
	w := &watch{s: s, o: o, app: app, others: others, token: s.tsuruToken(), quit: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(w.done)
		for {
			select {
			case <-w.quit:
				return
			default:
				if err := w.look(); err != nil {
					t.Errorf("the APIs do not agree: %v", err)
					return
				}
			}
		}
	}()
	return w
}

// stop ends the looking.
func (w *watch) stop() (states []string) {
	w.once.Do(func() { close(w.quit) })
	<-w.done
	return w.states
}

// restarting says that the node may be down for a while from now on, or not any more.
func (w *watch) restarting(yes bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.restarts = yes
}

func (w *watch) look() error {
	w.mu.Lock()
	restarts := w.restarts
	w.mu.Unlock()
	first, err := w.gandi()
	if err != nil {
		return err
	}
	g := glance{gandi: first}
	if g.tsuru, err = w.tsuru(); err != nil {
		return err
	}
	if g.nodes, err = w.nodes(); err != nil {
		return err
	}
	second, err := w.gandi()
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, state := range []string{first, second} {
		if len(w.states) == 0 || w.states[len(w.states)-1] != state {
			w.states = append(w.states, state)
		}
	}
	if first != second || restarts != w.restarts {
		return nil
	}
	w.compared++
	return g.agree(restarts)
}

func (w *watch) gandi() (string, error) {
	var rows []struct {
		Name  string `json:"name"`
		State string `json:"state"`
	}
	if err := w.s.gandi(&rows, "paas.list"); err != nil {
		return "", err
	}
	for _, r := range rows {
		if r.Name == w.app {
			return r.State, nil
		}
	}
	return "", nil
}

func (w *watch) tsuru() (string, error) {
	var apps []struct {
		Name  string `json:"name"`
		Ready bool   `json:"ready"`
	}
	if err := w.get("/apps", "Authorization", "bearer "+w.token, &apps); err != nil {
		return "", err
	}
	for _, a := range apps {
		if a.Name == w.app {
			return map[bool]string{true: "ready", false: "pending"}[a.Ready], nil
		}
	}
	return "", nil
}

func (w *watch) nodes() ([]string, error) {
	var answer struct {
		Status string
		Nodes  []struct {
			Name  string  `json:"name"`
			State float64 `json:"state"`
		}
	}
	if err := w.get("/api/v1/nodes/nspawn", "X-Auth-Token", w.o.token, &answer); err != nil {
		return nil, err
	}
	var states []string
	for _, n := range answer.Nodes {
		if !slices.Contains(w.others, n.Name) {
			states = append(states, fmt.Sprint(n.State))
		}
	}
	return states, nil
}

func (w *watch) get(path, header, value string, into any) error {
	r, err := http.NewRequest("GET", w.s.url+path, nil)
	if err != nil {
		return err
	}
	r.Header.Set(header, value)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode == http.StatusNoContent {
		return nil
	}
	if err := json.NewDecoder(answer.Body).Decode(into); err != nil {
		return fmt.Errorf("GET %s: %s: %w", path, answer.Status, err)
	}
	return nil
}

// tsuruToken logs the administrator in, as a client of tsuru does.
func (s *site) tsuruToken() string {
	s.t.Helper()
	body, err := json.Marshal(map[string]string{"password": s.admin.Password})
	if err != nil {
		s.t.Fatal(err)
	}
	answer, err := http.Post(s.url+"/users/"+s.admin.Email+"/tokens", "application/json", strings.NewReader(string(body)))
	if err != nil {
		s.t.Fatal(err)
	}
	defer answer.Body.Close()
	var token struct {
		Token string `json:"token"`
	}
	if err := json.NewDecoder(answer.Body).Decode(&token); err != nil || token.Token == "" {
		s.t.Fatalf("log in: %s, %v", answer.Status, err)
	}
	return token.Token
}
