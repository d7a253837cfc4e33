#!/usr/bin/env bash
# Makes sure that there is a redis-server, 6.2 or newer, for tests and `longhaul local up`:
#   1. on PATH: nothing to do;
#   2. as root, or with sudo that asks for no password: apt-get install;
#   3. macOS: brew install;
#   4. Debian or Ubuntu without root: the packages unpacked into .longhaul/tools/redis, nothing installed.
# src/local and the tests find it on PATH or in .longhaul/tools/redis.
set -euo pipefail
cd "$(dirname "$0")/../.."
tools=$PWD/.longhaul/tools/redis

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

# The version of a redis-server, if it runs and is new enough.
usable() {
  local version
  version=$("$1" --version 2>/dev/null | sed -n 's/.*v=\([0-9][0-9.]*\).*/\1/p') || return 1
  [ -n "$version" ] || return 1
  [ "$(printf '6.2\n%s\n' "$version" | sort -V | head -n 1)" = 6.2 ]
}

if command -v redis-server >/dev/null; then
  usable redis-server && exit 0
  fail "$(command -v redis-server) is too old or does not run; longhaul needs 6.2 or newer. Replace it, or remove it from PATH and run this again."
fi
# Tests make clusters by redis-cli; the packages of Debian and Homebrew have both.
if [ -x "$tools/redis-cli" ] && [ -x "$tools/redis-server" ] && usable "$tools/redis-server"; then exit 0; fi

# Arguments: what to run apt-get with, such as sudo.
install_with_apt() {
  local install=(apt-get install -y -q --no-install-recommends redis-server)
  say "installing redis-server with ${*:+$* }${install[*]}"
  # No service is wanted: longhaul starts its own server in its own folder.
  export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
  "$@" "${install[@]}" >/dev/null ||
    { "$@" apt-get update -q >/dev/null && "$@" "${install[@]}" >/dev/null; }
}

# Downloads and unpacks; needs no right to install anything.
unpack_debs() {
  local work
  work=$(mktemp -d)
  trap 'rm -rf "$work"' RETURN
  say "no root: unpacking redis-server and its libraries into $tools (about 1.5 MB, nothing is installed)"
  (cd "$work" && apt-get download -q redis-server redis-tools libjemalloc2 liblzf1 libatomic1 >/dev/null) || return 1
  rm -rf "$tools"
  mkdir -p "$tools"
  local deb
  for deb in "$work"/*.deb; do dpkg -x "$deb" "$tools"; done
  local tool
  for tool in redis-server redis-cli; do
    cat >"$tools/$tool" <<WRAPPER
#!/bin/sh
# Written by infra/setup/redis.sh: the unpacked $tool with its own libraries.
here=\$(cd "\$(dirname "\$0")" && pwd)
for folder in "\$here"/usr/lib/* "\$here"/lib/*; do
  [ -d "\$folder" ] && LD_LIBRARY_PATH=\$folder\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}
done
export LD_LIBRARY_PATH
exec "\$here/usr/bin/$tool" "\$@"
WRAPPER
    chmod +x "$tools/$tool"
  done
}

if command -v apt-get >/dev/null; then
  if [ "$(id -u)" = 0 ]; then
    install_with_apt || true
  elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    install_with_apt sudo -n || true
  fi
  if command -v redis-server >/dev/null && usable redis-server; then exit 0; fi
  unpack_debs || true
  if [ -x "$tools/redis-server" ] && usable "$tools/redis-server"; then exit 0; fi
  fail 'redis-server could not be installed with apt-get nor downloaded with apt-get download. Check the network and /etc/apt/sources.list, or put a redis-server 6.2 or newer on PATH.'
elif [ "$(uname -s)" = Darwin ] && command -v brew >/dev/null; then
  say 'installing redis with Homebrew'
  brew install --quiet redis
  command -v redis-server >/dev/null || fail 'brew install redis went through, but redis-server is not on PATH; run `brew link redis`.'
else
  fail 'redis-server is missing, and neither apt-get nor Homebrew is here to get it. Install redis-server 6.2 or newer with the package manager of this system and put it on PATH.'
fi
