#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# `make bench-emu`: the overhead of the emulator. Compares the CPU time of a boot to userspace as a
# TD with the same kernel directly on QEMU, and a round trip L1 to L2 to L1 with a plain exit of L1
# (reading the instruction, a refusal, VMRUN). The last line has the two ratios; a bare exit,
# without reading the instruction, is shown too. The cheapest of RUNS runs counts, and within a run
# the cheapest batch of round trips: a busy machine makes things slower, never faster. Before that,
# the instructions from reset to init are counted, under -icount, which are the same in each run.

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/env.sh"
. "$TOP/scripts/machine.sh"

runs=${RUNS:-3}
log=$BUILD/bench-emu.log
emu_log=$BUILD/bench-emu.emu.log
: >"$log"

# cpu_seconds COMMAND...: user and system time; the console goes to $log.
cpu_seconds() {
	local TIMEFORMAT='%U %S' spent
	spent=$( { time in_root timeout --foreground "${LIMIT:-300}" "$@" </dev/null >>"$log" 2>&1; } 2>&1) ||
		die "a boot failed" "console: $log" "emulator: $emu_log"
	awk '{ print $1 + $2 }' <<<"$spent"
}

smallest() { sort -g | head -n 1; }

boots() {
	local run before
	for run in $(seq "$runs"); do
		before=$(grep -c '=== VTL2 status: 0' "$log") || :
		cpu_seconds "$@"
		[ "$(grep -c '=== VTL2 status: 0' "$log")" -gt "$before" ] ||
			die "boot $run did not reach userspace" "console: $log"
	done | smallest
}

# count_boot ARCHIVE: prints how many millions of instructions a boot with it takes, up to the first one
# of init, and how many of these are the kernel's.
count_boot() {
	local tree=$BUILD/bench-emu.d json=$BUILD/bench-emu.json
	rm -rf "$tree" "$json"
	mkdir "$tree"
	cp "$BUILD/bench/init" "$tree/bench-init"
	{ cat "$1" && (cd "$tree" && find . | in_root cpio --quiet -o -H newc --owner=0:0) | gzip -1; } >"$tree.initramfs"
	SMP=1 COUNT_TO=$json COUNT_BOOT=1 machine "$KIMAGE" "$tree.initramfs" "$emu_log" emu.hide_time=1 \
		"console=ttyS0 panic=-1 quiet nokaslr rdinit=/bench-init"
	LIMIT=900 cpu_seconds "${qemu[@]}" >/dev/null
	awk '/"(instructions|kernel)": [0-9]/ { gsub(/,/, ""); figure[++n] = sprintf("%.1f", $2 / 1e6) }
	     END { if (n != 2) exit 1; print figure[1], figure[2] }' "$json" || die "a figure is missing" "console: $log"
}

say "counting instructions from reset to init"
read -r small small_kernel < <(count_boot "$BUILD/initramfs-run")
read -r full full_kernel < <(count_boot "$BUILD/initramfs")

command_line="console=ttyS0 panic=-1 quiet vtl.do=boot"
say "booting as a TD, $runs times"
machine "$KIMAGE" "$BUILD/initramfs-run" "$emu_log" "" "$command_line"
td=$(boots "${qemu[@]}")
say "booting without the emulator, $runs times"
without_emulator "$KIMAGE" "$BUILD/initramfs-run" "$command_line"
plain=$(boots "${qemu[@]}")

say "round trips, $runs times"
SMP=1 MEM=1G machine "$BUILD/tmk" "$BUILD/tmk" "$emu_log" "emu.vtl0=64M@top emu.bench=1" "tmk.do=bench"
trips=() plains=() bares=()
# ticks WHAT FILE: the latest figure of that name.
ticks() { sed -n "s/.*bench: $1 \([0-9]*\) ticks.*/\1/p" "$2" | tail -n 1; }
for _ in $(seq "$runs"); do
	cpu_seconds "${qemu[@]}" >/dev/null
	trips+=("$(ticks "round trip" "$log")") plains+=("$(ticks "plain exit" "$log")")
	bares+=("$(ticks "bare exit" "$emu_log")")
done
trip=$(printf '%s\n' "${trips[@]}" | smallest) plain_exit=$(printf '%s\n' "${plains[@]}" | smallest)
bare=$(printf '%s\n' "${bares[@]}" | smallest)
for figure in "$trip" "$plain_exit" "$bare"; do
	[ "${figure:-0}" -gt 0 ] || die "a figure is missing" "console: $log" "emulator: $emu_log"
done

printf 'reset to init, 10^6 instructions: %s, of which %s of the kernel; with all tests %s, %s\n' \
	"$small" "$small_kernel" "$full" "$full_kernel"
printf 'boot to userspace, CPU seconds:  %s as a TD, %s directly\n' "$td" "$plain"
printf 'TSC ticks:                       %s for a round trip, %s for a plain exit, %s for a bare one\n' \
	"$trip" "$plain_exit" "$bare"
awk -v td="$td" -v plain="$plain" -v trip="$trip" -v leave="$plain_exit" \
	'BEGIN { printf "ratios: boot %.2f, round trip %.2f\n", td / plain, trip / leave }'
