#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Which lists of lower-VTL memory are refused: no load, one line that says why, and
# nothing is kept. Prints KTAP; leaves the module loaded.

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/memory_list_common.sh"

malformed_lists_are_refused() {
	many='' i=0
	while [ $i -lt 33 ]; do
		many=$many,$(hex $((base + i * 0x2000))),0x1000
		i=$((i + 1))
	done
	refused "$base" "not START,LENGTH" &&
		refused "$base,$size," "not START,LENGTH" &&
		refused "$base;$size" "not START,LENGTH" &&
		refused "$base,-4096" "not START,LENGTH" &&
		refused "$base,0" "$base,0x0: an empty range" &&
		refused "$(hex $((base + 1))),$size" "not whole pages" &&
		refused "$base,4095" "not whole pages" &&
		refused "$base,$size,$(hex $((base + 4096))),4096" "overlaps another range" &&
		refused "0x800000000000,4096" "beyond the private memory" &&
		refused "$base,0xfffffffffffff000" "beyond the private memory" &&
		refused "${many#,}" "more than 32 ranges" &&
		refused "$(printf '0x1000,%.0s' $(seq 1000))" "is too long"
}

# The second of two, so that the first has been claimed before.
collides() { refused "$base,$MIB,$1" "$2"; }

what_linux_uses_is_refused() {
	nvs=$(first 'ACPI Non-volatile Storage')
	collides "$(first 'System RAM'),4096" "collides with System RAM" &&
		collides "0x1000,0x7f000" "collides with System RAM" &&
		collides "$(first 'ACPI Tables'),4096" "collides with .*ACPI table" &&
		collides "$nvs,4096" "collides with ACPI non-volatile storage" &&
		refused "$(hex $((nvs - 4096))),8192" "collides with" &&
		collides "$(first 'Unusable memory'),4096" "collides with memory that firmware calls unusable" &&
		collides "0xf0000,0x10000" "collides with a device, a ROM or a driver" &&
		collides "0xa0000,4096" "collides with the legacy VGA window" &&
		collides "0xfee00000,4096" "collides with the window of interrupt controllers" &&
		collides "0,4096" "collides with page 0"
}

# The run with much memory has crashkernel=.
the_memory_of_the_crash_kernel_is_refused() {
	crash=$(first 'Crash kernel')
	skipped_because='no crashkernel= on the kernel command line'
	[ -n "$crash" ] || return 4
	collides "$crash,4096" "collides with memory of the crash kernel"
}

# The tables that Linux uses are recognized, wherever they are: the event log of the boot, of any length,
# may be before them.
the_page_of_a_table_is_refused_as_such() {
	at=$(first 'ACPI Tables') end=$(last 'ACPI Tables')
	while [ $((at)) -lt $((end)) ]; do
		! refused "$at,4096" "collides with an ACPI table" >/dev/null || return 0
		at=$(hex $((at + 4096)))
	done
	return 1
}

what_a_driver_has_is_refused() {
	unload && insmod "$PLUG" start="$base" length=4096 || return 1
	refused "$given" "collides with a device, a ROM or a driver" &&
		refused "$base,4096" "collides with a device, a ROM or a driver"
	status=$?
	rmmod vtl_plug && return $status
}

run_cases malformed_lists_are_refused what_linux_uses_is_refused \
	the_memory_of_the_crash_kernel_is_refused the_page_of_a_table_is_refused_as_such what_a_driver_has_is_refused \
	works_after_reload no_kernel_complaint
