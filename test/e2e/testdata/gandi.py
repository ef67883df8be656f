"""Calls one method with Python's own XML-RPC client. Arguments: URL, method, JSON list of parameters. Prints JSON."""

import json
import sys
import xmlrpc.client

url, method, params = sys.argv[1:4]
api = xmlrpc.client.ServerProxy(url, allow_none=True)
call = api
for part in method.split("."):
    call = getattr(call, part)
try:
    print(json.dumps({"result": call(*json.loads(params))}, default=str))
except xmlrpc.client.Fault as fault:
    print(json.dumps({"fault": {"code": fault.faultCode, "string": fault.faultString}}))
