#!/bin/sh
# A warm worker in sh: a line is a task (with depth: 1 always one), a line is an answer. stderr is its log.
echo '{"ready": true}'
while read -r task; do
    id=$(printf '%s' "$task" | sed 's/.*"id":"\([0-9]*\)".*/\1/')
    text=$(printf '%s' "$task" | sed -n 's/.*"payload":"\([^"\\]*\)".*/=\1/p' | tr a-z A-Z)
    echo "task $id" >&2
    if [ -n "$text" ]; then
        printf '{"id": "%s", "ok": true, "result": "%s"}\n' "$id" "${text#=}"
    else # every line is answered: a worker that answers with anything else is replaced
        printf '{"id": "%s", "ok": false, "error": "the payload must be a string without quotes"}\n' "$id"
    fi
done
