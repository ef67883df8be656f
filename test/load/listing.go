package main

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// listing is an XML-RPC answer that lists structures.
type listing struct {
	Fault *struct{} `xml:"fault"`
	Rows  []struct {
		Members []struct {
			Name  string `xml:"name"`
			Value struct {
				Int string `xml:"int"`
				I4  string `xml:"i4"`
			} `xml:"value"`
		} `xml:"member"`
	} `xml:"params>param>value>array>data>value>struct"`
}

// listedMembers sends the requests of a round once, before anything is timed, and returns the names of the members that
// every row has. It is an error when an answer is a fault, when rows differ in their members, or when the pages together
// do not show as many different ids as wanted.
func listedMembers(round []request, want int) ([]string, error) {
	ids := map[string]bool{}
	var members []string
	for _, r := range round {
		page, err := r.list()
		if err != nil {
			return nil, err
		}
		for _, row := range page.Rows {
			names := map[string]bool{}
			for _, m := range row.Members {
				names[m.Name] = true
				if m.Name == "id" {
					ids[m.Value.Int+m.Value.I4] = true
				}
			}
			sorted := slices.Sorted(maps.Keys(names))
			if members == nil {
				members = sorted
			}
			if !slices.Equal(members, sorted) {
				return nil, fmt.Errorf("%s: got rows with the members %q and %q", r.url, members, sorted)
			}
		}
	}
	if len(ids) != want || ids[""] {
		return nil, fmt.Errorf("%s: got %d different ids, want %d", round[0].url, len(ids), want)
	}
	return members, nil
}

func (r request) list() (listing, error) {
	var l listing
	answer, err := http.Post(r.url, "text/xml", strings.NewReader(r.body))
	if err != nil {
		return l, err
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	if err != nil {
		return l, err
	}
	if err := xml.Unmarshal(data, &l); err != nil {
		return l, fmt.Errorf("%s: %w", r.url, err)
	}
	if l.Fault != nil {
		return l, errors.New(r.url + " answers with a fault: " + string(data))
	}
	return l, nil
}
