#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# How the emulator's machine ends when it cannot go on, what its log then says, and
# that time is the same in two runs. Each test is a boot of the guest test
# microkernel (tools/tmk). Prints KTAP.

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/env.sh"
. "$TOP/scripts/machine.sh"

work=$(mktemp -d "$BUILD/test-emu-ends.XXXXXX")
trap 'rm -rf "$work"' EXIT
number=0 failed=0
emu_log=$work/emu.log

# boot OPTIONS WHAT: starts the microkernel, or $kernel, with tmk.do=WHAT; sets $status. Its console goes to
# $work/console. It can't be at the default address of VTL0's memory.
boot() {
	rm -f "$emu_log"
	SMP=1 MEM=1G machine "${kernel:-$BUILD/tmk}" "$BUILD/tmk" "$emu_log" "emu.vtl0=64M@top $1" "tmk.do=$2"
	status=0
	in_root timeout --foreground "${LIMIT:-60}" "${qemu[@]}" </dev/null >"$work/console" || status=$?
}

# verdict NAME: the test passed if the command before it did.
verdict() {
	local passed=$?
	number=$((number + 1))
	if [ "$passed" = 0 ]; then
		echo "ok $number $1"
		return
	fi
	echo "# status ${status:-}, console and log:"
	sed 's/^/# /' "$work/console" "$emu_log" 2>/dev/null || :
	echo "not ok $number $1"
	failed=$((failed + 1))
}

# ends STATUS PATTERN...: the latest boot did, and its log has each pattern.
ends() {
	local want=$1 pattern
	shift
	[ "$status" = "$want" ] || return 1
	for pattern in "$@"; do
		grep -q -e "$pattern" "$emu_log" || { echo "# no '$pattern'"; return 1; }
	done
}

# The log names the option, and then each one that the documentation has.
lists_all_options() {
	local option options
	options=$(grep -o '^``emu\.[a-z0-9_]*' "$TOP/Documentation/emulator.rst" | tr -d '`')
	[ "$(wc -w <<<"$options")" -ge 9 ] || return 1
	for option in $options; do
		grep -q -e "error: .*$option=" "$emu_log" || { echo "# $option is not listed"; return 1; }
	done
}

echo "KTAP version 1"
echo "1..29"

set +e
boot "emu.no_such_option=1" none
ends 39 'unknown option or value: emu.no_such_option=1'
verdict an_unknown_option_is_refused_by_name
lists_all_options
verdict the_refusal_lists_all_documented_options
boot "emu.l2=4" none
ends 39 'unknown option or value: emu.l2=4' 'emu.l2=0..3'
verdict a_bad_value_is_refused_with_the_good_ones
boot "emu.vtl0=3M" none
ends 39 'unknown option or value: emu.vtl0=3M' 'emu.vtl0=SIZE.*multiples of 2M' &&
	boot "emu.vtl0=64M@17M" none && ends 39 'unknown option or value: emu.vtl0=64M@17M'
verdict memory_of_vtl0_that_is_not_aligned_is_refused
boot "emu.vtl0=1G" none
ends 39 'error: there is no such memory for emu.vtl0: give QEMU more' &&
	boot "emu.vtl0=64M@992M" none && ends 39 'error: there is no such memory for emu.vtl0' &&
	boot "emu.vtl0=1000M@top" none && ends 39 'error: there is no such memory for emu.vtl0'
verdict memory_of_vtl0_that_there_is_not_is_refused
boot "emu.vtl0=900M@64M" none
ends 39 "error: not enough memory for L1 besides VTL0's: give QEMU more"
verdict too_little_memory_for_l1_is_refused
boot "emu.vtl0=64M" none
ends 39 'error: the kernel is not relocatable.*emu.vtl0=64M@top' &&
	boot "emu.vtl0=2M@16M" none && ends 39 'error: the kernel is not relocatable' &&
	boot "emu.vtl0=64M@64M" end_reset && ends 37 'VTL0 memory 0x4000000..0x8000000,'
verdict a_kernel_that_cannot_move_is_not_put_where_vtl0_is

