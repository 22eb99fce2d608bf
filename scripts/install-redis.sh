#!/bin/sh
# Installs redis-server from Debian, for tests that start one of their own. Needs root.
#
# Starts no service; exits with 1 when the package cannot be had.
set -eu

export DEBIAN_FRONTEND=noninteractive
# Runlevel 1 keeps the package from starting a server on the port everybody uses.
export RUNLEVEL=1

install_it() {
    apt-get install -y -qq --no-install-recommends redis-server
}

# The package lists may be missing or old, as in a fresh container.
install_it >/dev/null 2>&1 || { apt-get update -qq && install_it; } >/dev/null 2>&1 || exit 1
