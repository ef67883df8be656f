"""GET /api/v1/nodes/fake_driver as a Flask program over libcloud's dummy driver answers it. Argument: port."""

import hashlib
import json
import logging
import sys

from flask import Flask, Response
from libcloud.compute.drivers.dummy import DummyNodeDriver

logging.getLogger("werkzeug").setLevel(logging.ERROR)
app = Flask(__name__)
driver = DummyNodeDriver(0)


@app.route("/api/v1/nodes/fake_driver")
def nodes():
    rows = [{
        "cloud_type": driver.name, "extra": n.extra, "id": n.id, "name": n.name, "private_ips": n.private_ips,
        "provider": driver.type if isinstance(driver.type, str) else "dummy", "public_ips": n.public_ips, "state": 0,
        "uuid": hashlib.sha1(("%s:dummy" % n.id).encode()).hexdigest(),
    } for n in driver.list_nodes()]
    return Response(json.dumps({"nodes": rows, "status": "ok"}, sort_keys=True, indent=2), mimetype="application/json")


app.run("127.0.0.1", int(sys.argv[1]), threaded=True)
