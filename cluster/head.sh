#!/bin/sh
# cluster/head.sh ADDRESS [FLAGS OF RAY START]: starts Ray on the first machine; ADDRESS is its own, that others reach
set -eu
address=$1
shift
: "${RAY_AUTH_MODE:?export RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH first, see docs/cluster.md}"
# trials are as urgent as other programs; and none is ended because others take memory
export RAY_worker_niceness=0 RAY_memory_monitor_refresh_ms=0 RAY_USAGE_STATS_ENABLED=0
exec "$(dirname "$0")/../.venv/bin/ray" start --head --node-ip-address="$address" --port=6379 "$@"
