#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# `vtlctl stats` and `vtlctl audit` as a script sees them. Prints KTAP.

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/vtlctl_common.sh"

# mov $200, %esi; 1: xor %eax, %eax; cpuid; dec %esi; jnz 1b; hlt
printf '\276\310\0\0\0\61\300\17\242\116\165\371\364' >"$work/exits"

echo "TAP version 13"
echo "1..34"
expect 0 "27 +0 +VP.INVGLA" probe_prints_the_tdcall_policy probe --policy
expect 0 "0xdb  ModifyHostVisibility" and_that_of_hypercalls probe --policy
expect 0 '"name":"VP.INVGLA"' and_as_json probe --policy --json
# Nodes that only a Hyper-V host brings.
expect 0 "mshv_hvcall +(can be opened|not there)" probe_knows_hypercalls probe
expect 0 "mshv_sint +(can be opened|not there)" probe_knows_messages probe
expect 0 "parameters +attest=(off|try|require) mitigations=auto" probe_knows_the_parameters probe
expect 0 "debugfs +/sys/kernel/debug/mshv_vtl_tdx: mitigations, policy, stats" probe_knows_debugfs probe
expect 0 "tracepoints +(/sys/.*vtl_enter, vtl_exit, vtl_refused|no folder of the module)" probe_knows_the_tracepoints probe
expect 0 "speculation +auto: spec_ctrl .*rsb" probe_knows_what_a_switch_does_against_speculation probe
expect 0 "HLT" a_guest_makes_some_exits run --mode prot32 "$work/exits"
expect 0 "CPUID +[0-9]+" stats_show_them_in_a_table stats
expect 0 '"name":"CPUID"' stats_show_them_as_json stats --json
expect 0 '^mshv_vtl_exits_total\{vp="0",exit="CPUID"\} [1-9]' stats_show_them_for_prometheus \
	stats --prometheus
expect 0 '^mshv_vtl_exit_storms_total\{vp="0"\} [0-9]' and_storms_too stats --prometheus
expect 0 "^in [0-9.]* s:$" stats_are_watched stats --watch 1 --times 1
expect 0 '"seconds":[0-9]' and_watched_as_json stats --watch --times 1 --json
expect 1 "no virtual processor" a_cpu_without_vp_is_told stats --cpu 4095
expect 0 "^[1-9][0-9]* records saved" records_are_saved audit save "$work/saved"
# This many exist, whatever ran before: saves all of them without waiting for more.
saved=$(sed -n 's/^\([0-9]*\) records saved.*/\1/p' "$work/out")
expect 0 "complete and consistent" saved_records_are_complete audit verify "$work/saved"
expect 0 "vm 1 .* -> CPUID" records_are_followed audit follow --from-oldest --count "$saved"

expect 0 '"rip":"0x[0-9a-f]+"' addresses_are_strings_in_json audit follow --from-oldest --count 1 --json
expect 0 '"verdict":"good"' the_verdict_is_told_as_json audit verify --json "$work/saved"
expect 0 "vm 1 .* -> CPUID" saved_records_are_shown audit show "$work/saved"
expect 0 "^# boot_id: $(cat /proc/sys/kernel/random/boot_id)$" and_where_they_come_from \
	audit show "$work/saved"
expect 0 '"rip":"0x[0-9a-f]+"' and_as_json audit show --json "$work/saved"

expect 0 "^$saved switches traced, 0 missed" switches_are_traced trace --from-oldest --duration 0 "$work/trace"
grep -q '"cat":"run".*"name":"CPUID"' "$work/trace"
result $? runs_are_named_for_their_exits
grep -q '"name":"userspace: CPUID"' "$work/trace"
result $? and_who_dealt_with_them_is_told

# Without the third record. The head ends where the records begin.
head=$(($(wc -c <"$work/saved") - 64 * saved))
{ head -c $((head + 128)) "$work/saved"; tail -c +$((head + 193)) "$work/saved"; } >"$work/gap"
expect 7 "1 switches are missing" a_removed_record_makes_it_incomplete audit verify "$work/gap"
head -c $((head + 100)) "$work/saved" >"$work/cut"
expect 7 "odd bytes" a_cut_file_is_incomplete audit verify "$work/cut"
# The last byte of a record is reserved.
cp "$work/saved" "$work/changed"
printf '\1' | dd of="$work/changed" bs=1 seek=$((head + 63)) conv=notrunc 2>/dev/null
expect 6 "reserved bytes" a_changed_file_was_tampered_with audit verify "$work/changed"
expect 3 "no file of audit records" another_file_is_told audit verify "$work/exits"
expect 3 "no file of audit records" and_is_not_shown audit show "$work/exits"
expect 3 "cannot read" a_missing_file_is_named audit verify "$work/missing"
[ "$failed" = 0 ]
