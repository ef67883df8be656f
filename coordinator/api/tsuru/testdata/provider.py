"""A provider of a service, as small as the standard library allows. Answers are set with POST /mood."""
import base64, json, sys, threading, urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

moods, calls, lock = {}, [], threading.Lock()


class Provider(BaseHTTPRequestHandler):
    def reply(self, code, body=b""):
        self.send_response(code)
        if code != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if code != 204:
            self.wfile.write(body)

    def serve(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        path, _, query = self.path.partition("?")
        if path == "/mood":
            mood = json.loads(body)
            with lock:
                moods[mood["path"]] = mood
            return self.reply(200)
        if path == "/calls":
            with lock:
                answer = json.dumps(calls).encode()
                calls.clear()
            return self.reply(200, answer)
        auth = self.headers.get("Authorization", "")
        auth = base64.b64decode(auth[6:]).decode() if auth.startswith("Basic ") else auth
        form = dict(urllib.parse.parse_qsl(body if self.command == "POST" else query))
        with lock:
            calls.append({"Method": self.command, "Path": path, "Auth": auth, "Form": form})
            mood = moods.get(self.command + " " + path)
        if mood is None:
            if path.endswith("/bind-app") and self.command == "POST":
                return self.reply(405, b"not known here")
            return self.reply({"POST": 201, "DELETE": 200}.get(self.command, 404))
        if mood["body"] == "slow":
            threading.Event().wait(10)
        text = "x" * (2 << 20) if mood["body"] == "huge" else mood["body"]
        self.reply(mood["code"], text.encode())

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = serve

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Provider)
server.daemon_threads = True
print("http://127.0.0.1:%d" % server.server_port, flush=True)
server.serve_forever()
