#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# The tracepoints mshv_vtl_tdx:*, and the events of the control plane in the
# kernel log. Prints KTAP.

TRACING=/sys/kernel/tracing
EVENTS=$TRACING/events/mshv_vtl_tdx
. "$(dirname "$0")/result.sh"

skip_all() {
	echo "1..0 # SKIP $1"
	exit 4
}

# Empties the trace, runs one test program with the events on, turns them off.
traced() {
	echo >$TRACING/trace
	for event in "$@"; do echo 1 >"$EVENTS/$event/enable"; done
	./stats >/dev/null 2>&1
	outcome=$?
	echo 0 >$EVENTS/enable
	return $outcome
}

has() { grep -qE "$1" $TRACING/trace || { echo "# no line like: $1"; return 1; }; }

each_event_is_there() {
	for event in vtl_enter vtl_exit vtl_refused; do
		[ -e "$EVENTS/$event/enable" ] || { echo "# no event $event"; return 1; }
	done
}

enter_and_exit_are_traced() {
	traced vtl_enter vtl_exit || { echo "# the traced program failed"; return 1; }
	has 'vtl_enter: vm=1 reason=0 rip=0x[0-9a-f]+' &&
		has 'vtl_exit: vm=1 status=SUCCESS reason=CPUID qualification=.* rip=0x[0-9a-f]+ cycles=[0-9]+'
}

refusals_are_traced() {
	traced vtl_refused || { echo "# the traced program failed"; return 1; }
	# EINVAL of a run, and TDG.VP.ENTER refused by the policy.
	has 'vtl_refused: command=0xb827 operand=.* answer=0x16' &&
		has 'vtl_refused: command=0xc038b832 operand=0x19 answer=0xc000010000000000'
}

off_means_silent() {
	echo >$TRACING/trace
	./stats >/dev/null 2>&1
	! grep -q 'vtl_' $TRACING/trace
}

logged() {
	dmesg | grep -qE "mshv_vtl_tdx: audit: $1|module=mshv_vtl_tdx $1" ||
		{ echo "# not in the log: $1"; return 1; }
}

control_plane_is_logged() {
	logged 'op=load l2_vms=[1-3] audit_records=[0-9]+ lower_bytes=0x[1-9a-f]' &&
		logged 'op=create_vtl' &&
		logged 'op=page_attr_wr mapping=0x[0-9a-f]+' &&
		logged 'op=tdcall_refused leaf=0x[0-9a-f]+'
}

[ -d $TRACING/events ] || mount -t tracefs tracefs $TRACING 2>/dev/null
[ -d $TRACING/events ] || skip_all "no tracefs"

echo "TAP version 13"
echo "1..5"
each_event_is_there
result $? "each_event_is_there"
enter_and_exit_are_traced
result $? "enter_and_exit_are_traced"
refusals_are_traced
result $? "refusals_are_traced"
off_means_silent
result $? "off_means_silent"
# While auditing is enabled, events go to the audit daemon, if there is one.
if grep -q 'audit=1' /proc/cmdline; then
	number=$((number + 1))
	echo "ok $number control_plane_is_logged # SKIP auditing is on"
else
	control_plane_is_logged
	result $? "control_plane_is_logged"
fi
[ $failed = 0 ]
