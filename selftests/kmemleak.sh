#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# What the tests before this one left allocated although nothing points to it any
# more. Needs a debug kernel. Prints KTAP.

leaks=/sys/kernel/debug/kmemleak
. "$(dirname "$0")/result.sh"

[ -e $leaks ] || mount -t debugfs debugfs /sys/kernel/debug

# Young objects are not reported, and a moving pointer hides from one scan.
scan() {
	for _ in 1 2 3; do
		sleep 6
		echo scan >$leaks || return 1
	done
}

echo "TAP version 13"
echo "1..2"
scan
result $? "the_memory_was_searched"
found=$(cat $leaks)
echo "$found" | head -n 60 | sed 's/^/# /'
! echo "$found" | grep -q 'mshv_vtl_tdx'
result $? "the_module_leaks_nothing"
[ $failed = 0 ]
