#!/usr/bin/env bash
# The README's test command, within its limit once everything is compiled; then the examples, one of which ends by itself.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
limit=150 # seconds: a minute on an idle machine, and what a busy one adds

go version
twice go mod download && go test -exec true ./... >"$tmp/log" 2>&1 || { cat "$tmp/log"; fail "the tests do not compile"; }
begin=$SECONDS
gotest -count=1 -- ./... || bad=1
took=$((SECONDS - begin))
echo "go test ./... took $took s"
[ "$took" -le "$limit" ] || fail "that is more than $limit s"
go build -o "$tmp/" ./examples/... && timeout -k 5 60 go run ./examples/vanish || bad=1
exit $bad
