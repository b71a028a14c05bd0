#!/usr/bin/env bash
# The root's tests in unusual configurations, each in a network namespace of its own on this machine's kernel, three at a time, and
# one that only a boot sets. LIVENESS_CONFIG_RUN selects the tests.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_root
tests=${LIVENESS_CONFIG_RUN:-'^(Test(Endings|NoEndings|Check.*|Ping.*|VanishedPeer.*|PeerThat.*|KernelTimeoutIsLost|DetectWithin.*)|ExampleCheck)$'}

command -v ip >/dev/null && command -v sysctl >/dev/null || apt_install iproute2 procps
export CGO_ENABLED=0 && mkdir "$tmp/suite" "$tmp/log"
go test -c -o "$tmp/suite/liveness.test" . && GOARCH=386 go test -c -o "$tmp/suite/liveness.386" . &&
	go build -o "$tmp/seccomp" ci/seccomp.go || fail "cannot build the tests"

# config NAME SETUP [PROGRAM] runs the tests after SETUP.
names=()
config() {
	local program=${3:-$tmp/suite/liveness.test} log=$tmp/log/${#names[@]}
	[ "${#names[@]}" -lt 3 ] || wait -n
	names+=("$1")
	(cd "$tmp/suite" && timeout --foreground 160 unshare -n sh -c "ip link set lo up && $2"' && exec "$@"' sh $program -test.v -test.short \
		-test.timeout=150s -test.run="$tests" >"$log" 2>&1; echo $? >"$log.rc") &
}
config 'tcp_timestamps=0' 'sysctl -qw net.ipv4.tcp_timestamps=0'
config 'tcp_sack=0' 'sysctl -qw net.ipv4.tcp_sack=0'
config 'tcp_retries2=5' 'sysctl -qw net.ipv4.tcp_retries2=5'
skip 'tiny buffers: 60 kB unread: they do not fit there'
config 'tiny buffers' 'sysctl -qw net.ipv4.tcp_rmem="4096 4096 8192" net.ipv4.tcp_wmem="4096 4096 8192"' \
	"$tmp/suite/liveness.test -test.skip=/60_kB_unread"
config 'no IPv6 address' 'sysctl -qw net.ipv6.conf.all.disable_ipv6=1'
config 'mptcp.enabled=0' 'sysctl -qw net.mptcp.enabled=0'
config 'one processor' 'true' "taskset 1 $tmp/suite/liveness.test"
config '32-bit' 'true' "$tmp/suite/liveness.386"
config 'RLIMIT_NOFILE=64' 'ulimit -n 64' "$tmp/suite/liveness.test -test.parallel=4"
config 'seccomp of containers' 'true' "$tmp/seccomp $tmp/suite/liveness.test"
wait
for i in "${!names[@]}"; do summary "${names[i]}" "$tmp/log/$i" "$(cat "$tmp/log/$i.rc")"; done
# IPv6 is not built in at all: the family itself is unsupported.
BOOT_LIMIT=90 BOOT_APPEND=ipv6.disable=1 ci/boot.sh user-mode-linux/trixie "$tmp/suite" \
	"run liveness ./liveness.test -test.v -test.short -test.timeout=80s -test.run='^Test(Endings|Check.*)\$'" >"$tmp/log/boot" 2>&1
guest_results 'ipv6.disable=1' "$tmp/log/boot"
finish
