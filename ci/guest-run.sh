#!/usr/bin/busybox sh
# What guest.sh runs commands with.

# broken STATUS says that a program ended through no fault of its own: by a fault of memory without a word, which Go would report, or
# because user-mode Linux found no more memory on its host, where each page of a program takes one of vm.max_map_count.
broken() {
	case $1 in
	0) return 1 ;;
	139) grep -q -e SIGSEGV -e '^panic' -e 'fatal error' /tmp/log || return 0 ;;
	esac
	dmesg -c | grep -q 'memory on the host'
}

# run NAME COMMAND... runs a test binary. A test that fails is run again, alone: a kernel that is emulated on a busy machine may
# have had too little of the processor. What fails again is a failure, what does not is flaky.
run() {
	name=$1; shift
	start=$(cut -d. -f1 /proc/uptime)
	"$@" >/tmp/log 2>&1; rc=$?
	if broken "$rc"; then
		"$@" >/tmp/log 2>&1; rc=$?
		echo "--- FLAKY: $name (ended by what emulates its processor)" >>/tmp/log
	fi
	failed=$(sed -n 's/^--- FAIL: \([^ ]*\) .*/\1/p' /tmp/log)
	left=$failed
	for t in $failed; do
		timeout 120 "$@" -test.run="^$t\$" >/tmp/again 2>&1 || { sed 's/^/again: /' /tmp/again >>/tmp/log; continue; }
		sed -i "s|--- FAIL: \($t[/ ]\)|--- FLAKY: \1|" /tmp/log
		left=$(echo "$left" | grep -vx "$t")
	done
	[ -z "$failed" ] || [ -n "$left" ] || rc=0
	echo "=BEGIN $name"
	cat /tmp/log
	echo "=END $rc $(($(cut -d. -f1 /proc/uptime) - start))"
}
