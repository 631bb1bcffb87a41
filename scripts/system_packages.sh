#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs the Debian/Ubuntu packages that the build, the tests and the benches need, and only those that are missing.
# Usage: system_packages.sh PYTHON. On a system without apt-get it names what is missing and stops.
set -eu
python=$1
build="g++ pkg-config libnghttp2-dev libsimdjson-dev libprotozero-dev zlib1g-dev libre2-dev libdragonbox-dev"
load="wrk nghttp2-client libb64-0d"
servers="redis-server"
programs="curl openssl"

missing=""
for package in $build $load $servers $programs; do
  dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing="$missing $package"
done
# The distribution's Python comes without venv and headers; a Python of one's own brings both.
"$python" -c 'import ensurepip, venv' 2>/dev/null || missing="$missing python3-venv"
"$python" -c 'import pathlib, sysconfig, sys
sys.exit(not pathlib.Path(sysconfig.get_path("include"), "Python.h").exists())' || missing="$missing python3-dev"

[ -n "$missing" ] || exit 0
if ! command -v apt-get >/dev/null; then
  echo "These packages are missing, and there is no apt-get to install them:$missing" >&2
  exit 1
fi
sudo=""
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || { echo "Run as root: apt-get install$missing" >&2; exit 1; }
  sudo=sudo
fi
echo "Installing:$missing"
$sudo apt-get update -q
# shellcheck disable=SC2086
$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing
