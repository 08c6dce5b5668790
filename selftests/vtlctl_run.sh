#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# What `vtlctl run` does with good and bad guests: status codes and messages, as
# a script sees them. Prints KTAP.

VTLCTL=${VTLCTL:-vtlctl}
command -v "$VTLCTL" >/dev/null || { echo "1..0 # SKIP no vtlctl in PATH"; exit 4; }
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
number=0
failed=0

# expect STATUS PATTERN NAME ARGUMENT...: runs `vtlctl run ARGUMENT...`.
expect() {
	wanted=$1 pattern=$2 name=$3
	shift 3
	number=$((number + 1))
	"$VTLCTL" run "$@" >"$work/out" 2>&1
	status=$?
	if [ $status = "$wanted" ] && grep -qi -- "$pattern" "$work/out"; then
		echo "ok $number $name"
		return
	fi
	echo "# status $status, expected $wanted and '$pattern' in:"
	sed 's/^/# /' "$work/out"
	echo "not ok $number $name"
	failed=$((failed + 1))
}

: >"$work/empty"
# 1: hlt; jmp 1b -- the smallest guest that ends well.
printf '\364\353\375' >"$work/halts"
# jmp . -- one that never ends.
printf '\353\376' >"$work/spins"
# ud2 without an exception handler: a triple fault.
printf '\017\013' >"$work/faults"
# pushq $0x1fa0; ldmxcsr (%rsp); ud2
printf '\150\240\037\0\0\017\256\024\044\017\013' >"$work/mxcsr"
# movl $0xfd000000, %ecx; movl %eax, (%rcx): a device that nobody emulates
printf '\271\0\0\0\375\211\001' >"$work/device"
truncate -s 8G "$work/large" 2>/dev/null || dd if=/dev/zero of="$work/large" bs=1M count=0 seek=8192 2>/dev/null

# The list of lower-VTL memory, as the module has it, in the words of vtlctl.
probe_shows_the_list() {
	list=$(cat /sys/module/mshv_vtl_tdx/parameters/vtl0_mem) || return 1
	[ -n "$list" ] && "$VTLCTL" probe | grep -q "^ok *lower-VTL memory *${list%%,*}\.\."
}

echo "TAP version 13"
echo "1..13"
expect 3 "$work/missing" a_missing_file_is_named "$work/missing"
expect 3 empty an_empty_file_is_refused "$work/empty"
expect 3 "larg\|fit" a_file_larger_than_the_memory_is_refused "$work/large"
expect 3 "no regular file" a_directory_is_no_guest "$work"
expect 2 mode an_unknown_mode_lists_the_known_ones --mode vm86 "$work/halts"
expect 0 HLT a_guest_that_halts_ends_well "$work/halts"
expect 5 "limit\|time" a_guest_that_spins_is_ended --timeout 1 "$work/spins"
expect 4 triple a_guest_that_faults_is_reported "$work/faults"
expect 4 "may not write guest-physical address 0xfd000000" a_guest_that_wants_a_device_is_reported "$work/device"
expect 4 "mxcsr 0000000000001f80" a_failed_guest_has_its_extended_state_shown "$work/faults"
expect 4 "mxcsr 0000000000001fa0" it_is_what_the_guest_made_of_it "$work/mxcsr"
expect 4 "mxcsr 0000000000001f80" the_next_guest_has_its_own "$work/faults"
expect 0 HLT a_guest_runs_after_one_that_failed "$work/halts"
number=$((number + 1))
if probe_shows_the_list; then
	echo "ok $number probe_shows_the_list_of_memory"
else
	echo "not ok $number probe_shows_the_list_of_memory"
	failed=$((failed + 1))
fi
[ $failed = 0 ]
