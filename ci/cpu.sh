#!/usr/bin/env bash
# Other schedules: the root's short tests with one and four threads, under the race detector. race.sh runs them with two.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

export CGO_ENABLED=1
gotest -race -short -count=1 -cpu 1,4 -timeout 6m -- .
