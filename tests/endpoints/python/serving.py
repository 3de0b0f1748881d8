"""The settings that the example servers have too."""

import os
import signal
import sys

import waitress


def secret():
    """The webhook's secret."""
    text = os.environ.get("SMARTSHAPE_WEBHOOK_SECRET")
    if not text:
        sys.exit("SMARTSHAPE_WEBHOOK_SECRET is not set: set it to the secret of the webhook")
    return text.encode()


def serve(app):
    """Serves until SIGTERM."""
    host, port = os.environ.get("LISTEN", "127.0.0.1:8042").rsplit(":", 1)
    server = waitress.create_server(app, host=host, port=int(port))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print(f"listening on http://{host}:{server.effective_port}", file=sys.stderr, flush=True)
    server.run()
