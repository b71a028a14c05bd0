#!/usr/bin/env bash
# All tests as 32-bit programs.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
export GOARCH=386 CGO_ENABLED=0

compiled ./... && gotest -count=1 -timeout 3m -- ./...
