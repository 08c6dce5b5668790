#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# What somebody before the module left in an MSR that VTL2's kernel never writes stays
# VTL2's, and no guest finds it; nor what that kernel itself has there. Needs an emulator
# with emu.extra_msrs=1. Prints KTAP; leaves the module loaded and the MSRs zero.

MODULE=${MODULE:-/lib/mshv_vtl_tdx.ko}
NAME=mshv_vtl_tdx
. "$(dirname "$0")/result.sh"

# Each case of vp_msrs passes, and none is skipped, with a module that has not run a VP
# yet. What is in the MSRs then is left by the argument of vp_msrs.
passes_with() {
	rmmod $NAME && ./vp_msrs "$1" && insmod "$MODULE" || return 1
	./vp_msrs >/tmp/out 2>&1 && ! grep -q '# SKIP' /tmp/out && return
	sed 's/^/# /' /tmp/out
	return 1
}

# The kernel command line has spec_store_bypass_disable=on. A kernel that wants zero in
# IA32_SPEC_CTRL (0x48) could lose its value and nobody would see it.
wants_spec_ctrl() {
	[ -n "$(dd if=/dev/cpu/0/msr bs=8 skip=9 count=1 2>/dev/null | od -A n -t x1 | tr -d ' 0\n')" ]
}

echo "TAP version 13"
echo "1..3"
passes_with leave
result $? "what_was_left_before_the_module_stays_vtl2s"
passes_with clear
result $? "so_does_zero"
wants_spec_ctrl
result $? "vtl2s_own_spec_ctrl_is_not_zero"
[ $failed = 0 ]
