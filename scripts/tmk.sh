#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# `make test-tmk`: boots the guest test microkernel (tools/tmk) on the emulator
# and shows its KTAP. The console is kept in LOG (build/test-tmk.log).
#   tmk.sh [LOG]		the tests of one processor
#   tmk.sh LOG smp	those of eight, with a host that gives an L2's tables on demand
#   tmk.sh LOG second	those of the TDX module's 2.0 line, of the program as an ELF file
# With CMDLINE=tmk.only=NAME only those whose names begin so.

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/env.sh"
. "$TOP/scripts/machine.sh"

log=${1:-$BUILD/test-tmk.log}
emu_log=${log%.log}.emu.log
program=$BUILD/tmk
processors=1 options="emu.l2=3 emu.host=hyperv" command_line=
copier="edu,dma_mask=0xffffffff" disk=$BUILD/tmk-disk
case ${2:-} in
'') ;;
smp)
	processors=8 options="emu.l2=3 emu.l2_tables=ondemand" command_line=tmk.do=smp
	copier='' disk=''
	;;
second)
	options="emu.l2=3 emu.feature_level=2" command_line=tmk.do=second
	program=$BUILD/cargo/x86_64-unknown-none/release/tmk
	copier='' disk=''
	;;
*) die "unknown part '$2'" "known: smp second" ;;
esac
[ -z "$disk" ] || { printf DISK4TMK && head -c 4088 /dev/zero; } >"$disk"
# It is linked at 16 MiB, where VTL0's memory is by default, and maps no more than 1 GiB.
DEVICES=$copier DISK=$disk SMP=$processors MEM=1G machine "$program" "$BUILD/tmk" "$emu_log" "emu.vtl0=64M@top $options ${EMU:-}" \
	"$command_line ${CMDLINE:-}"
status=0
in_root timeout --foreground "${LIMIT:-120}" "${qemu[@]}" </dev/null |
	stdbuf -oL tr -d '\r' | tee "$log" || status=$?
[ "$status" = 0 ] || {
	tail -n 25 "$emu_log" >&2
	die "the machine stopped with status $status" "console: $log" "emulator: $emu_log"
}
[ -z "$copier" ] || [[ ${CMDLINE:-} == *tmk.only=* ]] || grep -q 'device .* may not write page 0x' "$emu_log" ||
	die "the emulator did not log what it refused to a device" "emulator: $emu_log"
grep -q '^# totals: pass:[0-9]* fail:0 ' "$log" || die "tests failed" "console: $log" "emulator: $emu_log"
