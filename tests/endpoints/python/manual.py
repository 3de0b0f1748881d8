"""An endpoint in the spirit of SmartShape's manual, with the faults of its sample."""

import json

import bcrypt
import falcon

import serving

SECRET = serving.secret()


class Callback:
    def on_post(self, request, response):
        json.load(request.bounded_stream)
        token = request.get_header("x-smartshape-token")
        if not bcrypt.checkpw(SECRET, token.encode()):
            # Faulty on purpose: falcon reads `status`, so this answers 200.
            response.statusCode = 400
            return
        response.media = {"success": True}


app = falcon.App()
app.add_route("/callback", Callback())
serving.serve(app)
