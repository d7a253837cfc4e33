#!/usr/bin/env bash
# Installs longhaul from this checkout on Debian 13 or a system like it, as root. Images (infra/docker) and bare
# machines (infra/systemd) are made by it alike:
#   infra/install.sh [--prefix DIR] build   compiles it into DIR (/opt/longhaul); needs the npm registry
#   infra/install.sh [--prefix DIR] run     what it runs with: Node.js, tini, the user `longhaul`; checks that it starts
#   infra/install.sh [--prefix DIR]         both
# A Node.js on PATH that is new enough is used; Debian's is installed otherwise. The CUDA backend is built where nvcc is.
set -euo pipefail
cd "$(dirname "$0")/.."
prefix=/opt/longhaul
# One number for files in volumes of every machine.
uid=10001

say() { printf 'install: %s\n' "$*"; }
fail() { printf 'install: %s\n' "$*" >&2; exit 1; }

# Arguments: Debian packages.
packages() {
  local missing=() package
  for package in "$@"; do
    dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
  done
  [ "${#missing[@]}" -gt 0 ] || return 0
  say "apt-get install ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -q >/dev/null || fail 'apt-get update failed; check the network and /etc/apt/sources.list'
  apt-get install -y -q --no-install-recommends "${missing[@]}" >/dev/null ||
    fail "apt-get could not install ${missing[*]}"
}

new_enough() {
  command -v node >/dev/null &&
    node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 19) ? 0 : 1)'
}

# Arguments: packages beside nodejs when Debian's is to be used.
need_node() {
  new_enough && return
  packages nodejs "$@"
  hash -r
  new_enough ||
    fail "Node.js $(node --version) of this system is too old; longhaul needs 20.19 or newer. Use Debian 13, or put a newer one on PATH."
}

build() {
  need_node npm
  packages g++ make ca-certificates
  command -v npm >/dev/null || fail 'Node.js is here without npm; put npm on PATH too.'
  say 'npm ci'
  npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
  say 'compiling the engine'
  make -s -j"$(getconf _NPROCESSORS_ONLN)" -C native
  if command -v nvcc >/dev/null; then
    say 'compiling the CUDA backend'
    make -s -j"$(getconf _NPROCESSORS_ONLN)" -C native cuda
  fi
  npm run --silent build

  say "installing into $prefix"
  local new=$prefix.new file
  rm -rf "$new"
  mkdir -p "$new/build/native"
  cp package.json package-lock.json LICENSE "$new/"
  cp -r bin dist models "$new/"
  for file in longhaul.node longhaul-probe libapb_cuda.so; do
    [ ! -f "build/native/$file" ] || cp "build/native/$file" "$new/build/native/"
  done
  cp infra/docker/health.js "$new/"
  npm ci --prefix "$new" --omit=dev --ignore-scripts --no-audit --no-fund --loglevel=error
  # Renamed last: a folder of this name is complete.
  rm -rf "$prefix"
  mv "$new" "$prefix"
}

run() {
  need_node
  packages ca-certificates tini
  [ -f "$prefix/bin/longhaul.js" ] || fail "$prefix has no longhaul; run infra/install.sh build first, or copy it there."
  getent group longhaul >/dev/null || groupadd --system --gid "$uid" longhaul
  getent passwd longhaul >/dev/null ||
    useradd --system --uid "$uid" --gid longhaul --home-dir /var/lib/longhaul --shell /usr/sbin/nologin longhaul
  install -d -o longhaul -g longhaul -m 750 /var/lib/longhaul
  # Settings of a bare machine, secrets among them.
  install -d -o root -g longhaul -m 750 /etc/longhaul
  ln -sf "$prefix/bin/longhaul.js" /usr/local/bin/longhaul
  chmod 755 "$prefix/bin/longhaul.js"
  # On a machine, not in an image. Nothing is enabled.
  if [ -d infra/systemd ] && [ -d /run/systemd/system ]; then
    install -m 644 infra/systemd/* /etc/systemd/system/
    systemctl daemon-reload
  fi
  say "longhaul $(longhaul --version) in $prefix"
}

while [ $# -gt 0 ]; do
  case $1 in
    --prefix) prefix=${2:?a directory}; shift 2 ;;
    build | run) phase=$1; shift ;;
    *) fail "unknown argument $1; infra/install.sh [--prefix DIR] [build | run]" ;;
  esac
done
[ "$(id -u)" = 0 ] || fail 'run it as root: it installs packages and makes a user.'
command -v apt-get >/dev/null || fail 'there is no apt-get here; this script is for Debian 13 and systems like it.'
case ${phase-both} in
  build) build ;;
  run) run ;;
  both) build; run ;;
esac
