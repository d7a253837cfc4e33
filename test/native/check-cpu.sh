#!/usr/bin/env bash
# Checks the CPU backend on another machine, such as one with AVX-512: builds the backend's tests and
# benchmark with g++ alone (no node_modules), runs them, prints everything. Under 90 seconds.
#
#   git archive HEAD | ssh MACHINE 'mkdir longhaul && cd longhaul && tar x && test/native/check-cpu.sh'
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
root=$PWD
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

lscpu | grep -E '^(Model name|CPU\(s\)|L1d|L2|L3|Flags)' || true
g++ --version | head -1

# Only the backend's sources: other parts of a tree in work cannot break the check.
build() {
  make -C native -s -j8 OUT="$out" TESTS=backend \
    SOURCES="$(echo "$root"/native/backends/cpu/*.cpp)" \
    CHECKS="$root/test/native/main.cpp $(echo "$root"/test/native/backend_*.cpp)" "$@"
}
status=0
build test || status=$?
build "$out/bench"
for isa in portable avx2 avx512; do
  if [ "$isa" = portable ] || grep -qw "${isa/avx512/avx512f}" /proc/cpuinfo; then
    "$out/bench" "$isa"
  else
    echo "this processor has no $isa"
  fi
done
exit "$status"
