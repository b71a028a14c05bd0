#!/usr/bin/env bash
# All tests under the race detector. LIVENESS_STORM says how long each stress test lasts.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
export LIVENESS_STORM=${LIVENESS_STORM:-20s} CGO_ENABLED=1

echo "LIVENESS_STORM=$LIVENESS_STORM"
compiled -race ./... && go test -race -count=1 -timeout 4m ./...
