#!/usr/bin/env bash
# Installs what longhaul needs on this machine and says so; does nothing when all is there.
set -euo pipefail
cd "$(dirname "$0")/../.."

fail() { printf 'setup: %s\n' "$1" >&2; exit 1; }

command -v node >/dev/null || fail 'Node.js is missing. Install version 20.19 or newer (https://nodejs.org).'
node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 19) ? 0 : 1)' ||
  fail "Node.js $(node --version) is too old. Install version 20.19 or newer (https://nodejs.org)."
command -v npm >/dev/null || fail 'npm is missing. It comes with Node.js; on Debian install the package npm.'
command -v "${CXX:-g++}" >/dev/null ||
  fail "no C++ compiler (${CXX:-g++}). Debian/Ubuntu: apt-get install g++ make; macOS: xcode-select --install."

# npm writes node_modules/.package-lock.json last, so it dates a complete install.
if [ ! -e node_modules/.package-lock.json ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
  echo 'setup: installing npm packages into node_modules/ (npm ci)'
  npm ci --no-fund --no-audit --loglevel=error || fail 'npm ci failed; the npm registry must be reachable.'
fi

infra/setup/redis.sh
