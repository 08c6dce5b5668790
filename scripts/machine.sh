# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# The QEMU machine that the emulator runs on. Sourced after env.sh; by the installed command tdxemu
# after say.sh only.

# Where the emulator is, and the oldest QEMU that it was tested with: older ones hang.
EMULATOR=${EMULATOR:-${BUILD:-}/tdxemu}
QEMU_MAJOR=10

# How a user says what is wrong: a variable of make, or an option of tdxemu.
SMP_NAME=${SMP_NAME:-SMP=} MEM_NAME=${MEM_NAME:-MEM=} GDB_NAME=${GDB_NAME:-GDB=}

# need_qemu: this system's QEMU is there, and new enough. The build root's is.
need_qemu() {
	local version
	version=$(qemu-system-x86_64 --version 2>/dev/null | sed -nE '1s/.*version ([0-9.]+).*/\1/p') || :
	[ -n "$version" ] || die "there is no qemu-system-x86_64" "install it: $QEMU_MAJOR.0 or later is needed"
	[ "${version%%.*}" -ge "$QEMU_MAJOR" ] ||
		die "QEMU $version is too old: $QEMU_MAJOR.0 or later is needed" \
			"install a newer qemu-system-x86_64; the project's build root has one: make emu-run, as root, without ROOTLESS=1"
}

