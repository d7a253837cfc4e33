#!/usr/bin/env bash
# One whole run: train, heads, export, evaluate. Run `python3 -m training.smoke` first. Training goes
# on where a stopped run was.
#   training/run.sh RUN FILLER SPACED [STAGES] [EXTEND] [HEAD_SECONDS] [EVAL_SECONDS] [DOCUMENTS]
set -euo pipefail
run=$1 filler=$2 spaced=$3
stages=${4:-[[512,256,200,0.0015],[2048,64,140,0.001],[8192,16,150,0.0008],[32768,4,150,0.0006]]}
extend=${5:-0} head_seconds=${6:-60} eval_seconds=${7:-1000} documents=${8:-64}
python=${PYTHON:-python3}
$python -m training.train --out "$run" --filler "$filler" --spaced "$spaced" --stages "$stages" --extend "$extend"
$python -m training.demo_heads --out "$run" --filler "$filler" --seconds "$head_seconds"
$python -m training.export --out "$run" --to "$run/model"
$python -m training.evaluate --model "$run/model" --filler "$filler" --to "$run/results" \
    --seconds "$eval_seconds" --documents "$documents" 2>&1 | tee -a "$run/evaluation.log"
