"""M3: a secret is in the environment of the supervisor and of its workers; where else does it turn up?

every file the supervisor has written is searched, and what its commands show
"""

from __future__ import annotations

import stat
from pathlib import Path

from figure import OURS, Board, Measured, Plan, Values, goal
from mistakes import SECRET, Service, at_work, sides

NAME = "M3"
WHAT = (
    "a secret in the environment of the workers: in how many files, and in how many answers of its commands it stands"
)
WEB, API = Service("web", 100_001), Service("api", 100_002)
READABLE = "files others can read"


def run(plan: Plan) -> Measured:
    board = Board(plan)
    board.rounds(sides(_search, board), rounds=1)  # it is counted, not timed
    return board.measured(
        [goal(what, board.median(OURS, what), must=0, aim=0) for what in ("files", READABLE, "answers")]
    )


def _search(side: str) -> Values:
    with at_work(side, (WEB, API)) as (peer, directory):
        answers = [text for text in peer.answers() if SECRET in text]
        found = [path for path in directory.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
        return {
            "files": ("", len(found)),
            READABLE: ("", len([path for path in found if _readable(path, directory)])),
            "answers": ("", len(answers)),
        }


def _readable(path: Path, directory: Path) -> bool:
    """Whether others may read the file and pass all directories down to it."""
    above = [parent for parent in path.parents if directory in parent.parents]
    return bool(path.stat().st_mode & stat.S_IROTH) and all(p.stat().st_mode & stat.S_IXOTH for p in above)
