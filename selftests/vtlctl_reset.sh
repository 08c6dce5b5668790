#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# `vtlctl reset`: every virtual processor that is online, or one, or an error that says why; and
# guests run afterwards. vtlctl_renews.c checks what is reset. Prints KTAP.

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/vtlctl_common.sh"

# hlt; jmp 1b
printf '\364\353\375' >"$work/halts"

# Each CPU that is online, once, and no other.
all_are_named() {
	seq 0 $(($(nproc) - 1)) | sed 's/.*/cpu &: reset/' >"$work/wanted"
	"$VTLCTL" reset | grep ': reset$' >"$work/out"
	diff "$work/wanted" "$work/out"
}

echo "TAP version 13"
echo "1..6"
all_are_named
result $? all_that_are_online_are_reset
expect 0 "cpu 0: reset" one_is_reset reset --cpu 0
expect 0 '"reset":true,"vp":0' one_is_reset_and_tells_it_as_json reset --cpu 0 --json
expect 1 "cpu 65000 has no virtual processor" one_that_is_not_there_is_named reset --cpu 65000
expect 2 "number|invalid" a_wrong_number_is_refused reset --cpu x
expect 0 HLT a_guest_runs_afterwards run "$work/halts"
[ "$failed" = 0 ]
