#!/usr/bin/busybox sh
# The init process of a kernel that boot.sh starts: it mounts what programs expect, and runs /job/commands in /suite.
export PATH=/usr/local/bin:/usr/bin:/usr/sbin HOME=/root TERM=dumb
export GOMEMLIMIT=64MiB # see broken in guest-run.sh
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

. /job/run.sh
cd /suite
. /job/commands
echo "DONE up $(cut -d' ' -f1 /proc/uptime) s"
sync
poweroff -f
