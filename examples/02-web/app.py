"""The application: says which version of it answers, and who."""

import os


def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"version {os.environ['VERSION']} from {os.environ['RECONCILER_WORKER']}\n".encode()]
