#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Loading and unloading: refused while in use, and with wrong parameters.
# module_reload.sh does it many times. Prints KTAP; leaves the module loaded.

MODULE=${MODULE:-/lib/mshv_vtl_tdx.ko}
NAME=mshv_vtl_tdx
. "$(dirname "$0")/result.sh"

is_loaded() { [ -d "/sys/module/$NAME" ]; }

refused_while_open() {
	exec 9<>"$1" || return 1
	if rmmod $NAME 2>/dev/null; then
		echo "# rmmod succeeded while $1 was open"
		exec 9>&-
		return 1
	fi
	exec 9>&-
	is_loaded
}

second_load_refused() {
	if insmod "$MODULE" 2>/dev/null; then
		echo "# the module was loaded twice"
		return 1
	fi
	is_loaded
}

# Refused with a line that names parameter and range; what is allowed works.
wrong_ring_sizes_refused() {
	rmmod $NAME || return 1
	for records in 0 32 1000 131072 4294967295; do
		if insmod "$MODULE" audit_records=$records 2>/dev/null; then
			echo "# audit_records=$records was taken"
			return 1
		fi
		dmesg | tail -n 5 | grep -q "audit_records=$records is not a power of two" ||
			{ echo "# audit_records=$records: no word in the log"; return 1; }
	done
	! is_loaded
}

other_ring_sizes_work() {
	for records in 128 4096; do
		insmod "$MODULE" audit_records=$records || return 1
		./audit_ring >/dev/null 2>&1 || { echo "# audit_ring failed with $records"; return 1; }
		rmmod $NAME || return 1
	done
	insmod "$MODULE"
}

wrong_mitigations_refused() {
	rmmod $NAME || return 1
	for mode in on AUTO full,off rsb,off bhb, rsb,bhb,verw,ibpb,rsb,bhb,verw,ibpb ''; do
		if insmod "$MODULE" "mitigations=$mode" 2>/dev/null; then
			echo "# mitigations=$mode was taken"
			return 1
		fi
		dmesg | tail -n 5 | grep -q "mitigations=.*: expected auto, full, off" ||
			{ echo "# mitigations=$mode: no word in the log"; return 1; }
	done
	! is_loaded
}

# Each mode says what it is, and switches work with it.
mitigations_can_be_chosen() {
	[ -d /sys/kernel/debug/tracing ] || mount -t debugfs debugfs /sys/kernel/debug || return 1
	for mode in auto full off user; do
		insmod "$MODULE" mitigations=$mode || return 1
		shown=$(cat /sys/module/$NAME/parameters/mitigations)
		[ "$shown" = $mode ] || { echo "# mitigations=$mode is shown as $shown"; return 1; }
		defences=$(cat /sys/kernel/debug/$NAME/mitigations)
		# Every TD has IA32_SPEC_CTRL, with BHI_CTRL, and IBPB.
		case $mode/$defences in
		"auto/auto: spec_ctrl "*"rsb ibpb-exit ibpb" | "off/off: spec_ctrl") ;;
		"user/user: spec_ctrl "*"rsb ibpb") ;;
		"full/full: spec_ctrl "*"rsb ibpb-exit bhb ibpb") ;;
		*) echo "# debugfs says $defences"; return 1 ;;
		esac
		./vp_run >/dev/null 2>&1 || { echo "# vp_run failed with $mode"; return 1; }
		rmmod $NAME || return 1
	done
	insmod "$MODULE"
}

# A list enables only what it names, besides SPEC_CTRL, which is state and not a defence; the order
# is that of a switch.
defences_can_be_listed() {
	rmmod $NAME || return 1
	for list in rsb bhb,rsb,ibpb-exit; do
		insmod "$MODULE" mitigations=$list || return 1
		shown=$(cat /sys/module/$NAME/parameters/mitigations)
		defences=$(sed 's/ spec_ctrl//' /sys/kernel/debug/$NAME/mitigations)
		case $list:$shown:$defences in
		rsb:rsb:only:\ rsb) ;;
		*:rsb,ibpb-exit,bhb:only:\ rsb\ ibpb-exit\ bhb) ;;
		*) echo "# mitigations=$list is shown as $shown, debugfs says $defences"; return 1 ;;
		esac
		./vp_run >/dev/null 2>&1 || { echo "# vp_run failed with $list"; return 1; }
		rmmod $NAME || return 1
	done
	insmod "$MODULE"
}

works_after_reload() { ./vp_run >/dev/null 2>&1; }

# Of one release, the module and the command have one number.
one_version_everywhere() {
	version=$(cat /sys/module/$NAME/version) && [ -n "$version" ] || return 1
	[ "$(vtlctl --version)" = "vtlctl $version" ] || { vtlctl --version | sed 's/^/# /'; return 1; }
	vtlctl probe | grep -q "kernel module .*version $version (source [0-9A-F]*)"
}

without_the_module_that_is_said() {
	rmmod $NAME || return 1
	said=$(vtlctl probe 2>&1)
	[ $? = 1 ] && echo "$said" | grep -q 'mshv_vtl_tdx is not loaded: modprobe it' || return 1
	said=$(vtlctl run --demo 2>&1)
	[ $? = 1 ] && echo "$said" | grep -q 'the module is not loaded' || { echo "# $said"; return 1; }
	insmod "$MODULE"
}

no_kernel_complaint() {
	if dmesg | grep -E 'WARNING:|BUG:|Oops|general protection'; then
		return 1
	fi
}

echo "TAP version 13"
echo "1..13"
for node in mshv mshv_vtl mshv_vtl_low; do
	refused_while_open "/dev/$node"
	result $? "unload_is_refused_while_${node}_is_open"
done
second_load_refused
result $? "a_second_load_is_refused"
wrong_ring_sizes_refused
result $? "wrong_ring_sizes_are_refused"
other_ring_sizes_work
result $? "other_ring_sizes_work"
wrong_mitigations_refused
result $? "wrong_mitigations_are_refused"
mitigations_can_be_chosen
result $? "mitigations_can_be_chosen"
is_loaded || insmod "$MODULE"
defences_can_be_listed
result $? "defences_can_be_listed"
is_loaded || insmod "$MODULE"
works_after_reload
result $? "a_guest_runs_after_the_reloads"
one_version_everywhere
result $? "module_and_command_have_one_version"
without_the_module_that_is_said
result $? "without_the_module_that_is_said"
is_loaded || insmod "$MODULE"
no_kernel_complaint
result $? "the_kernel_log_has_no_complaint"
[ $failed = 0 ]
