#!/bin/sh
# A warm worker in sh: a line is a task (with depth: 1 always one), a line is an answer. stderr is its log.
echo '{"ready": true}'
while read -r task; do
    id=$(printf '%s' "$task" | sed 's/.*"id":"\([0-9]*\)".*/\1/')
    text=$(printf '%s' "$task" | sed 's/.*"payload":"\([^"]*\)".*/\1/' | tr a-z A-Z)
    echo "task $id" >&2
    printf '{"id": "%s", "ok": true, "result": "%s"}\n' "$id" "$text"
done