boot "" end_reset
ends 37 'L1 asks for a reset' 'summary: vCPU 0 exits'
verdict a_reset_ends_with_37
boot "" end_reset_kbd
ends 37 'L1 asks for a reset' && boot "" end_reset_outputs && ends 37 'L1 asks for a reset' &&
	boot "" end_reset_fast && ends 37 'L1 asks for a reset'
verdict a_reset_by_any_port_ends_with_37
boot "" end_stop
ends 0 'L1 stops for good' 'summary: vCPU 0 exits' && ! grep -q 'L1 powers off' "$emu_log"
verdict a_stop_for_good_ends_the_machine
boot "" end_fatal_error
ends 35 'L1 reports a fatal error 0x1234'
verdict a_fatal_error_ends_with_35
boot "" end_triple_fault
ends 35 'L1 shut down (triple fault) at 0x' && ! grep -q 'no TDCALL' "$emu_log"
verdict a_triple_fault_ends_with_35
# As a Linux that does not know TDX: an exception, and no handler for it. UD2 is at its entry.
cp "$BUILD/tmk" "$work/no_tdx"
printf '\017\013' | dd of="$work/no_tdx" bs=1 seek=$((0x600)) conv=notrunc status=none
kernel=$work/no_tdx boot "" none
ends 35 'L1 shut down (triple fault) at 0x.* no TDCALL: is it a Linux with CONFIG_INTEL_TDX_GUEST=y'
verdict a_kernel_that_does_not_know_tdx_is_told_apart
boot "" end_missing_page
ends 35 'the host has no memory for .*Gpa(b0000000)'
verdict an_access_nobody_serves_names_its_address
boot "emu.feature_level=0" end_bad_entry
ends 35 'bad control fields at TDG.VP.ENTER'
verdict module_1_5_does_not_survive_bad_control_fields

boot "" end_refused_entry
ends 0 "warn: Vm1 can't be entered: not valid: the busy task-state segment" 'GuestTrAccess 0x89$'
verdict a_refused_entry_names_the_check_and_the_registers
boot "" end_lower_triple_fault
rip=$(sed -n 's/^rip: \(0x[0-9a-f]*\).*/\1/p' "$work/console")
ends 0 "info: Vm1 shuts down (triple fault): exception at rip ${rip:-not told}, "
verdict a_triple_fault_of_an_l2_says_where_it_began

boot "" end_control
ends 33 'not modelled: exiting on RDRAND' 'vCPU 0 Some(Vm1)' 'rip 0x' 'cr0 0x.*cr3 0x' \
	'rax: ' 'vCPU 0 VM 1 exit 0x'
verdict what_is_not_modelled_names_itself_and_shows_the_state
boot "" end_linear_translation
ends 33 'not modelled: translation of linear addresses by L1'
verdict a_page_walk_that_svm_lacks_stops_the_machine
boot "" end_monitor_trap
ends 35 'the TDX module ends the TD: monitor trap flag'
verdict the_monitor_trap_flag_ends_the_td
boot "" end_execute_only
ends 33 'not modelled: rights 0x4 without read for Vm1' 'vCPU 0 VM 0 exit 0x'
verdict rights_that_svm_lacks_stop_the_machine

# Prints "before: used" if L1's L2 keeps a right until L1 declares it gone, and "after: used" if it
# keeps the right then.
boot "" end_stale_right
ends 0 'summary: vCPU 0 .*stale rights used: 1$' && grep -q '^before: used' "$work/console" &&
	grep -q '^after: used' "$work/console"
verdict a_right_that_is_not_flushed_works_and_is_counted
boot "emu.stale=report" end_stale_right
ends 43 'vCPU 0 still has a right of Vm1 to page 0x[0-9a-f]* ' && grep -q '^before: used' "$work/console" &&
	! grep -q '^after' "$work/console" &&
	boot "emu.stale=report" end_flushed_right && ends 0 'stale rights used: 1$' &&
	grep -q '^after: gone' "$work/console"
verdict a_right_that_is_declared_gone_and_still_used_ends_with_43
boot "emu.stale=off" end_stale_right
ends 0 'stale rights used: 0$' && grep -q '^before: gone' "$work/console"
verdict without_stale_rights_none_works

