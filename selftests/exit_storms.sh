#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# A host that interrupts a lower VTL again and again shows in the statistics and in the log; a
# parameter says how often that is. Needs the debug port of the emulated host
# (Documentation/host.rst). Prints KTAP; leaves the module loaded.

MODULE=${MODULE:-/lib/mshv_vtl_tdx.ko}
VTLCTL=${VTLCTL:-vtlctl}
NAME=mshv_vtl_tdx
PORT=/sys/kernel/debug/vtl_debug_port
# Action of the debug port: the host preempts this many runs (hexadecimal).
EXITS=2
. "$(dirname "$0")/result.sh"

storms() { "$VTLCTL" stats --prometheus | sed -n 's/^mshv_vtl_exit_storms_total{vp="0"} //p'; }
events() { dmesg | grep -c 'op=exit_storm vp=0 exit=96 '; }

# taken COUNT SPACING_US: the guest is preempted COUNT times; exits up to that far apart count.
taken() {
	rmmod $NAME && insmod "$MODULE" storm_spacing_us="$2" || return 1
	echo "$EXITS $1" >$PORT || return 1
	"$VTLCTL" run --mode prot32 /tmp/halts >/tmp/out 2>&1 && grep -q HLT /tmp/out && return
	sed 's/^/# /' /tmp/out
	return 1
}

# A second between two exits is a lot: whatever the machine does besides, they are closer.
counts_two() {
	before=$(events)
	taken 800 1000000 || return 1
	echo "# storms: $(storms)"
	[ "$(storms)" = 2 ]
}

# A worker writes the line, some time.
is_logged() {
	left=200
	while [ "$(events)" -le "$before" ] && [ $left -gt 0 ]; do
		sleep 0.1
		left=$((left - 1))
	done
	[ "$(events)" -gt "$before" ]
}

tells_the_spacing() {
	"$VTLCTL" stats | grep -E '^ +0 exit storms +2 +[0-9.]+$' || return 1
	"$VTLCTL" stats --prometheus | grep -E '^mshv_vtl_exit_storm_seconds_total\{vp="0"\} [0-9.]*[1-9]' || return 1
	grep -E '^vp 0 storms 2 ticks [1-9][0-9]* shortest [1-9][0-9]*$' /sys/kernel/debug/$NAME/stats
}

one_less_is_none() { taken 3ff 1000000 && [ "$(storms)" = 0 ]; }

zero_looks_for_none() { taken 800 0 && [ "$(storms)" = 0 ]; }

# hlt
printf '\364' >/tmp/halts

echo "TAP version 13"
echo "1..5"
counts_two
result $? "exits_in_a_row_are_a_storm"
is_logged
result $? "it_is_logged"
tells_the_spacing
result $? "its_spacing_is_told"
one_less_is_none
result $? "one_exit_less_is_no_storm"
zero_looks_for_none
result $? "with_no_spacing_there_is_no_storm"
rmmod $NAME
insmod "$MODULE"
[ $failed = 0 ]
