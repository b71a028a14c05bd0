# Boots user-mode Linux for boot.sh, in a namespace of processes and mounts, which ends with its first process. To be sourced.
export base image dir tmp
timeout --foreground -k 5 "${BOOT_LIMIT:-900}" unshare -m -p -f --kill-child sh -c '
mount --bind "$base" "$image/guest" && mount --bind "$dir" "$image/guest/suite" && mount --bind "$tmp/job" "$image/guest/job" &&
mount --bind "$image/usr/lib/modules" "$image/guest/usr/lib/modules" && mount --rbind /dev "$image/dev" &&
mount -t proc proc "$image/proc" && mount -t tmpfs tmp "$image/tmp" || exit 97
# Not exec: the first process of a namespace ignores the signal by which a kernel that panics ends itself.
TMPDIR=/tmp HOME=/tmp chroot "$image" linux.uml mem="$0M" rootfstype=hostfs rootflags=/guest rw init=/job/init \
	uml_dir=/tmp quiet con=null con0=fd:0,fd:1 ssl=null panic=-1 '"${BOOT_APPEND:-}; exit \$?" "${BOOT_MEMORY:-1024}" </dev/null 2>&1
