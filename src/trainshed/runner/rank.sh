#!/bin/sh
# Starts one rank for MPI or torchrun and tells the node's runner of its beginning and its end: launchers lie or hang
# about it (frameworks.md 6). It starts in the working directory of its own node, where launchers would take that of the
# first. Usage: rank.sh COMMAND [ARGUMENT...].
# To the FIFO that $TRAINSHED_RANKS names it writes the lines "RANK began -" and "RANK CODE SIGNAL"; SIGNAL is what the
# launcher had asked it to end with, or "-" when the rank ended by itself. A copy of the rank's output goes to
# stdout-RANK.txt and stderr-RANK.txt in $TRAINSHED_RANK_LOGS.
# It costs each start some milliseconds, nearly all of them for other programs: hence so few of those.
if [ -n "$TRAINSHED_RANK_DIRECTORY" ]; then cd "$TRAINSHED_RANK_DIRECTORY" || exit 1; fi
rank=${PMIX_RANK:-${OMPI_COMM_WORLD_RANK:-${PMI_RANK:-${RANK:--1}}}}
# What today's scripts expect (torch's env:// names), from what this MPI says; what the user or torchrun set stays.
RANK=${RANK:-$rank}
WORLD_SIZE=${WORLD_SIZE:-${OMPI_COMM_WORLD_SIZE:-${PMI_SIZE:-1}}}
LOCAL_RANK=${LOCAL_RANK:-${OMPI_COMM_WORLD_LOCAL_RANK:-${MPI_LOCALRANKID:-0}}}
LOCAL_WORLD_SIZE=${LOCAL_WORLD_SIZE:-${OMPI_COMM_WORLD_LOCAL_SIZE:-${MPI_LOCALNRANKS:-1}}}
export RANK WORLD_SIZE LOCAL_RANK LOCAL_WORLD_SIZE
# gpusPerProcess: this rank's part of its node's GPUs (toolkits/gpus.py).
part() {
    number=0 found=''
    for device; do
        if [ "$number" -ge "$first" ] && [ "$number" -le "$last" ]; then found="$found,$device"; fi
        number=$((number + 1))
    done
    found=${found#,}
}
if [ -n "${TRAINSHED_GPUS_PER_PROCESS:-}" ]; then
    first=$((LOCAL_RANK * TRAINSHED_GPUS_PER_PROCESS))
    last=$((first + TRAINSHED_GPUS_PER_PROCESS - 1))
    if [ -z "${CUDA_VISIBLE_DEVICES:-}" ]; then
        number=0 CUDA_VISIBLE_DEVICES=''
        while [ "$number" -le "$last" ]; do
            CUDA_VISIBLE_DEVICES="$CUDA_VISIBLE_DEVICES,$number"
            number=$((number + 1))
        done
    fi
    IFS=,
    for name in CUDA_VISIBLE_DEVICES ROCR_VISIBLE_DEVICES HIP_VISIBLE_DEVICES; do
        eval "all=\${$name:-}; all=\${all#,}"
        [ -n "$all" ] && part $all && eval "export $name=\$found"
    done
    unset IFS
fi
[ -p "$TRAINSHED_RANKS" ] && echo "$rank began -" >"$TRAINSHED_RANKS"
# tee passes on what it reads at once. In a session of its own it is spared when the launcher kills the rank's group,
# keeps what the rank had said, and ends with the last writer.
command -v setsid >/dev/null && session=setsid || session=''
copy() {
    trap '' TERM INT HUP USR1 USR2 PIPE
    exec $session tee -a "$TRAINSHED_RANK_LOGS/$1-$rank.txt" 2>/dev/null
}
# Of this process alone: torchrun starts a rank again, and what is left of the first may still write.
copies='' pipe=$TRAINSHED_RANKS-$rank-$$
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
asked=-
forward() {
    # A rank that has ended, and whose end is not known here yet, was not asked to.
    read -r state <"/proc/$child/stat"
    case ${state##*) } in Z*) ;; *) asked=$1 ;; esac
    # torchrun signals the whole group, the rank included.
    [ -n "${TORCHELASTIC_RUN_ID:-}" ] || kill -"$1" "$child"
} 2>/dev/null
for name in TERM INT HUP USR1 USR2; do
    trap "forward $name" "$name"
done
while :; do
    wait "$child"
    code=$?
    # A trapped signal interrupts wait; the rank itself may be alive.
    kill -0 "$child" 2>/dev/null || break
done
[ -p "$TRAINSHED_RANKS" ] && echo "$rank $code $asked" >"$TRAINSHED_RANKS"
if [ -n "$copies" ]; then
    rm -f "$pipe-1" "$pipe-2" &
    copies="$copies $!"
fi
# The launcher ends its daemons once all ranks are gone: what they said must have been passed on.
for copy in $copies; do
    while kill -0 "$copy" 2>/dev/null; do wait "$copy"; done
done
exit "$code"
