#!/usr/bin/env bash
# Boots a Linux kernel of a Debian suite and runs test binaries on it. The log goes to standard output.
#
#	boot.sh KERNEL/SUITE DIR COMMAND...
#
# KERNEL is a package, user-mode-linux or linux-image-*; DIR appears as /suite there. Each COMMAND is a line of shell, in which
# "run NAME PROGRAM..." counts tests. Environment: BOOT_APPEND (more of the kernel's command line), BOOT_CPUS, BOOT_MEMORY (MiB),
# BOOT_LIMIT (seconds), BOOT_ACCEL (kvm or tcg, instead of what works here). Needs root.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
kernel=${1%/*} suite=${1#*/} dir=$2
shift 2
need_root
base=$cache/guest image=$cache/kernels/$kernel-$suite
kvm_works() { [ -w /dev/kvm ] && grep -qE '^flags.* (vmx|svm)' /proc/cpuinfo; } # a nested /dev/kvm may lack what a kernel needs

# prepare downloads the kernel and the programs beside it, once a week at most.
prepare() {
	[ -n "$(find "$base/ready" -mtime -7 2>/dev/null)" ] || {
		rm -rf "$base"
		unpack trixie "$base" install busybox-static iproute2 nftables kmod
		mkdir -p "$base"/{etc,dev,proc,sys,tmp,run,root,job,suite,usr/lib/modules}
		echo 'root:x:0:0:root:/root:/bin/sh' >"$base/etc/passwd"
		printf '127.0.0.1 localhost\n::1 localhost\n' >"$base/etc/hosts"
		ln -sf busybox "$base/usr/bin/sh"
		touch "$base/ready"
	}
	[ -n "$(find "$image/ready" -mtime -7 2>/dev/null)" ] || {
		rm -rf "$image"
		case $kernel in
		user-mode-linux) # with the libc of its own suite: it fails with an older one, and with a much newer one
			unpack "$suite" "$image" download "$kernel" libc6 libgcc-s1 && mv "$image/usr/lib/uml/modules" "$image/usr/lib/" &&
				mkdir -p "$image"/{dev,proc,tmp,guest} ;;
		*) unpack "$suite" "$image" install "$kernel" ;; # since Linux 7 the image is an empty package beside others
		esac
		chmod -R u+w "$image" && touch "$image/ready"
	}
}
(flock 9 && prepare) 9>"$cache.lock" || exit 1
version=$(basename "$(find "$image/usr/lib/modules/" -mindepth 1 -maxdepth 1 -name '[0-9]*' | head -n 1)")
mkdir "$tmp/job"
cp ci/guest.sh "$tmp/job/init" && cp ci/guest-run.sh "$tmp/job/run.sh"
printf '%s\n' "$@" >"$tmp/job/commands"

# Everything below starts in a namespace of processes and mounts, which ends with its first process.
export base image version dir tmp
if [ "$kernel" = user-mode-linux ]; then
	timeout --foreground -k 5 "${BOOT_LIMIT:-900}" unshare -m -p -f --kill-child sh -c '
	mount --bind "$base" "$image/guest" && mount --bind "$dir" "$image/guest/suite" && mount --bind "$tmp/job" "$image/guest/job" &&
	mount --bind "$image/usr/lib/modules" "$image/guest/usr/lib/modules" && mount --rbind /dev "$image/dev" &&
	mount -t proc proc "$image/proc" && mount -t tmpfs tmp "$image/tmp" || exit 97
	# Not exec: the first process of a namespace ignores the signal by which a kernel that panics ends itself.
	TMPDIR=/tmp HOME=/tmp chroot "$image" linux.uml mem="$0M" rootfstype=hostfs rootflags=/guest rw init=/job/init \
		uml_dir=/tmp quiet con=null con0=fd:0,fd:1 ssl=null panic=-1 '"${BOOT_APPEND:-}; exit \$?" "${BOOT_MEMORY:-1024}" </dev/null 2>&1
	exit
fi
command -v qemu-system-x86_64 >/dev/null || apt_install qemu-system-x86
accel=${BOOT_ACCEL:-tcg}
[ -n "${BOOT_ACCEL:-}" ] || ! kvm_works || accel=kvm
fs=$tmp/fs
cp -a "$base" "$fs" && cp -r "$dir/." "$fs/suite/" && cp "$tmp/job/"* "$fs/job/" || exit 1
unshare -m sh -c '
mount --bind "$image/usr/lib/modules" "$base/usr/lib/modules" && chroot "$base" depmod "$version" &&
for m in $0; do chroot "$base" modprobe -S "$version" -D "$m"; done' "$(sed -n 's/^for m in \(.*\); do modprobe.*/\1/p' ci/guest.sh)" 2>/dev/null |
	sed -n "s|^insmod .*\(/lib/modules/[^ ]*\).*|\1|p" | sort -u >"$tmp/modules"
(cd "$image/usr" && for m in $(sed 's|^/||' "$tmp/modules") "lib/modules/$version"/modules.*; do cp --parents "$m" "$fs/usr/"; done) || exit 1
(cd "$fs" && find . | "$base/usr/bin/busybox" cpio -o -H newc 2>/dev/null | gzip -1) >"$tmp/initrd"
timeout --foreground -k 5 "${BOOT_LIMIT:-900}" qemu-system-x86_64 -accel "$accel" -cpu max -machine q35 -smp "${BOOT_CPUS:-2}" -m "${BOOT_MEMORY:-1536}" \
	-display none -monitor none -serial stdio -no-reboot -nic none -kernel "$(find "$image" -name 'vmlinuz-*' -print -quit)" -initrd "$tmp/initrd" \
	-append "console=ttyS0 quiet panic=-1 mitigations=off nokaslr rdinit=/job/init ${BOOT_APPEND:-}" </dev/null 2>&1 | tr -d '\r'
