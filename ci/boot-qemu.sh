# Boots a stock kernel under KVM or qemu for boot.sh, with the guest's files as its first file system. To be sourced.
kvm_works() { [ -w /dev/kvm ] && grep -qE '^flags.* (vmx|svm)' /proc/cpuinfo; } # a nested /dev/kvm may lack what a kernel needs

command -v qemu-system-x86_64 >/dev/null || apt_install qemu-system-x86
accel=${BOOT_ACCEL:-tcg}
[ -n "${BOOT_ACCEL:-}" ] || ! kvm_works || accel=kvm
export base image version=$(basename "$(find "$image/usr/lib/modules/" -mindepth 1 -maxdepth 1 -name '[0-9]*' | head -n 1)")
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
