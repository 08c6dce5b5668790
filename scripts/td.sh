#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Starts the stock kernel as a TD, with the project's initramfs:
#   td.sh WHAT LOG [EMULATOR OPTION...]
# WHAT is what scripts/init does in it: run, test, storm, bench, shell and so on. The complete
# console is kept in LOG, the emulator's own words in LOG with .emu before the
# suffix. Status: 0 when WHAT succeeded and the machine powered off. With DIRECT=1 the kernel is in no TD.

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/env.sh"
. "$TOP/scripts/machine.sh"
. "$TOP/scripts/share.sh"

what=$1 log=$2
shift 2
emu_log=${log%.log}.emu.log
limit=${LIMIT:-600}
mkdir -p "$(dirname "$log")"
# Without tests there is less to unpack.
case $what in
run | boot | unfit) initramfs=$BUILD/initramfs-run ;;
*) initramfs=$BUILD/initramfs ;;
esac
initramfs=$(with_user_files "${INITRAMFS:-$initramfs}")
back=$BUILD/share-back.tar.gz
rm -f "$back"
[ -z "${SHARE:-}" ] || SECOND_SERIAL=$back
case $what in
shell) CONSOLE=shell ;;
guestshell) CONSOLE=raw ;;
esac
command_line="console=ttyS0 panic=-1 vtl.do=$what ${CMDLINE:-}"
machine "$KIMAGE" "$initramfs" "$emu_log" "$* ${EMU:-}" "$command_line"
[ -z "${DIRECT:-}" ] || without_emulator "$KIMAGE" "$initramfs" "$command_line"

# A shell is for a person: nothing is filtered, nothing ends it.
case $what in
shell | guestshell)
	[ "$what" = guestshell ] || banner_of_machine
	status=0
	in_root "${qemu[@]}" | tee "$log" || status=$?
	share_back "$back"
	why_machine_ended "$status" "$emu_log"
	exit
	;;
esac

# The lines that are of interest for a person: facts of the boot, then VTL2's own output.
show() {
	if [ -n "${V:-}" ]; then cat; else
		awk '/^=== VTL2 userspace/ { on = 1 }
		     on || /Linux version|tdx: Guest detected|Kernel panic|Hypervisor detected|Run \/init/ { print; fflush() }'
	fi
}

# The machine may have ended in the middle of a line.
{ in_root timeout --foreground "$limit" "${qemu[@]}" </dev/null || printf '\n=== QEMU status: %s\n' $?; } |
	stdbuf -oL tr -d '\r' | tee "$log" | show

if grep -q '^=== QEMU status: 124$' "$log"; then
	die "the TD did not finish within $limit s" "console: $log" "emulator: $emu_log"
elif grep -q '^=== QEMU status' "$log"; then
	tail -n 25 "$emu_log" >&2
	die "the emulator stopped the machine" "console: $log" "emulator: $emu_log"
fi
[ -n "${DIRECT:-}" ] || grep -q 'tdx: Guest detected' "$log" || die "the kernel did not find itself in a TD" "console: $log"
inner=$(sed -n 's/^=== VTL2 status: //p' "$log" | tail -n 1)
[ -n "$inner" ] || die "the TD ended without a result" "console: $log" "emulator: $emu_log"
share_back "$back"
[ "$inner" = 0 ] || die "'${RUN:-$what}' failed inside the TD with status $inner" "console: $log"
