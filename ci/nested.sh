#!/usr/bin/env bash
# The tests of the modules below the root.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

for dir in $(nested); do
	echo "== $dir"
	(cd "$dir" && twice go mod download && go test -count=1 -timeout 2m ./...) || bad=1
done
[ -n "$(nested)" ] || fail "there are no nested modules"
exit $bad
