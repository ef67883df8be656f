"""Asks for a PHP + MySQL instance as any Gandi client would, and fetches its page through the router."""

import json
import subprocess
import sys
import time
import urllib.request
import xmlrpc.client

admin_file, url, program, state = sys.argv[1:5]
with open(admin_file) as f:
    key = json.load(f)["api_key"]
api = xmlrpc.client.ServerProxy(url, allow_none=True)
host = "shop.test"

print("  api.version.info(key) ->", api.version.info(key)["api_version"])
spec = {
    "name": "demo", "size": "s", "type": "phpmysql", "datacenter_id": 1,
    "vhosts": [host], "quantity": 0, "duration": "1m", "password": "correct-horse-42",
}
print("  api.paas.create(key, {'name': 'demo', 'size': 's', 'type': 'phpmysql', 'vhosts': ['%s'], …})" % host)
begun = time.monotonic()
operations = api.paas.create(key, spec)
shown = {}
while True:
    states = [api.operation.info(key, op["id"]) for op in operations]
    for op in states:
        if shown.get(op["id"]) != op["step"]:
            shown[op["id"]] = op["step"]
            print("  %6.1fs  %-18s %s" % (time.monotonic() - begun, op["type"], op["step"]))
    if any(op["step"] in ("ERROR", "SUPPORT", "CANCEL") for op in states):
        sys.exit("  failed: " + "; ".join(op["last_error"] or "" for op in states))
    if all(op["step"] == "DONE" for op in states):
        break
    time.sleep(0.1)

nodes = json.loads(subprocess.check_output([program, "node", "list", "--json", "--data-dir", state, "--log-level", "error"]))
router = next(n["address"] for n in nodes if "router" in n["roles"])
request = urllib.request.Request("http://%s/" % router, headers={"Host": host})
with urllib.request.urlopen(request, timeout=10) as answer:
    page = answer.read().decode()
print("  GET http://%s/ (Host: %s) -> %d, %d bytes, %.1f s after the call" % (router, host, answer.status, len(page), time.monotonic() - begun))

instance = api.paas.info(key, operations[0]["paas_id"])
node = next(n["name"] for n in nodes if "app" in n["roles"])
print("""
  instance %d, "%s": %s, %s, served on http://%s/ as %s

  What to try next (the key is in %s):

    curl -H 'Host: %s' http://%s/

    python3 - <<'EOF'
    import json, xmlrpc.client
    key = json.load(open("%s"))["api_key"]
    api = xmlrpc.client.ServerProxy("%s", allow_none=True)
    print(api.paas.list(key), api.operation.list(key, {"sort_by": "id DESC", "items_per_page": 3}))
    EOF

    curl http://127.0.0.1:8080/api/v1/nodes/fake_driver
    curl -H "X-Auth-Token: $(python3 -c 'import json; print(json.load(open("%s"))["token"])')" http://127.0.0.1:8080/api/v1/nodes/nspawn

    # tsuru: an app of files, on nodes of the pool
    T=$(curl -s http://127.0.0.1:8080/users/admin@localhost/tokens -d "{\\"password\\": \\"$(python3 -c 'import json; print(json.load(open("%s"))["password"])')\\"}" | python3 -c 'import json, sys; print(json.load(sys.stdin)["token"])')
    curl -H "Authorization: bearer $T" http://127.0.0.1:8080/apps -d '{"name": "hello", "platform": "static"}'
    echo hello >index.html && tar -czf hello.tar.gz index.html
    curl -N -H "Authorization: bearer $T" -F file=@hello.tar.gz http://127.0.0.1:8080/apps/hello/deploy
    curl -H 'Host: hello.apps.test' http://%s/

    # ConPaaS Director: TLS, and client certificates from POST /getcerts
    curl -k https://127.0.0.1:5555/available_services

    %s node list --data-dir %s
    %s node call %s system.load_average --data-dir %s

    make demo-down
""" % (instance["id"], instance["name"], instance["type"], instance["state"], router, host, admin_file, host, router,
       admin_file, url, admin_file, admin_file, router, program, state, program, node, state))
