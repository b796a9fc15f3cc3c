#!/bin/sh
# Every study of real networks at its full size on one GPU, in order of importance.
# Each stops after 8 minutes at most, and goes on where it stopped when this is started again.
#
#   simulations/gpu.sh [PYTHON [OUT]]        from the root; a python that has torch with CUDA
#
# Ends with 0 if all ran to their end, whatever they found; `python -m sgdnoise verdicts` judges.
set -u
PYTHON=${1:-python}
OUT=${2:-out/gpu}
LIMIT=${LIMIT:-480}  # seconds a study
JOBS=${JOBS:-4}      # processes that share the GPU
STUDIES=${STUDIES:-layers effective_loss generalisation objective}
export OMP_NUM_THREADS=1
left=0
for name in $STUDIES; do
    timeout -s INT -k 30 "$LIMIT" "$PYTHON" "simulations/$name.py" \
        --device "${DEVICE:-cuda}" --jobs "$JOBS" --out "$OUT/$name" ${MORE:-}
    status=$?
    case $status in
        0 | 1) ;;  # its claims hold, or one of them fails
        2 | 3) exit $status ;;  # bad input, or no GPU; points that failed
        *) echo "$name: not at its end after $LIMIT s; start this again to go on" >&2 ; left=1 ;;
    esac
done
exit $left
