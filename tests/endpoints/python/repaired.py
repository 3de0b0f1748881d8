"""The manual's endpoint without its faults: the token before the body, no token that is costly to
check, and an answer to everything."""

import re

import bcrypt
import falcon

import serving

SECRET = serving.secret()

# Costs above 12 are rejected: whoever sends a token chooses how long it takes to check.
TOKEN = re.compile(r"\$2[aby]\$(0[4-9]|1[0-2])\$[./A-Za-z0-9]{53}", re.ASCII)

FIELDS = {
    "file": str,
    "event": str,
    "data": (dict, list),
    "owner": (str, dict),
    "runTimestamp": (int, float, str),
    "uuid": str,
}


def authentic(token):
    if token is None or TOKEN.fullmatch(token) is None:
        return False
    try:
        return bcrypt.checkpw(SECRET, token.encode())
    except ValueError:
        # The form is right, and bcrypt still does not take it.
        return False


def reject(response, status, error):
    response.status = status
    response.media = {"success": False, "error": error}


class Callback:
    def on_post(self, request, response):
        if not authentic(request.get_header("x-smartshape-token")):
            reject(response, 401, "unauthorized")
            return
        event = request.get_media()
        if isinstance(event, dict) and all(isinstance(event.get(field), kind) for field, kind in FIELDS.items()):
            response.media = {"success": True}
        else:
            reject(response, 400, "body is not a SmartShape event")


app = falcon.App()
app.add_route("/callback", Callback())
serving.serve(app)
