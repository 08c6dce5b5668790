#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# `vtlctl bench`: each path is measured, and a VTL call by whom its row says. Prints KTAP.

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/vtlctl_common.sh"

# VTL calls that the kernel carried out on CPU 0 so far.
calls() {
	"$VTLCTL" stats --prometheus | sed -n 's/^mshv_vtl_switches_total{vp="0",event="call"} //p'
}

echo "TAP version 13"
echo "1..3"
before=$(calls)
expect 0 '^BENCH name=user_round_trip passages=[1-9]' a_round_trip_is_measured bench --iterations 30
for path in vtl_call_return vtl_call_return_user; do
	grep -qE "^BENCH name=$path passages=[1-9]" "$work/out" || break
	found="$found $path"
done
[ "$found" = " vtl_call_return vtl_call_return_user" ]
result $? a_vtl_call_is_measured_by_the_kernel_and_by_userspace
# 20 more come before counting starts.
[ $(($(calls) - before)) = 50 ]
result $? the_kernel_carried_out_those_of_one_row
[ "$failed" = 0 ]
