#!/usr/bin/env bash
# 200 000 connections, or as many as the argument says, in one process on a stock kernel of Debian's under KVM or qemu, whose limits
# are its own: what each costs, and whether every end is reported. It takes 6 GiB and, without KVM, more than an hour, and is not part
# of the gate.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_root
mkdir "$tmp/suite"
CGO_ENABLED=0 go build -o "$tmp/suite/" ci/many.go || fail "cannot build the program"
BOOT_MEMORY=${BOOT_MEMORY:-6144} BOOT_LIMIT=${BOOT_LIMIT:-9000} ci/boot.sh "${MANY_KERNEL:-linux-image-cloud-amd64/trixie}" "$tmp/suite" \
	"run many env GOMEMLIMIT=off ./many ${1:-200000}" >"$tmp/log"
guest_results many "$tmp/log"
sed -n 's/\r$//; /^=BEGIN/,/^=END/p' "$tmp/log"
exit $bad
