#!/usr/bin/env bash
# The tests of the modules below the root.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

for dir in $(nested); do
	echo "== $dir"
	short=() # the whole comparison of bench takes two minutes
	[ "$dir" != ./bench ] || short=(-short)
	(cd "$dir" && twice go mod download && gotest -count=1 "${short[@]}" -timeout 3m -- ./...) || bad=1
done
[ -n "$(nested)" ] || fail "there are no nested modules"
exit $bad
