#!/bin/sh
# Installs what tests start for themselves, from Debian: Redis, Postgres, and a browser for the dashboard. Needs root.
#
# Starts no service; exits with 1 when a package cannot be had.
set -eu

export DEBIAN_FRONTEND=noninteractive
# Runlevel 1 keeps the packages from starting servers on the ports everybody uses.
export RUNLEVEL=1

install_them() {
    apt-get install -y -qq --no-install-recommends redis-server postgresql chromium chromium-driver
}

# The package lists may be missing or old, as in a fresh container.
install_them >/dev/null 2>&1 || { apt-get update -qq && install_them; } >/dev/null 2>&1 || exit 1
