#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Where the list of lower-VTL memory comes from, and that nothing else can use that memory.
# Prints KTAP; leaves the module loaded with the list of the kernel's command line.

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/memory_list_common.sh"

# plug ERROR WORDS...: the load of the other user ends with this error.
plug() {
	error=$1
	shift
	answer=$(insmod "$PLUG" "$@" 2>&1)
	case $answer in
	*"$error"*) ;;
	*) echo "# $*: '$answer', not '$error'"; return 1 ;;
	esac
}

# Without the module the same words work, or fail for another reason.
nobody_else_gets_what_is_listed() {
	load || return 1
	plug busy start="$base" length=4096 || return 1
	plug "in use" start="$base" length="$size" memory=1 || return 1
	unload && plug "" start="$base" length=4096 && rmmod vtl_plug || return 1
	# No block of memory is that small.
	plug Invalid start="$base" length=4096 memory=1
}

shown() {
	shown=$(cat $PARAMETER)
	[ "$shown" = "$1" ] || { echo "# the list is '$shown', not '$1'"; return 1; }
}

# As the module writes what the kernel's command line names.
load "vtl0_mem=$given"
named=$(cat $PARAMETER)

the_kernels_command_line_names_the_list() {
	[ -n "$named" ] && load && shown "$named" && grep -q "$CLAIM" /proc/iomem
}

# A file that is mounted over /proc/cmdline is not the kernel's command line.
no_other_file_takes_the_place_of_the_command_line() {
	echo "vtl0_mem=$(hex $((16 * MIB))),4096" >/tmp/cmdline
	unload && mount -o bind /tmp/cmdline /proc/cmdline || return 1
	insmod "$MODULE"
	status=$?
	umount /proc/cmdline
	[ $status = 0 ] && shown "$named"
}

the_parameter_is_asked_first() {
	load "vtl0_mem=$base,8M" && shown "$base,0x800000" || return 1
	load "vtl0_mem=$(hex $((base + 8 * MIB))),4K,$base,$((8 * MIB))" || return 1
	shown "$base,0x801000"
}

# holds LIST: what is not in it is out of reach, what is in it works.
holds() {
	load "vtl0_mem=$1" || return 1
	./memory_list >/tmp/list.log 2>&1 && return
	grep -E '^(# |not ok)' /tmp/list.log
	return 1
}

two_ranges_with_a_gap_work() {
	holds "$base,$((8 * MIB)),$(hex $((base + 16 * MIB + 4096))),$((8 * MIB))" && ./vp_run >/dev/null 2>&1
}

# How often the kernel log says that there is none.
without() { dmesg | grep -c "no vtl0_mem=: the lower VTLs have no memory"; }

without_a_list_no_memory_is_a_lower_vtls() {
	before=$(without)
	holds "" && shown "" && [ "$(without)" -gt "$before" ]
}

run_cases nobody_else_gets_what_is_listed the_kernels_command_line_names_the_list \
	no_other_file_takes_the_place_of_the_command_line the_parameter_is_asked_first \
	two_ranges_with_a_gap_work without_a_list_no_memory_is_a_lower_vtls \
	works_after_reload no_kernel_complaint
