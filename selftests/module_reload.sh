#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# The module can be loaded and unloaded any number of times without leaking memory. RELOADS= is the
# number of times. Prints KTAP; leaves the module loaded.

MODULE=${MODULE:-/lib/mshv_vtl_tdx.ko}
NAME=mshv_vtl_tdx
RELOADS=${RELOADS:-100}
# The first reloads mostly fill the kernel's caches. A page leaked by each of the others is twice
# the slack, which allows for other activity and for slab caches that still fill.
WARM_UP=$((RELOADS / 4))
# A kernel that keeps what is freed for a while has FREE_SLACK_KB= more.
PAGES_SLACK_KB=$(((RELOADS - WARM_UP) * 2 + ${FREE_SLACK_KB:-0}))
OBJECTS_SLACK_KB=$(((RELOADS - WARM_UP) * 5 + ${FREE_SLACK_KB:-0}))
. "$(dirname "$0")/result.sh"

is_loaded() { [ -d "/sys/module/$NAME" ]; }

# Slab memory, except what the kernel could reclaim.
objects_kb() {
	awk '/^(SUnreclaim|VmallocUsed|Percpu):/ { sum += $2 } END { print sum }' /proc/meminfo
}

# Pages that are neither free, nor in a per-CPU list, nor in slab caches.
taken_kb() {
	awk '$1 == "managed" { sum += $2 * 4 }
	     $1 == "nr_free_pages" || $1 == "count:" { sum -= $2 * 4 }
	     $1 == "Slab:" { sum -= $2 }
	     END { print sum }' /proc/zoneinfo /proc/meminfo
}

reload_many_times() {
	round=0
	while [ $round -lt "$RELOADS" ]; do
		[ $round != $WARM_UP ] || { objects=$(objects_kb); taken=$(taken_kb); }
		round=$((round + 1))
		rmmod $NAME || { echo "# rmmod failed in round $round"; return 1; }
		if is_loaded || [ -e /dev/mshv ]; then
			echo "# something stayed in round $round"
			return 1
		fi
		insmod "$MODULE" || { echo "# insmod failed in round $round"; return 1; }
		for device in mshv mshv_vtl mshv_vtl_low; do
			[ -c "/dev/$device" ] || { echo "# no /dev/$device in round $round"; return 1; }
		done
	done
	objects_after=$(objects_kb)
	taken_after=$(taken_kb)
}

# If fewer reloads than requested succeeded, there are no figures, and that is a failure.
nothing_is_left() {
	echo "# objects $objects -> $objects_after kB, pages $taken -> $taken_after kB"
	[ "${objects_after:-0}" -gt 0 ] && [ "${taken_after:-0}" -gt 0 ] &&
		[ $((objects_after - objects)) -le $OBJECTS_SLACK_KB ] &&
		[ $((taken_after - taken)) -le $PAGES_SLACK_KB ]
}

# What each reload loses is lost again by as many more. What only filled up for the
# first time, after all that ran before, is not.
nothing_is_left_or_not_again() {
	nothing_is_left && return
	echo "# once more"
	objects_after='' taken_after=''
	reload_many_times && nothing_is_left
}

echo "TAP version 13"
echo "1..3"
reload_many_times
result $? "it_reloads_${RELOADS}_times"
nothing_is_left_or_not_again
result $? "nothing_is_left"
is_loaded || insmod "$MODULE"
./vp_run >/dev/null 2>&1
result $? "a_guest_runs_afterwards"
[ $failed = 0 ]
