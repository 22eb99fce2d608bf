#!/usr/bin/env bash
# Starts the stack of docker-compose.yml from Debian's packages (Postgres, Redis) and from this repository (a small server
# that speaks Qdrant's gRPC, because Qdrant is in no package registry), then runs the gateway's behaviour tests on it.
#
#   tests/stack.sh [CARGO TEST ARGUMENTS]
#
# Everything listens on free ports of this machine, lives in one temporary folder, and ends with the script.
set -euo pipefail

cd "$(dirname "$0")/.."
folder=$(mktemp -d)
pids=()

end() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    rm -rf "$folder"
}
trap end EXIT

skip() {
    echo "skipped: $1"
    exit 0
}

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# wait_for NAME COMMAND...: until the command succeeds, at most a minute.
wait_for() {
    local name=$1
    shift
    for _ in $(seq 600); do
        "$@" >/dev/null 2>&1 && return
        sleep 0.1
    done
    echo "$name does not start" >&2
    exit 1
}

bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -1 || true)
[ -n "$bin" ] || bin=$(dirname "$(command -v initdb 2>/dev/null || echo /)")
[ -x "$bin/initdb" ] || skip "no Postgres; install postgresql"
command -v redis-server >/dev/null || skip "no redis-server; install redis-server"

# Postgres refuses to run as root.
as_owner=()
if [ "$(id -u)" = 0 ]; then
    as_owner=(setpriv --reuid=postgres --regid=postgres --clear-groups)
    chown postgres "$folder"
fi
pg_port=$(free_port)
(cd "$folder" && "${as_owner[@]}" "$bin/initdb" --auth=trust --username=stiver --encoding=UTF8 --no-locale --no-sync \
    -D "$folder/postgres" >/dev/null)
(cd "$folder" && exec "${as_owner[@]}" "$bin/postgres" -D "$folder/postgres" -p "$pg_port" -c listen_addresses=127.0.0.1 \
    -c unix_socket_directories="$folder" -c fsync=off -c max_connections=1000 >"$folder/postgres.log" 2>&1) &
pids+=($!)

redis_port=$(free_port)
(cd "$folder" && exec redis-server --port "$redis_port" --bind 127.0.0.1 --save "" --appendonly no --databases 10000 \
    >"$folder/redis.log" 2>&1) &
pids+=($!)

cargo build --example qdrant-server
"${CARGO_TARGET_DIR:-target}/debug/examples/qdrant-server" >"$folder/qdrant.url" &
pids+=($!)

wait_for Postgres "$bin/pg_isready" -h 127.0.0.1 -p "$pg_port"
wait_for Redis redis-cli -p "$redis_port" ping
wait_for Qdrant test -s "$folder/qdrant.url"

export STIVER_TEST_POSTGRES="postgres://stiver:stiver@127.0.0.1:$pg_port"
export STIVER_TEST_REDIS="redis://127.0.0.1:$redis_port"
STIVER_TEST_QDRANT=$(cat "$folder/qdrant.url")
export STIVER_TEST_QDRANT
cargo test --test gateway "$@"
