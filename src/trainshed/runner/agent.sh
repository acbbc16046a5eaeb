# MPI's launch agent for containers without Python, in bash: the same calls as agent.py (which see).
failed() { printf 'trainshed: %s\n' "$1" >&2; exit 255; }

while [ "${1#-}" != "$1" ]; do shift; done
[ $# -ge 2 ] || failed "usage: agent [options] HOST COMMAND..."
host=${1##*@}; shift
place=
IFS=';' read -r -a places <<< "$TRAINSHED_AGENT_HOSTS"
for pair in "${places[@]}"; do
    [ "${pair%%=*}" != "$host" ] || place=${pair#*=}
done
[ -n "$place" ] || failed "$host is not a node of this job; its nodes are ${TRAINSHED_AGENT_HOSTS}"
address=${place%:*} port=${place##*:}

LC_ALL=C
command="$*" launch=
for ((at = 0; at < ${#command}; at++)); do
    printf -v code %d "'${command:at:1}"
    printf -v launch '%s%02x' "$launch" "$((code & 255))"
done
read -r call < /proc/sys/kernel/random/uuid
proof="\"call\":\"$call\",\"token\":\"$TRAINSHED_AGENT_TOKEN\""
{ exec 3<> "/dev/tcp/$address/$port" && exec 4<> "/dev/tcp/$address/$port" && exec 5<> "/dev/tcp/$address/$port"; } \
    2> /dev/null || failed "the runner of $host at $address:$port cannot be reached"
printf '{"launch":"%s",%s}\n' "$launch" "$proof" >&3
printf '{"attach":"stdout",%s}\n' "$proof" >&4
printf '{"attach":"stderr",%s}\n' "$proof" >&5

cat <&4 3>&- 4>&- 5>&- &
out=$!
cat <&5 >&2 3>&- 4>&- 5>&- &
err=$!
exec 4>&- 5>&-
if read -r answer <&3; then
    status=${answer#*:} status=${status//[!0-9]/}
else
    status=255
fi
# What the command left in the background may keep its output open.
( sleep 2; kill "$out" "$err" ) > /dev/null 2>&1 &
bound=$!
wait "$out" "$err" 2> /dev/null
kill "$bound" 2> /dev/null
exit "${status:-255}"
