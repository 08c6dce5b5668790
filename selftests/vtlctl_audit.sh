#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# `vtlctl stats` and `vtlctl audit` as a script sees them. Prints KTAP.

VTLCTL=${VTLCTL:-vtlctl}
command -v "$VTLCTL" >/dev/null || { echo "1..0 # SKIP no vtlctl in PATH"; exit 4; }
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
number=0
failed=0

# expect STATUS PATTERN NAME ARGUMENT...: runs `vtlctl ARGUMENT...`.
expect() {
	wanted=$1 pattern=$2 name=$3
	shift 3
	number=$((number + 1))
	"$VTLCTL" "$@" >"$work/out" 2>&1
	status=$?
	if [ $status = "$wanted" ] && grep -qE -- "$pattern" "$work/out"; then
		echo "ok $number $name"
		return
	fi
	echo "# status $status, expected $wanted and '$pattern' in:"
	head -n 20 "$work/out" | sed 's/^/# /'
	echo "not ok $number $name"
	failed=$((failed + 1))
}

# mov $200, %esi; 1: xor %eax, %eax; cpuid; dec %esi; jnz 1b; hlt
printf '\276\310\0\0\0\61\300\17\242\116\165\371\364' >"$work/exits"

echo "TAP version 13"
echo "1..19"
expect 0 "27 +0 +VP.INVGLA" probe_prints_the_tdcall_policy probe --policy
expect 0 "0xdb  ModifyHostVisibility" and_that_of_hypercalls probe --policy
expect 0 '"name":"VP.INVGLA"' and_as_json probe --policy --json
# Nodes that only a Hyper-V host brings.
expect 0 "mshv_hvcall +(can be opened|not there)" probe_knows_hypercalls probe
expect 0 "mshv_sint +(can be opened|not there)" probe_knows_messages probe
expect 0 "speculation +auto: spec_ctrl .*rsb" probe_knows_what_a_switch_does_against_speculation probe
expect 0 "HLT" a_guest_makes_some_exits run --mode prot32 "$work/exits"
expect 0 "CPUID +[0-9]+" stats_show_them_in_a_table stats
expect 0 '"name":"CPUID"' stats_show_them_as_json stats --json
expect 0 '^mshv_vtl_exits_total\{vp="0",exit="CPUID"\} [1-9]' stats_show_them_for_prometheus \
	stats --prometheus
expect 0 '^mshv_vtl_exit_storms_total\{vp="0"\} [0-9]' and_storms_too stats --prometheus
expect 1 "no virtual processor" a_cpu_without_vp_is_told stats --cpu 4095
expect 0 "^[1-9][0-9]* records saved" records_are_saved audit save "$work/saved"
# So many there are, whatever ran before: all of them, and no waiting for more.
saved=$(sed -n 's/^\([0-9]*\) records saved.*/\1/p' "$work/out")
expect 0 "complete and consistent" saved_records_are_complete audit verify "$work/saved"
expect 0 "vm 1 .* -> CPUID" records_are_followed audit follow --from-oldest --count "$saved"

# Without the third record, whose place is 16 + 2 * 64.
{ head -c 144 "$work/saved"; tail -c +209 "$work/saved"; } >"$work/gap"
expect 1 "1 switches are missing" a_removed_record_is_missed audit verify "$work/gap"
head -c 100 "$work/saved" >"$work/cut"
expect 1 "odd bytes" a_cut_file_is_told audit verify "$work/cut"
expect 1 "no file of audit records" another_file_is_told audit verify "$work/exits"
expect 1 "cannot read" a_missing_file_is_named audit verify "$work/missing"
[ $failed = 0 ]
