#!/usr/bin/env bash
# All tests under the race detector, with two threads; cpu.sh has other numbers. LIVENESS_STORM says how long each stress test lasts.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
export LIVENESS_STORM=${LIVENESS_STORM:-10s} CGO_ENABLED=1

echo "LIVENESS_STORM=$LIVENESS_STORM"
compiled -race ./... && gotest -race -count=1 -cpu 2 -timeout 6m -- ./...
