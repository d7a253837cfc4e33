#!/usr/bin/env bash
# `make pack-check`: the package as a stranger gets it. Packs, lets npm install the tarball into an empty folder, and runs
# `npx longhaul demo` there, which builds the engine first. Takes some minutes, and the npm registry.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
npm pack --silent --pack-destination "$work"
mkdir "$work/empty"
cd "$work/empty"
npm install --no-fund --no-audit --loglevel=error "$work"/longhaul-*.tgz
npx --no-install longhaul --version
npx --no-install longhaul demo --ranks "${RANKS:-2}"
