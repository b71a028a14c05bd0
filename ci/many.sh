#!/usr/bin/env bash
# 200 000 connections, or as many as the argument says, in one process on a kernel of Debian's under user-mode Linux, whose limits
# are its own: what each costs, and whether every end is reported. It takes some minutes and 8 GiB, and is not part of the gate.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_root
mkdir "$tmp/suite"
CGO_ENABLED=0 go build -o "$tmp/suite/" ci/many.go || fail "cannot build the program"
BOOT_MEMORY=${BOOT_MEMORY:-8192} BOOT_LIMIT=${BOOT_LIMIT:-1500} ci/boot.sh "user-mode-linux/${LIVENESS_KERNELS:-trixie}" "$tmp/suite" \
	"run many ./many ${1:-200000}" >"$tmp/log"
guest_results "user-mode-linux" "$tmp/log"
sed -n 's/\r$//; /^=BEGIN/,/^=END/p' "$tmp/log"
exit $bad
