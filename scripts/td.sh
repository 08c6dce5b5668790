#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Starts the emulator with a kernel as a TD under QEMU:
#   td.sh WHAT LOG [EMULATOR OPTION...]
# WHAT is what scripts/init does in it: run, test, bench or shell. The complete
# console is kept in LOG, the emulator's own words in LOG with .emu before the
# suffix. Status: 0 when WHAT succeeded and the machine powered off.

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/env.sh"

what=$1 log=$2
shift 2
emu_log=${log%.log}.emu.log
SMP=${SMP:-2} MEM=${MEM:-1G} LIMIT=${LIMIT:-600}
accel=(-accel "tcg,thread=multi")
# Counting runs: one instruction is one nanosecond, one CPU runs at a time, and
# nothing random reaches the guest.
[ -z "${COUNT_TO:-}" ] || accel=(-accel "tcg,thread=single" -icount "shift=0,sleep=off"
	-rtc "base=2026-01-01,clock=vm" -seed 1
	-plugin "file=$BUILD/cargo/release/libinsn_count.so,out=$COUNT_TO")

for file in "$BUILD/tdxemu" "$BUILD/initramfs" "$KIMAGE"; do
	[ -s "$file" ] || die "$file is missing" "build it with: make"
done
mkdir -p "$(dirname "$log")"

qemu=(qemu-system-x86_64 -machine q35 "${accel[@]}"
	-cpu "max,vendor=GenuineIntel,+svm,+npt,phys-bits=48${COUNT_TO:+,-rdrand,-rdseed}"
	-m "$MEM" -smp "$SMP" -nodefaults -no-reboot -display none
	-serial stdio -debugcon "file:$emu_log" -global "isa-debugcon.iobase=0xe9"
	-device "isa-debug-exit,iobase=0xf4"
	-kernel "$BUILD/tdxemu" -initrd "$BUILD/initramfs"
	-device "loader,file=$KIMAGE,addr=0x30000000,force-raw=on"
	-append "$* -- console=ttyS0 panic=-1 vtl.do=$what ${CMDLINE:-}")
case $KIMAGE in "$CACHE"/* | "$TOP"/*) ;; *) die "KIMAGE must lie in $CACHE or $TOP" ;; esac

# What a person wants to see: the facts of the boot, then VTL2's own words.
show() {
	if [ -n "${V:-}" ]; then cat; else
		awk '/^=== VTL2 userspace/ { on = 1 }
		     on || /tdx: Guest detected|Kernel panic|Hypervisor detected/ { print; fflush() }'
	fi
}

status=0
{ in_root timeout --foreground "$LIMIT" "${qemu[@]}" </dev/null || echo "=== QEMU status: $?"; } |
	stdbuf -oL tr -d '\r' | tee "$log" | show || status=$?

[ "$status" = 0 ] || die "could not write $log"
if grep -q '^=== QEMU status: 124$' "$log"; then
	die "the TD did not finish within $LIMIT s" "console: $log" "emulator: $emu_log"
elif grep -q '^=== QEMU status' "$log"; then
	tail -n 25 "$emu_log" >&2
	die "the emulator stopped the machine" "console: $log" "emulator: $emu_log"
fi
grep -q 'tdx: Guest detected' "$log" || die "the kernel did not find itself in a TD" "console: $log"
inner=$(sed -n 's/^=== VTL2 status: //p' "$log" | tail -n 1)
[ -n "$inner" ] || die "the TD ended without a result" "console: $log" "emulator: $emu_log"
[ "$inner" = 0 ] || die "'$what' failed inside the TD with status $inner" "console: $log"
