#!/usr/bin/env bash
# What `make test-gpu` runs, each part under a time limit: kernels, golden cases and NCCL (build/native/tests-cuda), then the
# whole pipeline with two ranks: the demo, deaths, a document of 128K tokens. It needs what `make cuda` built and the app:
# a bundle unpacked into build/bundle, or dist/. Nothing is left out silently: each part that could not run is named, and
# then this fails, unless ONE_GPU=1 says that one GPU is all there is.
#   TESTS=pattern   only these of the native tests, and nothing after them
#   ROUNDS=10       deaths at each point
#   MODEL=folder    where the checkpoint of 16.5 GB is made (default: /dev/shm/longhaul-llama, removed afterwards)
set -uo pipefail
cd "$(dirname "$0")/../.."

missing=0
failed=0
not_run() { printf 'NOT RUN: %s\n' "$*"; missing=$((missing + 1)); }
fail() { printf 'test-gpu: %s\n' "$*" >&2; exit 1; }

# Arguments: seconds, name, command.
part() {
  local limit=$1 name=$2 begun=$SECONDS
  shift 2
  printf '== %s\n' "$name"
  timeout --kill-after=20 "$limit" "$@"
  local rc=$?
  case $rc in
    0) printf 'ok   %s, %d s\n' "$name" $((SECONDS - begun)) ;;
    124 | 137) printf 'FAIL %s: not within %d s\n' "$name" "$limit"; failed=$((failed + 1)) ;;
    *) printf 'FAIL %s: exit code %d\n' "$name" "$rc"; failed=$((failed + 1)) ;;
  esac
}

gpus=$(nvidia-smi -L 2>/dev/null | grep -c '^GPU') || true
[ "${gpus:-0}" -gt 0 ] || fail 'no GPU is there (nvidia-smi -L lists none)'
[ -x build/native/tests-cuda ] || fail 'build/native/tests-cuda is not there; run `make cuda` where nvcc is and bring build/native'
printf 'test-gpu: %d GPUs\n' "$gpus"

part 400 'kernels, golden cases, NCCL' build/native/tests-cuda ${TESTS:+"$TESTS"}
[ "$gpus" -ge 2 ] || not_run 'NCCL between two GPUs (there is one)'
if [ -n "${TESTS:-}" ]; then exit $((failed > 0)); fi

bundle=build/bundle/longhaul
node=node
if [ -x "$bundle/runtime/node" ]; then
  node=$bundle/runtime/node
  # A bundle that was packed without the demo model uses the checkout's.
  for folder in models demo; do [ -e "$bundle/$folder" ] || ln -s "$PWD/$folder" "$bundle/$folder"; done
elif [ ! -f dist/cli/main.js ]; then
  fail 'the app is not there; unpack a bundle (infra/bundle/bundle.sh) into build/bundle, or run `make build`'
fi
comm=nccl
if [ "$gpus" -lt 2 ]; then
  comm=tcp
  not_run 'the pipeline over NCCL (there is one GPU; its two ranks share it, over tcp)'
fi

part 300 'the demo through the queue' "$node" test/gpu/pipeline.js --comm $comm
part 900 'a rank killed, again and again' "$node" test/gpu/death.js --comm $comm --rounds "${ROUNDS:-10}"

tokenizer=.longhaul/test-data/tokenizers/llama3_1-3.7.2
model=${MODEL:-/dev/shm/longhaul-llama}
room=$(df --output=avail -B1G "$(dirname "$model")" | tail -n 1)
if [ "$gpus" -lt 2 ]; then
  not_run 'a document of 128K tokens on an 8B model (two ranks of 16 GB of weights each need two GPUs)'
elif [ ! -f $tokenizer/tokenizer.json ]; then
  not_run "a document of 128K tokens on an 8B model ($tokenizer is not there; infra/setup/test-data.sh fetches it)"
elif [ ! -f "$model/config.json" ] && [ "$room" -lt 18 ]; then
  not_run "a document of 128K tokens on an 8B model ($room GB are free for $model and 18 are needed; name a folder with MODEL=)"
else
  part 600 'a document of 128K tokens on an 8B model' "$node" test/gpu/long_document.js --comm $comm --model "$model" --tokenizer $tokenizer
  [ -n "${MODEL:-}" ] || rm -rf "$model"
fi

printf 'test-gpu: %d failed, %d not run\n' "$failed" "$missing"
[ "$failed" -eq 0 ] || exit 1
[ "$missing" -eq 0 ] || [ "${ONE_GPU:-}" = 1 ] || { echo 'test-gpu: what was not run counts as a failure; on a machine with one GPU set ONE_GPU=1'; exit 1; }
