#!/usr/bin/env bash
# The long set of tests on lossy and slow links, which the tests build themselves from namespaces and TUN devices.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
export LIVENESS_LINK=${LIVENESS_LINK:-long}

go test -list '^TestLink' . | grep -q '^TestLink' || skip_all "there are no tests of lossy links"
go test -count=1 -v -timeout 9m -run '^TestLink' . >"$tmp/log" 2>&1 || bad=$?
summary "links, LIVENESS_LINK=$LIVENESS_LINK" "$tmp/log" "$bad"
