#!/usr/bin/env bash
# Packs everything that longhaul needs to run on a Linux machine without a package registry: Node, redis-server with
# its libraries, the built app with its packages, the demo model. Needs `make build`, and `make cuda` for the CUDA backend.
#   infra/bundle/bundle.sh [--without-models] [OUT]        OUT: default build/longhaul-bundle.tar.xz
# --without-models leaves out the demo model, the demo's texts and the golden cases, for where a checkout has them.
# There: `tar -xf longhaul-bundle.tar.xz && longhaul/longhaul doctor`. The machine needs the processor of this one and
# a C library that is at least as new.
set -euo pipefail
cd "$(dirname "$0")/../.."
models=yes
if [ "${1-}" = --without-models ]; then models=; shift; fi
out=${1:-build/longhaul-bundle.tar.xz}

say() { printf 'bundle: %s\n' "$*"; }
fail() { printf 'bundle: %s\n' "$*" >&2; exit 1; }

[ -f dist/cli/main.js ] && [ -f build/native/longhaul.node ] || fail 'dist/ or the addon is missing; run `make build` first'
[ -f build/native/libapb_cuda.so ] || say 'without the CUDA backend: build/native/libapb_cuda.so is not there (make cuda)'
redis=$(command -v redis-server || echo .longhaul/tools/redis/redis-server)
[ -x "$redis" ] || fail 'redis-server is missing; run infra/setup/redis.sh first'

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
top=$work/longhaul
mkdir -p "$top/runtime/lib" "$top/build/native"

say 'installing the packages that run, without those that only build'
cp package.json package-lock.json "$top/"
npm ci --prefix "$top" --omit=dev --ignore-scripts --no-audit --no-fund --silent
# Other platforms' binaries, and what only editors read.
find "$top/node_modules" \( -name '*.map' -o -name '*.d.ts' -o -name '*.d.mts' -o -name '*.d.cts' -o -name '*.md' \) -type f -delete
arch=$(node -p process.arch)
find "$top/node_modules" -name '*.node' -type f | grep -v "linux-$arch[/.-]" | xargs -r rm
find "$top/node_modules" -name '*musl*.node' -type f -delete
rm -rf "$top/node_modules/typescript"

cp -r bin dist "$top/"
if [ -n "$models" ]; then
  mkdir "$top/test"
  cp -r models demo "$top/"
  cp -r test/cases "$top/test/"
fi
cp build/native/longhaul.node build/native/longhaul-probe "$top/build/native/"
[ ! -f build/native/libapb_cuda.so ] || cp build/native/libapb_cuda.so "$top/build/native/"

cp "$(readlink -f "$(command -v node)")" "$top/runtime/node"
cp "$(readlink -f "$redis")" "$top/runtime/redis-server.bin"
ldd "$top/runtime/redis-server.bin" | awk '$3 ~ /^\// {print $3}' | grep -vE '/(libc|libm|libpthread|libdl|librt)\.so' |
  xargs -I{} cp -L {} "$top/runtime/lib/"
strip "$top/runtime/node" "$top/build/native/"* 2>/dev/null || true

cat > "$top/runtime/redis-server" <<'END'
#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
LD_LIBRARY_PATH=$here/lib exec "$here/redis-server.bin" "$@"
END
cat > "$top/longhaul" <<'END'
#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
PATH=$here/runtime:$PATH exec "$here/runtime/node" "$here/bin/longhaul.js" "$@"
END
chmod +x "$top/runtime/redis-server" "$top/longhaul"
say "packing $(du -sh "$top" | cut -f1)"
mkdir -p "$(dirname "$out")"
tar -C "$work" -cf - longhaul | xz -T0 -4 > "$out.partial"
mv "$out.partial" "$out"
say "$out, $(du -h "$out" | cut -f1)"
