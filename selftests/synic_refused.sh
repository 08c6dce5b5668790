#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# A host that refuses the registers of its SynIC, from the first one or from a later one: the module
# can be loaded and unloaded, a guest runs, and the kernel does not warn. Needs a Hyper-V host with
# the debug port (Documentation/host.rst). Prints KTAP.

MODULE=${MODULE:-/lib/mshv_vtl_tdx.ko}
NAME=mshv_vtl_tdx
PORT=/sys/kernel/debug/vtl_debug_port
NODE=/dev/mshv_sint
# Action of the debug port; more than one load accesses.
REFUSALS=8
MANY=7fff
. "$(dirname "$0")/result.sh"

# load_refused PASS: the host refuses all but the first PASS accesses of the load.
load_refused() {
	rmmod $NAME || return 1
	echo "$REFUSALS ${1}$MANY" >$PORT || return 1
	insmod "$MODULE" && ./vp_run >/dev/null 2>&1
}

is_never_there() { load_refused "" && [ ! -e $NODE ]; }

# The first access finds the controller, those that set it up are refused.
is_there_but_off() {
	load_refused 1 && [ -c $NODE ]
}

comes_back() {
	rmmod $NAME || return 1
	echo "$REFUSALS 0" >$PORT
	insmod "$MODULE" && ./sint >/dev/null 2>&1
}

no_complaint() { ! dmesg | grep 'unchecked MSR access'; }

echo "TAP version 13"
echo "1..4"
is_never_there
result $? "a_synic_that_is_refused_has_no_node"
is_there_but_off
result $? "a_synic_that_can_not_be_set_up_does_no_harm"
comes_back
result $? "the_next_load_finds_it_again"
no_complaint
result $? "the_kernel_has_no_complaint"
[ $failed = 0 ]
