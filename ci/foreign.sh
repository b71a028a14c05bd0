#!/usr/bin/env bash
# Runs test suites of other projects with every accepted and dialled socket wrapped, then watched, and compares them with the
# bare run. It needs Linux, the module proxy, 1 GB in TMPDIR and about half an hour, so it is for the weekly workflow.
#
#	bash ci/foreign.sh                       every suite
#	bash ci/foreign.sh yamux net/http        these only
#	FOREIGN_LOGS=dir bash ci/foreign.sh      keeps what go test printed
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
rc=0
go run -C ci/foreign . -work "$work" -liveness "$PWD" "$@" || rc=$?
if [ -n "${FOREIGN_LOGS:-}" ]; then
	mkdir -p "$FOREIGN_LOGS"
	cp "$work"/*.json "$FOREIGN_LOGS"
fi
exit "$rc"
