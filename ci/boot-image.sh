# What boot.sh boots: $base, a small system for the guest, and $image, the kernel and its modules. Both are downloaded once a week at
# most. To be sourced.
base=$cache/guest image=$cache/kernels/$kernel-$suite

young() { [ -n "$(find "$1/ready" -mtime -7 2>/dev/null)" ]; }

prepare_base() {
	rm -rf "$base"
	unpack trixie "$base" install busybox-static iproute2 nftables kmod
	mkdir -p "$base"/{etc,dev,proc,sys,tmp,run,root,job,suite,usr/lib/modules}
	echo 'root:x:0:0:root:/root:/bin/sh' >"$base/etc/passwd"
	printf '127.0.0.1 localhost\n::1 localhost\n' >"$base/etc/hosts"
	ln -sf busybox "$base/usr/bin/sh"
	touch "$base/ready"
}

prepare_image() {
	rm -rf "$image"
	case $kernel in
	user-mode-linux) # with the libc of its own suite: it fails with an older one, and with a much newer one
		unpack "$suite" "$image" download "$kernel" libc6 libgcc-s1 && mv "$image/usr/lib/uml/modules" "$image/usr/lib/" &&
			mkdir -p "$image"/{dev,proc,tmp,guest} ;;
	*) unpack "$suite" "$image" install "$kernel" ;; # since Linux 7 the image is an empty package beside others
	esac
	chmod -R u+w "$image" && touch "$image/ready"
}

(flock 9 && { young "$base" || prepare_base; } && { young "$image" || prepare_image; }) 9>"$cache.lock" || exit 1
