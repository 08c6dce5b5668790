#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# What a crashed kernel has left with the host and the TDX module does not stop the next one, and is
# cleaned up: enabled SynIC pages, virtual-APIC addresses. And an orderly unload leaves nothing.
# Prints KTAP; leaves the module loaded.

MODULE=${MODULE:-/lib/mshv_vtl_tdx.ko}
NAME=mshv_vtl_tdx
LEFT=/sys/kernel/debug/vtl_left_behind
. "$(dirname "$0")/result.sh"

nothing_is_left() {
	cat $LEFT >/tmp/left || return 1
	grep -q '^cpu 0 ' /tmp/left || return 1
	if grep -vE 'simp [0-9a-f]*0 siefp [0-9a-f]*0 scontrol 0 vm1 0 vm2 (0|f+) vm3 (0|f+)$' /tmp/left
	then
		return 1
	fi
}

# A page that no kernel uses any more, because the guest's memory is all it is in.
leave_all() {
	rmmod $NAME || return 1
	list=$(sed -n 's/.*vtl0_mem=\([^ ]*\).*/\1/p' /proc/cmdline)
	base=${list%,*} base=${base##*0x}
	echo "$base" >$LEFT || return 1
	! nothing_is_left >/dev/null
}

addresses_are_forgotten() {
	insmod "$MODULE" || return 1
	cat $LEFT >/tmp/left
	# One line for each CPU, or nothing was checked.
	[ "$(wc -l </tmp/left)" = "$(nproc)" ] || return 1
	if grep -vE 'vm1 [1-9a-f][0-9a-f]* vm2 (0|f+) vm3 (0|f+)$' /tmp/left || grep "vm1 $base " /tmp/left
	then
		return 1
	fi
}

unloads_clean() { rmmod $NAME && nothing_is_left; }

# After a kexec: nothing is left except by the kernel before.
if [ "${1:-}" = first ]; then
	echo "TAP version 13"
	echo "1..5"
	nothing_is_left
	result $? "a_kexec_leaves_nothing"
	insmod "$MODULE"
	result $? "the_next_kernel_loads_the_module"
	# Nobody but the last event of its attested log extends the register between two kernels.
	before=$(sed -n 's/.*vtl\.register=\([0-9a-f]*\).*/\1/p' /proc/cmdline)
	after=$(vtlctl audit boot --register 3)
	[ ${#before} = 96 ] && [ ${#after} = 96 ] && [ "$after" != "$before" ]
	result $? "the_kernel_before_has_closed_its_log"
	./kexec_into
	result $? "and_can_use_what_the_host_was_given"
	./vp_run
	result $? "and_runs_a_guest"
	echo "# totals: pass:$((number - failed)) fail:$failed skip:0"
	[ $failed = 0 ]
	exit
fi

echo "TAP version 13"
echo "1..6"
[ -e $LEFT ] || insmod /lib/vtl_left_behind.ko
unloads_clean
result $? "an_unload_leaves_nothing"
insmod "$MODULE"
leave_all
result $? "a_crash_leaves_something"
addresses_are_forgotten
result $? "the_next_load_forgets_the_addresses"
./vp_run >/dev/null 2>&1
result $? "and_runs_a_guest"
# On Hyper-V only: the SynIC is taken over from the crashed kernel.
if [ -e /dev/mshv_hvcall ]; then
	[ -c /dev/mshv_sint ] && ./sint >/dev/null 2>&1
	result $? "and_has_the_synic"
else
	result 0 "and_has_the_synic # SKIP the host has none"
fi
unloads_clean
result $? "and_leaves_nothing_itself"
insmod "$MODULE"
[ $failed = 0 ]
