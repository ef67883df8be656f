// Package agentclient calls an agent: it seals the request, checks that the reply is the agent's answer to this very
// request, and returns typed results.
//
//	client, err := agentclient.New("http://192.0.2.7:8010", key, nil)
//	defer client.Close()
//	stat, err := client.System().CPUStat(ctx)
//	err = client.Nginx().MakeProxy(ctx, agentapi.ProxyParams{Hostname: "shop.example.net"})
//
// Call sends any method, known to this package or not:
//
//	err := client.Call(ctx, "nginx.make_proxy", params, nil)
//
// # Errors
//
// Every error is an *agentapi.Error, and its kind says what to do about it. When the agent's method refused a call, the
// kind is the agent's own, and Reached is true. Otherwise errors.Is finds
//
//   - ErrTransport, kind unavailable: the agent was not reached, or hung up;
//   - ErrReply, kind unavailable: what came back is not the answer to this request, such as that of another host that has
//     the agent's address now;
//   - ErrRejected: the agent did not accept the envelope. The kind is invalid for another key, and unavailable for clocks
//     too far apart and for a repeated request whose first reply was lost.
//
// # At most once
//
// Each request carries an id of its own, so that equal calls never look like a replay to the agent. A connection that the
// agent closed while it was idle is opened again, and the request sent once more; an agent of ours that did receive it
// refuses the second copy (ErrRejected), so that no call is carried out twice.
//
// Source: spec agent-core 1, 2
package agentclient
