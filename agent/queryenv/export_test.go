package queryenv

import "context"

var Parse = parse

// Ask sends any command.
func (c *Client) Ask(ctx context.Context, command string, params map[string]string) (element, error) {
	return c.ask(ctx, command, params)
}

// Value is an element as JSON.
func (e element) Value() any { return e.value() }
