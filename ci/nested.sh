#!/usr/bin/env bash
# The tests of the modules below the root.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

for dir in $(nested); do
	echo "== $dir"
	(cd "$dir" && twice go mod download && gotest -count=1 -timeout 3m -- ./...) || bad=1
done
[ -n "$(nested)" ] || fail "there are no nested modules"
exit $bad
