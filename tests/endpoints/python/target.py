"""The target of a relay: verifies the signature of each request and prints the event as one line of JSON."""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

webhook = Webhook(os.environ["SIGNING_SECRET"])


class Target(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        try:
            event = webhook.verify(body, dict(self.headers))
        except WebhookVerificationError:
            self.send_error(401)
            return
        # Your code. Once it has succeeded, respond with 2xx: the relay sends this event no more.
        print(json.dumps(event), flush=True)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


host, port = os.environ.get("LISTEN", "127.0.0.1:9000").rsplit(":", 1)
server = ThreadingHTTPServer((host, int(port)), Target)
print(f"listening on http://{host}:{server.server_port}", file=sys.stderr, flush=True)
server.serve_forever()
