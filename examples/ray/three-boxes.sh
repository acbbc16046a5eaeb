#!/bin/bash
# Three machines become a Ray cluster for Trainshed. Run on the first of them, which you reach the others from by SSH.
# All see the same directory at the same path (NFS, for example) and have the same versions of Python and Ray.
set -euo pipefail

here=${1:?usage: three-boxes.sh ADDRESS-OF-THIS-MACHINE BOX... ; boxes as ssh takes them}
shift
shared=${SHARED:-/shared/trainshed}
token=$HOME/.ray/auth_token

# Whoever has the token may run anything on all machines.
if [ ! -s "$token" ]; then
    mkdir -p "${token%/*}"
    (umask 077 && ray get-auth-token --generate >"$token")
fi

# The head gives no CPUs to jobs: it keeps Ray's books, and Trainshed's service runs beside it.
RAY_AUTH_MODE=token ray start --head --node-ip-address="$here" --port=6379 --num-cpus=0 --num-gpus=0 \
    --include-dashboard=false --disable-usage-stats

for box in "$@"; do
    ssh "$box" 'mkdir -p ~/.ray && umask 077 && cat > ~/.ray/auth_token' <"$token"
    # Whole machines are given to jobs; the resource names those that are meant.
    ssh "$box" "test -w $shared && RAY_AUTH_MODE=token ray start --address=$here:6379 --resources='{\"box\": 1}'"
done

trainshed engine add ray boxes --address "$here:6379" --directory "$shared"
echo "Now (re)start the service, and: trainshed cluster create lab --engine boxes --engine-option resource=box"
