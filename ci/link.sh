#!/usr/bin/env bash
# The long set of tests on lossy and slow links, which the tests build themselves from namespaces and TUN devices.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
export LIVENESS_LINK=${LIVENESS_LINK:-30s} # how long each row of live peers lasts

go test -list '^TestLink' . | grep -q '^TestLink' || skip_all "there are no tests of lossy links"
go test -count=1 -v -timeout 30m -parallel 6 -run '^TestLinkLong$' . >"$tmp/log" 2>&1 || bad=$?
summary "links, LIVENESS_LINK=$LIVENESS_LINK" "$tmp/log" "$bad"
