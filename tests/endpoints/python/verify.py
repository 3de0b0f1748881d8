"""Verifies a Standard Webhooks request: a line of JSON with the headers, then the body. Exits with 3 if it is not signed."""

import json
import os
import sys

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

headers, body = sys.stdin.buffer.read().split(b"\n", 1)
try:
    event = Webhook(os.environ["SECRET"]).verify(body, json.loads(headers))
except WebhookVerificationError:
    sys.exit(3)
assert event["event"] == "file_uploaded", event
