"""Shows index.html under every path, until something is deployed."""

import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

with open("index.html", "rb") as page:
    PAGE = page.read()


class Welcome(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(PAGE)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()

    def do_GET(self):
        self.do_HEAD()
        self.wfile.write(PAGE)


ThreadingHTTPServer(("", int(os.environ["PORT"])), Welcome).serve_forever()
