"""Settings of gunicorn. It takes the listening socket it has been given (LISTEN_FDS), so there is no `bind` here."""

import os

workers = 2
graceful_timeout = 25
_READY = os.path.join("run", os.environ["RECONCILER_WORKER"])


def post_worker_init(worker):
    """The application has been loaded: now the readiness probe finds the file, and the rollout may go on."""
    os.makedirs("run", exist_ok=True)
    open(_READY, "w").close()
