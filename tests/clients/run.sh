#!/bin/sh
# Installs the official SDKs under target/clients once, then runs both suites.
#
#   tests/clients/run.sh DIRECT_BASE_URL [GATEWAY_BASE_URL [GATEWAY_KEY]]
#
# Starts no server. Both suites always run; the exit status is 1 if either failed.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
installed=${CARGO_TARGET_DIR:-$here/../../target}/clients
if [ $# -lt 1 ]; then
  echo "usage: $0 DIRECT_BASE_URL [GATEWAY_BASE_URL [GATEWAY_KEY]]" >&2
  exit 2
fi
export DIRECT_BASE_URL="$1"
[ $# -lt 2 ] || export GATEWAY_BASE_URL="$2"
[ $# -lt 3 ] || export GATEWAY_KEY="$3"

# A copy of the lock beside what it installed says whether that is still right.
mkdir -p "$installed/node"
if ! cmp -s "$here/python/requirements.txt" "$installed/requirements.txt"; then
  python3 -m venv "$installed/venv"
  "$installed/venv/bin/pip" install --quiet -r "$here/python/requirements.txt"
  cp "$here/python/requirements.txt" "$installed/requirements.txt"
fi
if ! cmp -s "$here/node/package-lock.json" "$installed/node/installed.json"; then
  cp "$here/node/package.json" "$here/node/package-lock.json" "$installed/node/"
  npm ci --silent --no-fund --no-audit --prefix "$installed/node"
  cp "$here/node/package-lock.json" "$installed/node/installed.json"
fi

status=0
echo "python"
PYTHONDONTWRITEBYTECODE=1 "$installed/venv/bin/python" "$here/python/suite.py" || status=1
echo "node"
CLIENT_MODULES="$installed/node" node "$here/node/suite.mjs" || status=1
exit $status
