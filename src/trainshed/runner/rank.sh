#!/bin/sh
# Starts one MPI rank and tells the node's runner how it ended: launchers lie or hang about it (frameworks.md 6).
# Usage: rank.sh COMMAND [ARGUMENT...]. Writes "RANK CODE" as one line to the FIFO that $TRAINSHED_RANKS names, and a
# copy of the rank's output to stdout-RANK.txt and stderr-RANK.txt in $TRAINSHED_RANK_LOGS.
rank=${PMIX_RANK:-${OMPI_COMM_WORLD_RANK:-${PMI_RANK:--1}}}
# What today's scripts expect (torch's env:// names), from what this MPI says; what the user set stays.
RANK=${RANK:-$rank}
WORLD_SIZE=${WORLD_SIZE:-${OMPI_COMM_WORLD_SIZE:-${PMI_SIZE:-1}}}
LOCAL_RANK=${LOCAL_RANK:-${OMPI_COMM_WORLD_LOCAL_RANK:-${MPI_LOCALRANKID:-0}}}
LOCAL_WORLD_SIZE=${LOCAL_WORLD_SIZE:-${OMPI_COMM_WORLD_LOCAL_SIZE:-${MPI_LOCALNRANKS:-1}}}
export RANK WORLD_SIZE LOCAL_RANK LOCAL_WORLD_SIZE
# tee passes on what it reads at once. In a session of its own it is spared when the launcher kills the rank's group,
# keeps what the rank had said, and ends with the last writer.
copy() {
    trap '' TERM INT HUP USR1 USR2 PIPE
    exec $(command -v setsid) tee -a "$TRAINSHED_RANK_LOGS/$1-$rank.txt" 2>/dev/null
}
copies='' pipe=$TRAINSHED_RANKS-$rank
if [ -d "$TRAINSHED_RANK_LOGS" ] && mkfifo "$pipe-1" "$pipe-2" 2>/dev/null; then
    # This shell opens neither: MPI has descriptors of its own here, of any number, which the rank needs.
    copy stdout <"$pipe-1" &
    copies=$!
    copy stderr <"$pipe-2" >&2 &
    copies="$copies $!"
    "$@" <&0 >"$pipe-1" 2>"$pipe-2" &
    child=$!
    exec >/dev/null 2>&1
else
    "$@" <&0 &
    child=$!
fi
for name in TERM INT HUP USR1 USR2; do
    trap "kill -$name $child 2>/dev/null" "$name"
done
while :; do
    wait "$child"
    code=$?
    # A trapped signal interrupts wait; the rank itself may be alive.
    kill -0 "$child" 2>/dev/null || break
done
[ -p "$TRAINSHED_RANKS" ] && echo "$rank $code" >"$TRAINSHED_RANKS"
# The launcher ends its daemons once all ranks are gone: what they said must have been passed on.
for copy in $copies; do
    while kill -0 "$copy" 2>/dev/null; do wait "$copy"; done
done
[ -n "$copies" ] && rm -f "$pipe-1" "$pipe-2"
exit "$code"
