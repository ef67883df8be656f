"""paas.list from Python's own XML-RPC server, returning the structure it is given. Arguments: port, JSON file."""

import json
import sys
import xmlrpc.client
from xmlrpc.server import SimpleXMLRPCRequestHandler, SimpleXMLRPCServer

with open(sys.argv[2]) as f:
    rows = json.load(f)
for row in rows:
    for name in ("date_start", "date_end"):
        row[name] = xmlrpc.client.DateTime(row[name])
    row["need_upgrade"] = bool(row["need_upgrade"])


class Handler(SimpleXMLRPCRequestHandler):
    rpc_paths = ("/xmlrpc/",)
    protocol_version = "HTTP/1.1"


server = SimpleXMLRPCServer(("127.0.0.1", int(sys.argv[1])), requestHandler=Handler, logRequests=False, allow_none=True)


def paas_list(key, opts):
    first = opts.get("page", 0) * opts["items_per_page"]
    return rows[first:first + opts["items_per_page"]]


server.register_function(paas_list, "paas.list")
server.serve_forever()
