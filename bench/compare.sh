#!/usr/bin/env bash
# Acknowledged durable writes per second of antipode, PostgreSQL 15 and Redis 7, one after the other on
# the same disk with the same load: CLIENTS clients, VALUE-byte values, KEYS keys, each write fsynced
# before its answer. Everything runs on loopback out of a temporary folder and ends with this script;
# services of the system are neither used nor touched.
#
#   bench/compare.sh            all three, ROUNDS times, medians
#   ONLY="postgres redis" …     some of them
#
# Environment: CLIENTS=64 VALUE=256 KEYS=100000 SECONDS_EACH=20 WARMUP=3 ROUNDS=3 WORK=bin (a folder on
# the disk to measure) WAN=off TABLE=carts REGION=oregon PORT=17900
# ONLY="antipode postgres postgres_replica redis"
#
# PostgreSQL's load comes from pgbench and Redis's from redis-benchmark, each the leanest client there is
# for it. antipode's comes from `antipode bench`, signatures included. All share the machine with their servers,
# and none does in its load what the others don't: antipode's links emulate no distance, because the other
# copies are on loopback too (WAN=geo does emulate it), and its bench does not follow writes to the other region.
# Every store starts with all keys in place.
set -euo pipefail
cd "$(dirname "$0")/.."

CLIENTS=${CLIENTS:-64} VALUE=${VALUE:-256} KEYS=${KEYS:-100000} SECONDS_EACH=${SECONDS_EACH:-20} WARMUP=${WARMUP:-3}
ROUNDS=${ROUNDS:-3} WAN=${WAN:-off} TABLE=${TABLE:-carts} REGION=${REGION:-oregon} PORT=${PORT:-17900}
ONLY=${ONLY:-antipode postgres postgres_replica redis}
PGBIN=${PGBIN:-/usr/lib/postgresql/15/bin}

mkdir -p "${WORK:=bin}"
WORK=$(mktemp -d "$WORK/compare.XXXXXX")
WORK=$(cd "$WORK" && pwd)
pids=()

say() { printf '%s\n' "$*" >&2; }

# Ends what this script started, by its process ids, newest first, and waits for it.
stop_all() {
  local i
  for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
    kill -TERM "${pids[i]}" 2>/dev/null || true # background jobs of a script ignore SIGINT
  done
  for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
    for _ in $(seq 100); do kill -0 "${pids[i]}" 2>/dev/null || break; sleep 0.1; done
    kill -KILL "${pids[i]}" 2>/dev/null || true
  done
  pids=()
}
finish() { stop_all; rm -rf "$WORK"; }
trap finish EXIT
trap 'exit 130' INT TERM

# Waits up to 30 s until a command succeeds.
until_ok() {
  for _ in $(seq 300); do "$@" >/dev/null 2>&1 && return 0; sleep 0.1; done
  say "compare: gave up waiting for: $*"; return 1
}

# Prints one result: NAME OPS_PER_SECOND P50_MS P99_MS P99.9_MS
result() { printf '%s %.0f %.2f %.2f %.2f\n' "$@" | tee -a "$WORK/results" >&2; }

# --- PostgreSQL: single-row upserts, synchronous_commit=on ------------------------------------------------

# PostgreSQL refuses to run as root, so root runs it as the user that its package made, or as nobody.
as_db() {
  if [ "$(id -u)" != 0 ]; then "$@"; else runuser -u "$db_user" -- "$@"; fi
}

# Without a second copy, as most know it; and with one, which is what the others do.
run_postgres() { postgres postgres; }
run_postgres_replica() { postgres postgres_replica; }

# Starts the server whose data is in $data/$1.
start_postgres() {
  (cd "$data" && as_db "$PGBIN/pg_ctl" -D "$data/$1" -l "$data/$1.log" -w start) >"$WORK/pg_ctl.log" 2>&1 || { cat "$WORK/pg_ctl.log" "$data/$1.log" >&2; return 1; }
  pids+=("$(head -1 "$data/$1/postmaster.pid")")
}

streaming() { [ "$("${psql[@]}" -c 'select state from pg_stat_replication')" = streaming ]; }

# A copy that streams what the server at port $port writes, and makes it durable, without being waited for.
start_standby() {
  (cd "$data" && as_db "$PGBIN/pg_basebackup" -h "$data" -p "$port" -U bench -D "$data/standby" -R -X stream -c fast)
  echo "port = $((PORT + 4))" >>"$data/standby/postgresql.conf"
  start_postgres standby
  until_ok streaming
}

