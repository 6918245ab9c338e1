#!/bin/sh
# Hook of Claude Code: runs archive.py without waiting for it, because even the start of Python delays the turn.
# The parent waits until its pipes are closed, so the child must not inherit them.
event=$(cat)
(
    trap '' HUP INT
    printf '%s' "$event" | python3 -I -S "${0%/*}/archive.py"
) </dev/null >/dev/null 2>&1 &
