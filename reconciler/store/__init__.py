"""Where everything meets: live objects in memory, SQLite as their durable log.

`base` says what a store does and what a task's record is; `memory` is the whole semantics without a disk; `sqlite` is
`memory` with a log. Never here: policy, processes, HTTP.
"""
