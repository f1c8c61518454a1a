"""The tables of the store, and how each version of them becomes the next."""

from __future__ import annotations

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE meta (one INTEGER PRIMARY KEY CHECK (one = 1), id TEXT NOT NULL, boot_id TEXT NOT NULL,"
        " revision INTEGER NOT NULL, next_task_id INTEGER NOT NULL)",
        "CREATE TABLE object (kind TEXT NOT NULL, name TEXT NOT NULL, json TEXT NOT NULL, PRIMARY KEY (kind, name))"
        " WITHOUT ROWID",
        "CREATE TABLE event (id INTEGER PRIMARY KEY, json TEXT NOT NULL)",
        # spec stands last: it may be large, and what is read of every live task lies before it
        "CREATE TABLE task (id INTEGER PRIMARY KEY, pool TEXT NOT NULL, state TEXT NOT NULL,"
        " submitted_ms INTEGER NOT NULL, max_attempts INTEGER NOT NULL, timeout_ms INTEGER NOT NULL,"
        " idempotency_key TEXT, digest TEXT, on_unknown_fail INTEGER NOT NULL, attempts INTEGER NOT NULL,"
        " claim INTEGER NOT NULL, due_ms INTEGER NOT NULL, started_ms INTEGER NOT NULL, finished_ms INTEGER NOT NULL,"
        " exit_code INTEGER, signal TEXT, reason TEXT, message TEXT NOT NULL, slot INTEGER NOT NULL,"
        " cancelling INTEGER NOT NULL, spec TEXT NOT NULL)",
        "CREATE INDEX task_by_state ON task (pool, state)",
        "CREATE UNIQUE INDEX task_by_key ON task (pool, idempotency_key) WHERE idempotency_key IS NOT NULL",
    ),
    (
        # made anew, not altered: added columns would stand behind spec
        "ALTER TABLE task RENAME TO old_task",
        "CREATE TABLE task (id INTEGER PRIMARY KEY, pool TEXT NOT NULL, state TEXT NOT NULL,"
        " submitted_ms INTEGER NOT NULL, max_attempts INTEGER NOT NULL, timeout_ms INTEGER NOT NULL,"
        " idempotency_key TEXT, digest TEXT, on_unknown_fail INTEGER NOT NULL, priority INTEGER NOT NULL,"
        " tenant TEXT, key TEXT, deadline_ms INTEGER NOT NULL, attempts INTEGER NOT NULL,"
        " claim INTEGER NOT NULL, due_ms INTEGER NOT NULL, started_ms INTEGER NOT NULL, finished_ms INTEGER NOT NULL,"
        " exit_code INTEGER, signal TEXT, reason TEXT, message TEXT NOT NULL, slot INTEGER NOT NULL,"
        " cancelling INTEGER NOT NULL, result TEXT, spec TEXT NOT NULL)",
        "INSERT INTO task SELECT id, pool, state, submitted_ms, max_attempts, timeout_ms, idempotency_key, digest,"
        " on_unknown_fail, 100, NULL, NULL, 0, attempts, claim, due_ms, started_ms, finished_ms, exit_code, signal,"
        " reason, message, slot, cancelling, NULL, spec FROM old_task",
        "DROP TABLE old_task",
        "CREATE INDEX task_by_state ON task (pool, state)",
        "CREATE UNIQUE INDEX task_by_key ON task (pool, idempotency_key) WHERE idempotency_key IS NOT NULL",
        # ended tasks that have been dropped are still counted
        "CREATE TABLE dropped (pool TEXT NOT NULL, state TEXT NOT NULL, number INTEGER NOT NULL,"
        " PRIMARY KEY (pool, state)) WITHOUT ROWID",
    ),
    (
        "ALTER TABLE task RENAME TO old_task",
        "CREATE TABLE task (id INTEGER PRIMARY KEY, pool TEXT NOT NULL, state TEXT NOT NULL,"
        " submitted_ms INTEGER NOT NULL, max_attempts INTEGER NOT NULL, timeout_ms INTEGER NOT NULL,"
        " idempotency_key TEXT, digest TEXT, on_unknown_fail INTEGER NOT NULL, priority INTEGER NOT NULL,"
        " tenant TEXT, key TEXT, deadline_ms INTEGER NOT NULL, attempts INTEGER NOT NULL,"
        " claim INTEGER NOT NULL, due_ms INTEGER NOT NULL, started_ms INTEGER NOT NULL, finished_ms INTEGER NOT NULL,"
        " exit_code INTEGER, signal TEXT, reason TEXT, message TEXT NOT NULL, slot INTEGER NOT NULL,"
        " cancelling INTEGER NOT NULL, result TEXT, tries TEXT, spec TEXT NOT NULL)",
        "INSERT INTO task SELECT id, pool, state, submitted_ms, max_attempts, timeout_ms, idempotency_key, digest,"
        " on_unknown_fail, priority, tenant, key, deadline_ms, attempts, claim, due_ms, started_ms, finished_ms,"
        " exit_code, signal, reason, message, slot, cancelling, result, NULL, spec FROM old_task",
        "DROP TABLE old_task",
        "CREATE INDEX task_by_state ON task (pool, state)",
        "CREATE UNIQUE INDEX task_by_key ON task (pool, idempotency_key) WHERE idempotency_key IS NOT NULL",
    ),
    (
        # what the order of a pool's tasks knows of tasks that have ended: shares, levels, averages
        "CREATE TABLE remembered (pool TEXT NOT NULL, name TEXT NOT NULL, text TEXT NOT NULL,"
        " PRIMARY KEY (pool, name)) WITHOUT ROWID",
    ),
)
"""Each entry brings the schema from version n to n + 1; `user_version` says where a file stands."""