postgres() {
  [ -x "$PGBIN/postgres" ] || { say "compare: no PostgreSQL in $PGBIN, skipped (apt-get install postgresql-15)"; return 0; }
  local data=$WORK/postgres port=$((PORT + 1)) db_user=postgres psql rows
  id "$db_user" >/dev/null 2>&1 || db_user=nobody
  mkdir -p "$data"
  if [ "$(id -u)" = 0 ]; then chmod 711 "$WORK"; chown "$db_user" "$data"; fi
  as_db test -x "$data" || { say "compare: $db_user can't reach $data, PostgreSQL skipped; set WORK to a folder that others may enter"; return 0; }
  (
    cd "$data"
    as_db "$PGBIN/initdb" -D "$data/db" -U bench --auth=trust -E UTF8 --locale=C >"$WORK/initdb.log" 2>&1 || { cat "$WORK/initdb.log" >&2; exit 1; }
  )
  # Its defaults, but for memory, and for checkpoints, which are kept out of a short run: that favours it.
  cat >>"$data/db/postgresql.conf" <<CONF
listen_addresses = '127.0.0.1'
port = $port
unix_socket_directories = '$data'
max_connections = $((CLIENTS + 20))
shared_buffers = 512MB
synchronous_commit = on
fsync = on
max_wal_size = 8GB
checkpoint_timeout = 30min
CONF
  start_postgres db
  psql=("$PGBIN/psql" -h "$data" -p "$port" -U bench -d postgres -qAtX)
  "${psql[@]}" -c "create table kv (id bigint primary key, v text not null)" \
    -c "insert into kv select i, repeat('x', $VALUE) from generate_series(1, $KEYS) i" -c checkpoint
  if [ "$1" = postgres_replica ]; then start_standby; fi
  cat >"$data/upsert.sql" <<SQL
\\set id random(1, $KEYS)
insert into kv values (:id, lpad(:id::text, $VALUE, 'x')) on conflict (id) do update set v = excluded.v;
SQL
  local load=("$PGBIN/pgbench" -h 127.0.0.1 -p "$port" -U bench -n -M prepared -c "$CLIENTS" -j 2 -f "$data/upsert.sql")
  "${load[@]}" -T "$WARMUP" postgres >/dev/null 2>&1
  # Latencies are of one transaction in ten, so that writing them down costs the client next to nothing.
  rows=$(cd "$data" && rm -f "$WORK"/pg.* && "${load[@]}" -T "$SECONDS_EACH" -l --sampling-rate=0.1 --log-prefix="$WORK/pg" postgres 2>/dev/null |
    awk '/^tps =/ { print $3 }')
  # The third column of the log is the latency in microseconds.
  # shellcheck disable=SC2046
  result "$1" "$rows" $(cat "$WORK"/pg.* | awk '{ print $3 / 1000 }' | sort -n | quantiles)
  rm -f "$WORK"/pg.*
  stop_all
}

# Reads sorted numbers, prints the 50th, 99th and 99.9th percentile.
quantiles() { awk '{ v[NR] = $1 } END { n = NR; print v[int(n * .5) + 1], v[int(n * .99) + 1], v[int(n * .999) + 1] }'; }

# --- Redis: SET, appendfsync always, one replica that does the same ---------------------------------------

