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
. ci/boot-image.sh
mkdir "$tmp/job"
cp ci/guest.sh "$tmp/job/init" && cp ci/guest-run.sh "$tmp/job/run.sh"
printf '%s\n' "$@" >"$tmp/job/commands"
case $kernel in
user-mode-linux) . ci/boot-uml.sh ;;
*) . ci/boot-qemu.sh ;;
esac
