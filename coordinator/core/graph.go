package core

import (
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
)

// graphIssue is part of every token; raising it makes all links out of date.
const graphIssue = 1

// graphMetrics are the metrics by the byte that tokens hold.
var graphMetrics = map[byte]Metric{'c': MetricCPU, 'd': MetricDisk, 'n': MetricNet}

const graphMAC = 16 // bytes of the signature

// GraphToken is what lets anybody who has it see one metric of one node, until the node is gone. It is the same whenever it
// is asked for, it cannot be guessed, and it tells nothing but the node's id. "" for a metric that there is none of, and of a
// core without a secret.
//
// Shape:  base64url of issue, metric, node id and a signature
// Source: spec gandi 5
func (c *Core) GraphToken(id NodeID, m Metric) string {
	for letter, metric := range graphMetrics {
		if metric == m && len(c.OwnershipSecret) > 0 {
			text := append([]byte{graphIssue, letter}, id...)
			return base64.RawURLEncoding.EncodeToString(append(text, c.signGraph(text)...))
		}
	}
	return ""
}

// GraphNode is the node and the metric that a token shows.
//
// Errors: not_found, the same whether the token is forged, out of date, or its node gone
func (c *Core) GraphNode(ctx context.Context, token string) (Node, Metric, error) {
	gone := Errorf(NotFound, ObjNode, "there is no such graph")
	if len(token) > 256 || len(c.OwnershipSecret) == 0 {
		return Node{}, "", gone
	}
	// Strict: no two tokens that differ are the same.
	raw, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(raw) < 2+graphMAC {
		return Node{}, "", gone
	}
	text, mac := raw[:len(raw)-graphMAC], raw[len(raw)-graphMAC:]
	if !hmac.Equal(mac, c.signGraph(text)) || text[0] != graphIssue {
		return Node{}, "", gone
	}
	n, err := c.node(ctx, NodeID(text[2:]))
	if isNotFound(err) || err == nil && (n.AppID == "" || n.State == NodeGone) {
		return Node{}, "", gone
	}
	return n, graphMetrics[text[1]], err
}

// signGraph signs with a key of its own, so that no other use of the secret can make a token.
func (c *Core) signGraph(text []byte) []byte {
	key, err := hkdf.Key(sha256.New, c.OwnershipSecret, nil, "reeve graph token", sha256.Size)
	if err != nil {
		panic(err) // only for more output than a hash can give
	}
	mac := hmac.New(sha256.New, key)
	mac.Write(text)
	return mac.Sum(nil)[:graphMAC]
}