# in_reach WHAT FILE: dies if there is no such file, or if the build root can't reach it.
in_reach() {
	[ -e "$2" ] || die "$1: there is no file $2"
	if [ ! -f "$2" ] || [ ! -r "$2" ]; then die "$1: $2 is not a file that can be read"; fi
	[ -s "$2" ] || die "$1: $2 is empty"
	[ -z "${ROOTLESS:-}" ] || return 0
	case $(realpath "$2") in
	"$CACHE"/* | "$TOP"/*) ;;
	*) die "$1: $2 lies neither in $TOP nor in $CACHE" "copy it to $BUILD" ;;
	esac
}

# machine KERNEL INITRD EMU_LOG EMULATOR_OPTIONS KERNEL_COMMAND_LINE: sets the
# array $qemu. The TD has SMP processors. Where these are several, QEMU's first one is
# not among them (Documentation/emulator.rst). With GDB=1, or a port, QEMU waits for a
# debugger before the first instruction. With ICOUNT=1 one instruction is a nanosecond and one
# CPU runs at a time; with COUNT_TO=FILE a plugin also counts instructions into FILE, and with
# PROFILE=... where each path executes them, or with COUNT_BOOT=1 those of a boot instead.
# RDRAND stays: a TD's kernel refuses to boot without it. With DISK=FILE the TD has a disk, with NET=1
# a network of QEMU's own, and with DEVICES=... devices for QEMU's command line, whose DMA reaches what L1
# shares. They have no MSIs, which QEMU would send to the wrong processor. Two things that reach more are left
# out: the HPET, whose interrupts can be writes to any memory, and VMware's port, which changes registers of
# the emulator's.
machine() {
	local kernel=$1 initrd=$2 emu_log=$3 options=$4 command_line=$5 vcpus=${SMP:-2}
	local mem=${MEM:-1536M} mib=0
	local accel=(-accel "tcg,thread=multi")
	local console=()
	local cpu="max,vendor=GenuineIntel,+svm,+npt,phys-bits=48"
	[ -s "$EMULATOR" ] || die "$EMULATOR is missing or empty" "build it with: make emulator"
	in_reach KERNEL "$kernel"
	in_reach INITRD "$initrd"
	case $vcpus in
	'' | 0* | *[!0-9]* | ????*) die "$SMP_NAME$vcpus is not a number of processors" "example: ${SMP_NAME}4" ;;
	esac
	# The timers of a Hyper-V host need one, too. With two of QEMU's, instructions can't be counted.
	case $vcpus:${COUNT_TO:-}:$options in
	1::*emu.host=hyperv*) vcpus=2 ;;
	1:*) ;;
	*) vcpus=$((vcpus + 1)) ;;
	esac
	case $mem in
	*[!0-9]?* | 0*) ;;
	[0-9]*G) mib=$((${mem%G} * 1024)) ;;
	[0-9]*M) mib=${mem%M} ;;
	*[0-9]) mib=$mem ;;
	esac
	[ "$mib" -ge 1024 ] || die "$MEM_NAME$mem is not 1G or more, which the emulator needs" \
		"example: ${MEM_NAME}1536M"
	# A person's Ctrl-C is the TD's, and Ctrl-A X ends QEMU.
	case ${CONSOLE:-} in
	shell) console=(-serial mon:stdio) ;;
	raw) console=(-chardev "stdio,id=console,signal=off" -serial chardev:console) ;;
	*) console=(-serial stdio) ;;
	esac
	[ -z "${SECOND_SERIAL:-}" ] || console+=(-serial "file:$SECOND_SERIAL")
	if [ -n "${COUNT_TO:-}${ICOUNT:-}" ]; then
		accel=(-accel "tcg,thread=single" -icount "shift=0,sleep=off"
			-rtc "base=2026-01-01,clock=vm" -seed 1)
	fi
	if [ -n "${COUNT_TO:-}" ]; then
		# What QEMU translates for several is wrong with the plugin's conditions in it.
		[ "$vcpus" = 1 ] || die "instructions are counted on one processor only" "with SMP=1"
		accel+=(-plugin "file=$BUILD/cargo/release/libinsn_count.so,out=$COUNT_TO${PROFILE:+,profile=on}${COUNT_BOOT:+,boot=on}")
	fi
	# shellcheck disable=SC2034 # the caller runs it
	qemu=(qemu-system-x86_64 -machine "q35,hpet=off,vmport=off" "${accel[@]}" -cpu "$cpu"
		-m "$mem" -smp "$vcpus" -nodefaults -no-reboot -display none
		"${console[@]}" -debugcon "file:$emu_log" -global "isa-debugcon.iobase=0xe9"
		-device "isa-debug-exit,iobase=0xf4"
		-kernel "$EMULATOR" -initrd "$initrd"
		-device "loader,file=$kernel,addr=0x30000000,force-raw=on"
		-append "$options -- $command_line")
	machine_devices
	case ${GDB:-} in
	'') ;;
	1) qemu+=(-S -gdb tcp:localhost:1234) ;;
	*[!0-9]*) die "$GDB_NAME$GDB is not a port" "example: ${GDB_NAME}1, which is port 1234" ;;
	*) qemu+=(-S -gdb "tcp:localhost:$GDB") ;;
	esac
}

# without_emulator KERNEL INITRD KERNEL_COMMAND_LINE: makes of $qemu the same machine that starts the kernel by
# itself, which is in no TD.
without_emulator() {
	local word direct=() skip=0
	for word in "${qemu[@]}"; do
		case $word in
		-kernel | -initrd | -append | -smp) skip=1 ;;
		loader,*) unset 'direct[-1]' ;;
		*) [ "$skip" = 1 ] || direct+=("$word"); skip=0 ;;
		esac
	done
	qemu=("${direct[@]}" -smp "${SMP:-2}" -kernel "$1" -initrd "$2" -append "$3")
}

# Adds them to $qemu, behind a unit that decides what they reach.
machine_devices() {
	local device devices=() virtio="vectors=0,disable-legacy=on,iommu_platform=on"
	[ -z "${DEVICES:-}${DISK:-}${NET:-}" ] || qemu+=(-device "intel-iommu,intremap=off")
	read -ra devices <<<"${DEVICES:-}"
	for device in "${devices[@]}"; do qemu+=(-device "$device"); done
	if [ -n "${DISK:-}" ]; then
		in_reach DISK "$DISK"
		qemu+=(-drive "file=$(realpath "$DISK"),if=none,id=disk,format=raw" -device "virtio-blk-pci,drive=disk,$virtio")
	fi
	[ -z "${NET:-}" ] || qemu+=(-netdev "user,id=net,restrict=on" -device "virtio-net-pci,netdev=net,romfile=,$virtio")
}

# What a person at the console needs to know.
banner_of_machine() {
	[ -t 0 ] || return 0
	note "Ctrl-C goes to the TD; Ctrl-A X ends it"
	[ -z "${GDB:-}" ] || note "waiting for a debugger: ${qemu[*]: -1}"
}

# why_machine_ended STATUS EMU_LOG: says why, unless the TD powered itself off, and returns the status.
why_machine_ended() {
	[ "$1" != 0 ] || return 0
	printf '\n' >&2
	[ ! -s "$2" ] || tail -n 25 "$2" >&2
	printf '%s\n' "${RED}error:${PLAIN} the machine ended with status $1" "       its messages: $2" >&2
	return "$1"
}
