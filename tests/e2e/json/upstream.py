"""An upstream that takes everything, and keeps it by the case that it belongs to.

A case is told by the schema URL of its resources: the agent leaves that alone.
"""

import gzip
import threading
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from mapping import REQUESTS, resources


class Upstream(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.arrived = defaultdict(list)
        self.changed = threading.Condition()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def take(self, request):
        with self.changed:
            for part in resources(request):
                self.arrived[part.schema_url].append(part)
            self.changed.notify_all()

    def wait(self, cases, seconds):
        """Whether something has come of each of these cases in time."""
        with self.changed:
            return self.changed.wait_for(lambda: all(case in self.arrived for case in cases), seconds)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self.server.take(REQUESTS[self.path.rsplit("/", 1)[1]].FromString(body))
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass
