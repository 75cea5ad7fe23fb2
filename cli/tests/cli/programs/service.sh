#!/bin/sh
# Stands for a service of the fleet: notes in $EVENTS what happens to it, and does nothing else.
name=$(basename "$0")
if [ -e "$EVENTS.broken-$name" ]; then
    echo "$name: this cannot work" >&2
    exit 1
fi
trap 'echo "$name terminated $$" >>"$EVENTS"; exit 0' TERM
echo "hello from $name"
echo "$name started $$ broker=${STOKER_BROKER_URI-none} $*" >>"$EVENTS"
# A trap waits for the command in the foreground, but not for `wait`.
exec 3<&0
cat <&3 >/dev/null 2>&1 &
wait $!
echo "$name eof $$" >>"$EVENTS"
