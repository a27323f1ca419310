#!/bin/sh
# Places the orders of a file with curl, exactly once: sh examples/place.sh [orders.json]
#
# TRADER_URL and TRADER_KEY say where and as whom; `make run` prints both. KEY is the idempotency key: the same key with
# the same file never places twice, so a run whose answer was lost is repeated with the KEY it printed.
set -eu

file=${1:-$(dirname "$0")/orders.json}
key=${KEY:-place-$(date +%Y%m%dT%H%M%S)-$$-$(od -An -N6 -tx1 /dev/urandom | tr -d ' \n')}
: "${TRADER_URL:?is the address of the coordinator, such as http://127.0.0.1:8000}"
: "${TRADER_KEY:?is the key of a trader}"
echo "idempotency key: $key" >&2

# Trying again is safe because each try carries the same key. The trader's key comes by standard input, since every user
# of this machine can read a command line.
exec curl --silent --show-error --fail-with-body --retry 5 --retry-connrefused --max-time 30 \
    --header @- --header "Idempotency-Key: $key" --header "Prefer: wait=15" \
    --header "Content-Type: application/json" --data-binary "@$file" \
    "$TRADER_URL/v2/orders/multi" <<HEADER
Authorization: Bearer $TRADER_KEY
HEADER
