#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# What the tests before this one left allocated although nothing points to it any
# more, after a search that is seen to find something. Needs a debug kernel. Prints
# KTAP.

leaks=/sys/kernel/debug/kmemleak
PLUG=${PLUG:-/lib/vtl_plug.ko}
. "$(dirname "$0")/result.sh"

[ -e $leaks ] || mount -t debugfs debugfs /sys/kernel/debug

# Young objects are not reported, and a moving pointer hides from one scan.
scan() {
	for _ in 1 2 3; do
		sleep 6
		echo scan >$leaks || return 1
	done
}

# The test module leaks memory on purpose.
a_leak_is_found() { insmod "$PLUG" forget=1 && scan && grep -q 'vtl_plug' $leaks; }

echo "TAP version 13"
echo "1..2"
a_leak_is_found
result $? "a_leak_is_found"
found=$(cat $leaks)
echo "$found" | head -n 60 | sed 's/^/# /'
! echo "$found" | grep -q 'mshv_vtl_tdx'
result $? "the_module_leaks_nothing"
rmmod vtl_plug
[ $failed = 0 ]
