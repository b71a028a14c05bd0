#!/usr/bin/busybox sh
# The init process of a kernel that boot.sh starts: it mounts what programs expect, and runs /job/commands in /suite.
export PATH=/usr/local/bin:/usr/bin:/usr/sbin HOME=/root TERM=dumb
bb=/usr/bin/busybox
$bb mount -t tmpfs tmp /tmp
$bb mkdir -p /tmp/bin && $bb --install -s /tmp/bin && export PATH=/usr/bin:/usr/sbin:/tmp/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
[ -c /dev/null ] || mknod -m 666 /dev/null c 1 3
mkdir -p /dev/shm /dev/pts
mount -t devpts pts /dev/pts 2>/dev/null
ln -sf /proc/self/fd /dev/fd
dmesg -n 1
for m in ipv6 veth tun nf_tables nft_reject_ipv4 nft_reject_inet nf_nat tcp_diag sch_netem; do modprobe -q "$m"; done
ip link set lo up
hostname guest
echo "KERNEL $(uname -r), $(grep -c ^processor /proc/cpuinfo) processors, up $(cut -d' ' -f1 /proc/uptime) s"

# run NAME COMMAND... runs a test binary. A test that fails is run again, alone: a kernel that is emulated on a busy machine may
# have had too little of the processor. What fails again is a failure, what does not is flaky.
run() {
	name=$1; shift
	start=$(cut -d. -f1 /proc/uptime)
	"$@" >/tmp/log 2>&1; rc=$?
	if [ $rc = 139 ] && ! grep -q -e SIGSEGV -e '^panic' -e 'fatal error' /tmp/log; then
		# Go reports a fault of a program itself. One that comes without a word is the emulated processor's.
		"$@" >/tmp/log 2>&1; rc=$?
		echo "--- FLAKY: segmentation_fault (without a report)" >>/tmp/log
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
cd /suite
. /job/commands
echo "DONE up $(cut -d' ' -f1 /proc/uptime) s"
sync
poweroff -f
