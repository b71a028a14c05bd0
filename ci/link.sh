#!/usr/bin/env bash
# The long set of tests on lossy and slow links, which the tests build themselves from namespaces and TUN devices.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
export LIVENESS_LINK=${LIVENESS_LINK:-30s} # how long each row of live peers lasts

links() { go test -count=1 -v -timeout 30m -parallel "$1" -run "$2" . >"$tmp/log" 2>&1; }
links 6 '^TestLinkLong$' || bad=$?
rows=$(sed -n 's|^ *--- FAIL: TestLinkLong/\([^ ]*\) .*|\1|p' "$tmp/log" | sed 's/[().%]/./g' | paste -sd '|')
if [ "$bad" != 0 ] && [ -n "$rows" ]; then # beside less: the relay must not be late
	said FAIL "$tmp/log"
	bad=0
	links 2 "^TestLinkLong\$/^($rows)\$" && echo "FLAKY: $rows failed, and passed beside less" || bad=$?
fi
summary "links, LIVENESS_LINK=$LIVENESS_LINK" "$tmp/log" "$bad"
