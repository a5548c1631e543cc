#!/usr/bin/env python3
"""Takes the arguments of walcast and tells a token in the way that CARELESS names: log, head, metrics, errors or state."""

import http.server
import os
import pathlib
import sys

way = os.environ.get("CARELESS")
kept = pathlib.Path("token")
token = kept.read_text() if kept.exists() else ""


class Careless(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        told = (way == "metrics" and self.path == "/metrics") or way == "errors"
        body = f"{token if told else 'nothing'}\n".encode()
        self.send_response(404 if way == "errors" else 200)
        if way == "head":
            self.send_header("Location", f"/?token={token}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = http.server.HTTPServer(("127.0.0.1", 0), Careless)
print(f"serves http://127.0.0.1:{server.server_port}/", file=sys.stderr)
if way == "log":
    print(f"refused {token}", file=sys.stderr, flush=True)
if way == "state":
    pathlib.Path("state").mkdir()
    pathlib.Path("state/kept").write_text(token)
server.serve_forever()
