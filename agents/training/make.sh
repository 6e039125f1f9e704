#!/usr/bin/env bash
# Makes the demonstration models from nothing, from the repository's top folder:
#
#   agents/training/make.sh [RUN_FOLDER] [MODEL_FOLDER]
#
# Proves that training and held-out sets are disjoint, trains the three models at the same time, exports them, draws the
# demo's tasks and measures. MINUTES (6.5) ends the training by the clock; STEPS, where set, by count. WORKERS generate
# samples for each role (for 16 cores: 2, 6 and 5), OPTIONS go to each training, PYTHON is the interpreter.
set -euo pipefail
runs=${1:-runs/1}
models=${2:-agents/models}
python=${PYTHON:-python3}
training=agentmux.agents.training
limit=(--minutes "${MINUTES:-6.5}" --steps 100000)
[ -z "${STEPS:-}" ] || limit=(--steps "$STEPS")

mkdir -p "$runs" "$models"
"$python" -m $training.generate --prove
pids=()
for job in planner:2 coder:6 critic:5; do   # workers that generate samples, by what a role consumes
    # shellcheck disable=SC2086
    "$python" -m $training.train --role "${job%:*}" --workers "${WORKERS:-${job#*:}}" --out "$runs" "${limit[@]}" \
        ${OPTIONS:-} > "$runs/${job%:*}.log" 2>&1 &
    pids+=($!)
done
for pid in "${pids[@]}"; do wait "$pid"; done
"$python" -m $training.export --runs "$runs" --out "$models"
"$python" -m $training.demo_tasks --out agents/tasks.json
"$python" -m $training.evaluate --models "$models" --tasks "${TASKS:-400}" --page docs/demo-models.md   # on the CPU
