#!/usr/bin/env bash
# The root's tests in unusual configurations, each in a network namespace of its own on this machine's kernel, and two that only a
# boot sets. LIVENESS_CONFIG_RUN selects the tests.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_root
tests=${LIVENESS_CONFIG_RUN:-'^Test(Endings|Check|ResetIsNoTimeout)$'}

export CGO_ENABLED=0
mkdir "$tmp/suite"
go test -c -o "$tmp/suite/liveness.test" . && go build -o "$tmp/seccomp" ci/seccomp.go || fail "cannot build the tests"
GOARCH=386 go test -c -o "$tmp/suite/liveness.386" . || fail "cannot build the tests"

# config NAME SETUP [PROGRAM] runs the tests after SETUP.
config() {
	local rc=0 program=${3:-$tmp/suite/liveness.test}
	(cd "$tmp/suite" && timeout --foreground 100 unshare -n sh -c "ip link set lo up && $2"' && exec "$@"' sh $program -test.v -test.short \
		-test.timeout=90s -test.run="$tests") >"$tmp/log" 2>&1 || rc=$?
	summary "$1" "$tmp/log" "$rc"
}
config 'tcp_timestamps=0' 'sysctl -qw net.ipv4.tcp_timestamps=0'
config 'tcp_sack=0' 'sysctl -qw net.ipv4.tcp_sack=0'
config 'tcp_retries2=5' 'sysctl -qw net.ipv4.tcp_retries2=5'
skip 'tiny buffers: TestEndings: it writes 33 kB that nothing reads, which do not fit there'
tests='^Test(Check|ResetIsNoTimeout|Ping)$' config 'tiny buffers' 'sysctl -qw net.ipv4.tcp_rmem="4096 4096 8192" net.ipv4.tcp_wmem="4096 4096 8192"'
config 'no IPv6 address' 'sysctl -qw net.ipv6.conf.all.disable_ipv6=1'
config 'mptcp.enabled=0' 'sysctl -qw net.mptcp.enabled=0'
config 'one processor' 'true' "taskset 1 $tmp/suite/liveness.test"
config '32-bit' 'true' "$tmp/suite/liveness.386"
config 'RLIMIT_NOFILE=64' 'ulimit -n 64' "$tmp/suite/liveness.test -test.parallel=4"
config 'seccomp of containers' 'true' "$tmp/seccomp $tmp/suite/liveness.test"
# IPv6 is not built in at all: the family itself is unsupported.
BOOT_LIMIT=90 BOOT_APPEND=ipv6.disable=1 ci/boot.sh user-mode-linux/trixie "$tmp/suite" \
	"run liveness ./liveness.test -test.v -test.short -test.timeout=80s -test.run='$tests'" >"$tmp/log" 2>&1
guest_results 'ipv6.disable=1' "$tmp/log"
exit $bad
