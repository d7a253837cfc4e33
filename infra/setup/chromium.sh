#!/usr/bin/env bash
# Makes sure that there is a Chromium for the tests of the dashboard (test/browser); nothing else needs one:
#   1. chromium, chromium-browser or google-chrome on PATH: nothing to do;
#   2. as root, or with sudo that asks for no password: apt-get install;
#   3. otherwise: says what is missing, and fails.
set -euo pipefail

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

found() { command -v chromium || command -v chromium-browser || command -v google-chrome; }

found >/dev/null && exit 0

# Arguments: what to run apt-get with, such as sudo.
install_with_apt() {
  local install=(apt-get install -y -q --no-install-recommends chromium)
  say "installing Chromium (about 300 MB with its libraries) with ${*:+$* }${install[*]}"
  export DEBIAN_FRONTEND=noninteractive
  "$@" "${install[@]}" >/dev/null ||
    { "$@" apt-get update -q >/dev/null && "$@" "${install[@]}" >/dev/null; }
}

if command -v apt-get >/dev/null; then
  if [ "$(id -u)" = 0 ]; then
    install_with_apt || true
  elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    install_with_apt sudo -n || true
  fi
fi
found >/dev/null ||
  fail 'the tests of the dashboard need Chromium, and it could not be installed: that takes apt-get, and root or a sudo that asks for no password. Install chromium with the package manager of this system, or put a google-chrome on PATH.'
