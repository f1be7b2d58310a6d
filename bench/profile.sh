#!/usr/bin/env bash
# Takes CPU profiles of two regions and their client under the load of compare.sh, and
# makes cmd/antipode/default.pgo of them, by which `go build` decides what to inline.
# To be run now and then after the data path has changed.
#
# Environment: SECONDS_EACH=30 PORT=17900 WORK=bin (a folder on a disk)
set -euo pipefail
cd "$(dirname "$0")/.."
SECONDS_EACH=${SECONDS_EACH:-30} PORT=${PORT:-17900}
[ -x bin/antipode ] || { echo "profile: no bin/antipode; run make build" >&2; exit 1; }
mkdir -p "${WORK:=bin}"
WORK=$(mktemp -d "$WORK/profile.XXXXXX")
up=
finish() { if [ -n "$up" ]; then kill -TERM "$up" 2>/dev/null || true; wait "$up" || true; fi; up=; }
trap 'finish; rm -rf "$WORK"' EXIT
trap 'exit 130' INT TERM

export ANTIPODE_PROFILE=$WORK
bin/antipode up --data "$WORK/data" --base-port "$PORT" --wan off >"$WORK/log" 2>&1 &
up=$!
ANTIPODE_PROFILE='' bin/antipode status --data "$WORK/data" --wait 30s >/dev/null || { cat "$WORK/log" >&2; exit 1; }
for workload in write mix; do
  bin/antipode bench --data "$WORK/data" --region oregon --table carts --workload "$workload" --fill --lag-samples 0 \
    --warmup 1s --duration "${SECONDS_EACH}s" -o json >/dev/null
done
finish
go tool pprof -proto "$WORK"/*.pprof >cmd/antipode/default.pgo
ls -l cmd/antipode/default.pgo
