"""The same task for every task queue, and who offers it; runs in the environment of the queues, see queues.py.

    BENCH_QUEUE=rq BENCH_AT=DIR python -c "import queue_tasks; queue_tasks.offer(COUNT, RATE_PER_S)"     0: as fast as it goes

The consumers import this file, too. A task writes its number and the moment to DIR/done: earlier than its queue knows of
its end, to the favour of the queue. So is that no queue keeps a result.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

NAME, AT = os.environ["BENCH_QUEUE"], os.environ["BENCH_AT"]
SOCKET = f"{AT}/redis.sock"
_done = os.open(f"{AT}/done", os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def note(number: int) -> None:
    """The task."""
    os.write(_done, f"{number} {time.time()}\n".encode())


submit: Callable[[int], Any]
if NAME == "huey":
    from huey import SqliteHuey

    queue = SqliteHuey(filename=f"{AT}/huey.db", fsync=True, results=False)
    submit = queue.task()(note)
elif NAME == "celery":
    from celery import Celery

    queue = Celery("queue_tasks", broker=f"redis+socket://{SOCKET}")
    queue.conf.update(task_acks_late=True, task_ignore_result=True)
    submit = queue.task(note, name="note").delay
elif NAME == "dramatiq":
    import dramatiq
    from dramatiq.brokers.redis import RedisBroker

    dramatiq.set_broker(RedisBroker(url=f"unix://{SOCKET}"))
    submit = dramatiq.actor(note).send
elif NAME == "rq":
    from redis import Redis
    from rq import Queue

    queue = Queue(connection=Redis(unix_socket_path=SOCKET))

    def submit(number: int) -> Any:
        return queue.enqueue(note, number, result_ttl=0)


def offer(count: int, rate_per_s: float) -> None:
    """Submits that many, at their intended moments if there is a rate; prints when the first was due."""
    start = time.time() + (0.2 if rate_per_s else 0.0)
    for number in range(count):
        if rate_per_s:
            while (left_s := start + number / rate_per_s - time.time()) > 0:
                time.sleep(left_s)
        submit(number)
    print(start)
