#!/bin/sh
# Installs what drives the browser under target/dashboard once, then runs the suite.
#
#   tests/dashboard/run.sh BASE_URL ADMIN_KEY TEAM_KEY TEAM LEDGER_FILE
#
# Starts no gateway. Needs Debian's chromium and chromium-driver. Screenshots are left in target/dashboard/shots.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
installed=${CARGO_TARGET_DIR:-$here/../../target}/dashboard
if [ $# -ne 5 ]; then
  echo "usage: $0 BASE_URL ADMIN_KEY TEAM_KEY TEAM LEDGER_FILE" >&2
  exit 2
fi

# A copy of the list beside what it installed says whether that is still right.
mkdir -p "$installed/shots"
if ! cmp -s "$here/requirements.txt" "$installed/requirements.txt"; then
  python3 -m venv "$installed/venv"
  "$installed/venv/bin/pip" install --quiet -r "$here/requirements.txt"
  cp "$here/requirements.txt" "$installed/requirements.txt"
fi
SHOTS="$installed/shots" PYTHONDONTWRITEBYTECODE=1 exec "$installed/venv/bin/python" "$here/suite.py" "$@"
