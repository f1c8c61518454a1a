"""F14: how long `validate` takes for 2,000 documents, whole process."""

from __future__ import annotations

import subprocess
import tempfile
import time
from functools import partial
from pathlib import Path

from figure import OURS, Board, Measured, Plan, Values, goal, percentile
from product import COMMAND

NAME = "F14"
WHAT = "validate of 2,000 documents, whole process (median of 5)"
TIMES = 5
DOCUMENTS = 2000
DOCUMENT = """\
apiVersion: reconciler/v1
kind: Pool
metadata:
  name: web-{index}
  labels: {{team: shop, tier: front}}
spec:
  replicas: 6
  template:
    command: [/usr/bin/gunicorn, --bind, "unix:/run/shop/$(RECONCILER_WORKER).sock", "shop.wsgi"]
    workingDir: /srv/shop/current
    user: www-data
    env:
      - {{name: SHOP, value: "{index}"}}
      - {{name: LEVEL, value: info}}
    stop: {{signal: SIGTERM, gracePeriod: 30s}}
    logs: {{maxSize: 10Mi, maxFiles: 5}}
  restart: {{policy: OnFailure, backoff: {{initial: 1s, factor: 2, max: 60s}}}}
  strategy: {{maxUnavailable: 1, minReady: 5s}}
"""


def run(plan: Plan) -> Measured:
    board = Board(plan)
    with tempfile.TemporaryDirectory() as directory:
        many, few = Path(directory, "many"), Path(directory, "few")
        many.mkdir()
        few.mkdir()
        documents = [DOCUMENT.format(index=index) for index in range(DOCUMENTS)]
        for index, document in enumerate(documents):
            (many / f"{index}.yaml").write_text(document)
        for first in range(0, DOCUMENTS, 500):
            (few / f"{first}.yaml").write_text("---\n".join(documents[first : first + 500]))
        places = {f"{OURS}, 4 files": few, f"{OURS}, 2,000 files": many}
        board.rounds({name: partial(_took, place) for name, place in places.items()}, clean=False)
    return board.measured(
        [
            goal("4 files s", board.median(f"{OURS}, 4 files", "took"), must=1.5, aim=0.8),
            goal("2,000 files s", board.median(f"{OURS}, 2,000 files", "took"), must=1.5, aim=0.8),
        ]
    )


def _took(place: Path) -> Values:
    took_s = []
    for _ in range(TIMES):
        began = time.monotonic()
        subprocess.run([*COMMAND, "validate", str(place)], check=True, capture_output=True, timeout=60)
        took_s.append(time.monotonic() - began)
    return {"took": ("s", percentile(took_s, 0.5))}