run_redis() {
  command -v redis-server >/dev/null && command -v redis-benchmark >/dev/null ||
    { say "compare: no redis-server, skipped (apt-get install redis-server)"; return 0; }
  local port=$((PORT + 2)) name
  for name in primary replica; do
    mkdir -p "$WORK/redis-$name"
    local conf=(--bind 127.0.0.1 --dir "$WORK/redis-$name" --daemonize no --save '' --appendonly yes
      --appendfsync always --auto-aof-rewrite-percentage 0 --protected-mode yes)
    if [ "$name" = primary ]; then
      redis-server --port "$port" "${conf[@]}" >"$WORK/redis-$name.log" 2>&1 &
    else
      redis-server --port $((port + 1)) "${conf[@]}" --replicaof 127.0.0.1 "$port" >"$WORK/redis-$name.log" 2>&1 &
    fi
    pids+=($!)
    until_ok redis-cli -p "$([ "$name" = primary ] && echo "$port" || echo $((port + 1)))" ping
  done
  until_ok sh -c "redis-cli -p $((port + 1)) info replication | grep -q master_link_status:up"
  local load=(redis-benchmark -h 127.0.0.1 -p "$port" -c "$CLIENTS" -d "$VALUE" -r "$KEYS" -t set --csv)
  # All keys, named as redis-benchmark names them.
  awk -v n="$KEYS" -v v="$(printf "%${VALUE}s" | tr ' ' x)" 'BEGIN { for (i = 0; i < n; i++) printf "SET key:%012d %s\r\n", i, v }' |
    redis-cli -p "$port" --pipe >/dev/null
  # redis-benchmark takes a number of requests, not a time: the warm-up says how many make the time.
  local warm rate
  warm=$("${load[@]}" -n 50000 | tail -1 | cut -d, -f2 | tr -d '"')
  rate=$(awk -v r="$warm" -v s="$SECONDS_EACH" 'BEGIN { printf "%d", r * s + 1000 }')
  # Columns: test, rps, average, min, p50, p95, p99, max. It gives no p99.9, so the maximum stands there.
  # shellcheck disable=SC2046
  result redis $("${load[@]}" -n "$rate" | tail -1 | tr -d '"' | awk -F, '{ print $2, $5, $7, $8 }')
  stop_all
}

# --- antipode: PutItem in one region, replicating to the others -------------------------------------------

run_antipode() {
  [ -x bin/antipode ] || { say "compare: no bin/antipode; run make build"; return 1; }
  local data=$WORK/antipode out
  mkdir -p "$data"
  bin/antipode up --data "$data" --base-port "$PORT" --wan "$WAN" >"$WORK/antipode.log" 2>&1 &
  pids+=($!)
  bin/antipode status --data "$data" --wait 30s >/dev/null || { cat "$WORK/antipode.log" >&2; return 1; }
  out=$(bin/antipode bench --data "$data" --region "$REGION" --table "$TABLE" --workload write --clients "$CLIENTS" \
    --item-bytes "$VALUE" --keys "$KEYS" --fill --lag-samples 0 --warmup "${WARMUP}s" --duration "${SECONDS_EACH}s" -o json)
  printf '%s\n' "$out" >>"$WORK/antipode.json"
  # shellcheck disable=SC2046
  result antipode $(printf '%s' "$out" | python3 -c '
import json, sys
r = json.load(sys.stdin)
print(r["per_second"], r["write"]["p50_ms"], r["write"]["p99_ms"], r["write"]["p999_ms"])
print("errors:", r["errors"], file=sys.stderr) if r.get("errors") else None')
  stop_all
  rm -rf "$data"
}

# ----------------------------------------------------------------------------------------------------------

say "compare: $CLIENTS clients, $VALUE-byte values, $KEYS keys, $SECONDS_EACH s each, $ROUNDS rounds, $(nproc) cores, load average $(cut -d' ' -f1-3 /proc/loadavg), in $WORK"
touch "$WORK/results"
for ((round = 1; round <= ROUNDS; round++)); do
  for what in $ONLY; do "run_$what"; rm -rf "$WORK/postgres" "$WORK"/redis-*/; done
done

# Medians, and ratios to antipode where it ran.
sort -k1,1 -k2,2n "$WORK/results" | awk '
  { n[$1]++; for (i = 2; i <= 5; i++) v[$1, n[$1], i] = $i; if (!($1 in at)) { at[$1] = ++names; name[names] = $1 } }
  END {
    printf "%-16s %14s %10s %10s %10s %16s\n", "", "writes/s", "p50 ms", "p99 ms", "p99.9 ms", "antipode is"
    for (k = 1; k <= names; k++) { s = name[k]; m[s] = int((n[s] + 1) / 2) }
    for (k = 1; k <= names; k++) {
      s = name[k]; ops = v[s, m[s], 2]
      ratio = ("antipode" in at) && ops > 0 ? sprintf("%.2f x", v["antipode", m["antipode"], 2] / ops) : "-"
      printf "%-16s %14d %10.2f %10.2f %10.2f %16s\n", s, ops, v[s, m[s], 3], v[s, m[s], 4], v[s, m[s], 5], ratio
    }
    if ("redis" in at) print "(redis-benchmark gives no p99.9: that column is its maximum)"
  }'
