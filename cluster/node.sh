#!/bin/sh
# cluster/node.sh HEAD:PORT [FLAGS OF RAY START]: joins the cluster whose first machine was started by head.sh
set -eu
head=$1
shift
: "${RAY_AUTH_MODE:?export RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH first, see docs/cluster.md}"
export RAY_worker_niceness=0 RAY_memory_monitor_refresh_ms=0 RAY_USAGE_STATS_ENABLED=0
exec "$(dirname "$0")/../.venv/bin/ray" start --address="$head" "$@"
