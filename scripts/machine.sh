# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# The QEMU machine that the emulator runs on. Sourced after env.sh.

# machine KERNEL INITRD EMU_LOG EMULATOR_OPTIONS KERNEL_COMMAND_LINE: sets the
# array $qemu. The TD has SMP processors. Where these are several, QEMU's first one is
# not among them (Documentation/emulator.rst). With ICOUNT=1 one instruction is a nanosecond and one
# CPU runs at a time; with COUNT_TO=FILE a plugin also counts instructions into FILE, and with
# PROFILE=... where each path executes them.
# RDRAND stays: a TD's kernel refuses to boot without it.
machine() {
	local kernel=$1 initrd=$2 emu_log=$3 options=$4 command_line=$5 file vcpus=${SMP:-2}
	local mem=${MEM:-1536M} mib=0
	local accel=(-accel "tcg,thread=multi")
	local cpu="max,vendor=GenuineIntel,+svm,+npt,phys-bits=48"
	for file in "$BUILD/tdxemu" "$kernel" "$initrd"; do
		[ -s "$file" ] || die "$file is missing or empty" "build it with: make image"
		case $(realpath "$file") in
		"$CACHE"/* | "$TOP"/*) ;;
		*) die "$file lies neither in $TOP nor in $CACHE" "copy it to $BUILD" ;;
		esac
	done
	case $vcpus in
	'' | 0* | *[!0-9]*) die "SMP=$vcpus is not a number of processors" "example: SMP=4" ;;
	esac
	[ "$vcpus" = 1 ] || vcpus=$((vcpus + 1))
	case $mem in
	*[!0-9]?* | 0*) ;;
	[0-9]*G) mib=$((${mem%G} * 1024)) ;;
	[0-9]*M) mib=${mem%M} ;;
	*[0-9]) mib=$mem ;;
	esac
	[ "$mib" -ge 1024 ] || die "MEM=$mem is not 1G or more, which the emulator needs" \
		"example: MEM=1536M"
	if [ -n "${COUNT_TO:-}${ICOUNT:-}" ]; then
		accel=(-accel "tcg,thread=single" -icount "shift=0,sleep=off"
			-rtc "base=2026-01-01,clock=vm" -seed 1)
	fi
	if [ -n "${COUNT_TO:-}" ]; then
		# What QEMU translates for several is wrong with the plugin's conditions in it.
		[ "$vcpus" = 1 ] || die "instructions are counted on one processor only" "with SMP=1"
		accel+=(-plugin "file=$BUILD/cargo/release/libinsn_count.so,out=$COUNT_TO${PROFILE:+,profile=on}")
	fi
	# shellcheck disable=SC2034 # the caller runs it
	qemu=(qemu-system-x86_64 -machine q35 "${accel[@]}" -cpu "$cpu"
		-m "$mem" -smp "$vcpus" -nodefaults -no-reboot -display none
		-serial stdio -debugcon "file:$emu_log" -global "isa-debugcon.iobase=0xe9"
		-device "isa-debug-exit,iobase=0xf4"
		-kernel "$BUILD/tdxemu" -initrd "$initrd"
		-device "loader,file=$kernel,addr=0x30000000,force-raw=on"
		-append "$options -- $command_line")
}
