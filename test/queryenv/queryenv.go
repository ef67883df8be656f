// Package queryenv answers the questions of agents as a coordinator of the old kind does.
package queryenv

import (
	"fmt"
	"net/http"

	"github.com/reeve-paas/reeve/crypto/envelope"
)

// Server answers whoever signs with its key.
type Server struct {
	Key envelope.Key
	// Answer is the content of the reply to a command. What it returns an error for is refused.
	Answer func(command string, params map[string]string) (string, error)
}

func (s Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	params := map[string]string{}
	for name := range r.PostForm {
		params[name] = r.PostForm.Get(name)
	}
	if envelope.VerifyQuery(s.Key, params, r.Header.Get("Date"), r.Header.Get("X-Signature")) != nil {
		http.Error(w, "Signature doesn't match", http.StatusForbidden)
		return
	}
	reply, err := s.Answer(params["operation"], params)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	fmt.Fprint(w, "<response>"+reply+"</response>")
}
