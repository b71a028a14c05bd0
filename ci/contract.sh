#!/usr/bin/env bash
# Compiles programs that were written from the design, where these lie beside the checkout: every public name has to be there.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
check=$root/../shared/tools/check-contract

[ -f "$check" ] || skip_all "no contract beside the checkout"
sh "$check" . || bad=1
# As soon as one of the names of the second part exists, all have to.
if go doc -all . | grep -qE '^(func (Watch|Conns|Totals|ReasonOf)\(|type (Dialer|Group|Reason) )'; then
	sh "$check" . surface || bad=1
else
	skip "the second part of the contract: none of its names exists"
fi
exit $bad
