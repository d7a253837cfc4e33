#!/usr/bin/env bash
# Makes sure that there is a promtool for the tests of infra/prometheus; nothing else needs one:
#   1. on PATH, or in .longhaul/tools/promtool: nothing to do;
#   2. Debian or Ubuntu: the package prometheus unpacked into .longhaul/tools, of which this one program is kept. Nothing is
#      installed and no server started, so no root is needed;
#   3. macOS: brew install prometheus;
#   4. otherwise: says what is missing, and fails.
set -euo pipefail
cd "$(dirname "$0")/../.."
tool=$PWD/.longhaul/tools/promtool

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

works() { "$1" --version >/dev/null 2>&1; }

works promtool && exit 0
works "$tool" && exit 0

unpack_deb() {
  local work rc=0
  work=$(mktemp -d)
  # apt-get may download as a user of its own.
  chmod 755 "$work"
  (
    set -e
    cd "$work"
    apt-get download -q prometheus >/dev/null 2>&1
    dpkg -x prometheus_*.deb .
    mkdir -p "$(dirname "$tool")"
    cp usr/bin/promtool "$tool.new"
    mv "$tool.new" "$tool"
  ) || rc=$?
  rm -rf "$work"
  return "$rc"
}

if command -v apt-get >/dev/null; then
  say "unpacking promtool from Debian's package prometheus into .longhaul/tools (a download of 50 MB; nothing is installed)"
  unpack_deb || {
    [ "$(id -u)" != 0 ] || apt-get update -q >/dev/null
    unpack_deb || true
  }
elif [ "$(uname -s)" = Darwin ] && command -v brew >/dev/null; then
  say 'installing prometheus, which has promtool, with Homebrew'
  brew install --quiet prometheus
fi
works promtool || works "$tool" ||
  fail 'the tests of infra/prometheus need promtool, and it could not be had: that takes apt-get download of the package prometheus (as root: apt-get update first). Put a promtool of Prometheus 2.40 or newer on PATH.'