boot "emu.log=debug" end_reset
ends 37 'debug: ' 'info: '
verdict level_debug_shows_more
boot "emu.log=error" end_fatal_error
ends 35 'error: ' && ! grep -q 'info: \|debug: \|warn: ' "$emu_log"
verdict level_error_shows_errors_only

# The second run logs each refused TDCALL, so the emulator works longer there; L1
# must not see that.
ICOUNT=1 boot "emu.hide_time=1" time
[ "$status" = 0 ] && cp "$work/console" "$work/first" &&
	ICOUNT=1 boot "emu.hide_time=1 emu.log=debug" time
[ "$status" = 0 ] && [ "$(grep -c '^time: ' "$work/first")" = 7 ] && cmp "$work/first" "$work/console"
verdict two_runs_give_the_same_ticks

# The installed command needs no root, and finds nothing of this clone but what it installs.
cp -r "$TOP/scripts" "$work"/ && mkdir -p "$work/clone/rust/glue" "$work/clone/build" &&
	mv "$work/scripts" "$work/clone/" && cp "$TOP/rust/glue/version.h" "$work/clone/rust/glue/" &&
	cp "$BUILD/tdxemu" "$BUILD/tmk" "$work/clone/build/" && status=0
# shellcheck disable=SC2016 # not this shell expands it
in_root sh -c 'cp -r "$1/clone" /tmp && chmod -R a+rX /tmp/clone && cd /tmp/clone &&
	exec setpriv --reuid=4321 --regid=4321 --clear-groups --no-new-privs timeout 60 scripts/tdxemu --smp 1 --memory 1G \
	--append tmk.do=end_triple_fault build/tmk build/tmk emu.vtl0=64M@top' sh "$work" >"$work/console" 2>&1 </dev/null || status=$?
[ "$status" = 35 ] && grep -q 'L1 shut down (triple fault)' "$work/console" && grep -q 'the machine ended with status 35' "$work/console"
verdict a_user_without_root_boots_a_td_and_is_told_how_it_ended

# As a debugger speaks: packet TEXT sends one, answer reads one.
packet() {
	local sum=0 n
	for ((n = 0; n < ${#1}; n++)); do sum=$((sum + $(printf '%d' "'${1:n:1}"))); done
	printf '$%s#%02x' "$1" $((sum % 256)) >&6
}
answer() {
	local text
	IFS= read -r -t 30 -d '#' text <&6 && read -r -N 2 -t 30 _ <&6 && printf '+' >&6 && echo "${text##*$}"
}

# A breakpoint in L1 stops it, and memory is read as L1 sees it.
debug_l1() {
	local port=$((20000 + RANDOM % 20000)) elf=$BUILD/cargo/x86_64-unknown-none/release/tmk at tries
	at=$(in_root nm "$elf" | awk '/4ends4stop/ { print $1; exit }')
	GDB=$port SMP=1 MEM=1G machine "$BUILD/tmk" "$BUILD/tmk" "$emu_log" "emu.vtl0=64M@top" "tmk.do=end_stop"
	in_root timeout --foreground 60 "${qemu[@]}" </dev/null >"$work/console" &
	for ((tries = 0; tries < 50; tries++)); do
		sleep 0.2
		exec 6<>"/dev/tcp/localhost/$port" && break
	done 2>/dev/null
	packet "Z1,$at,1" && [ "$(answer)" = OK ] && packet c && [[ $(answer) == T05* ]] &&
		packet p10 && answer >"$work/rip" && packet "m$at,8" && answer >"$work/memory" && packet k
	exec 6>&-
	wait $! || :
	[ "$(cat "$work/rip")" = "$(fold -w 2 <<<"$at" | tac | tr -d '\n')" ] &&
		[ "$(in_root objdump -s --start-address="0x$at" --stop-address=$((16#$at + 8)) "$elf" |
			awk '{ line = $0 } END { sub(/^ [0-9a-f]+ /, "", line); gsub(/ /, "", line); print substr(line, 1, 16) }')" = "$(cat "$work/memory")" ]
}
status=0
debug_l1
verdict a_debugger_stops_l1_and_reads_its_memory
set -e

echo "# totals: pass:$((number - failed)) fail:$failed skip:0"
[ "$failed" = 0 ]
