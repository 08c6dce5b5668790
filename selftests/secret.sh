#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# The secret at VTL1 of the guide, unchanged, with VTL calls by the kernel and by userspace. Prints
# KTAP.

command -v secret >/dev/null || { echo "1..0 # SKIP no secret in PATH"; exit 4; }
# shellcheck source=selftests/result.sh
. ./result.sh

answers() { sed -n 's/^VTL1 says //p' "$1" | tr '\n' ' '; }

echo "TAP version 13"
echo "1..6"
secret >/tmp/secret.kernel
result $? it_runs_both_vtls_to_the_end
[ "$(answers /tmp/secret.kernel)" = "no right no no no no " ]
result $? after_three_wrong_guesses_the_right_one_is_refused
grep -qE '^VTL0 may not read 0x[0-9a-f]+ itself$' /tmp/secret.kernel
result $? vtl0_cannot_read_it
grep -q '^6 of 6 calls by the kernel$' /tmp/secret.kernel
result $? the_kernel_carries_out_each_call
secret userspace >/tmp/secret.userspace && grep -q '^0 of 6 calls by the kernel$' /tmp/secret.userspace
result $? userspace_carries_out_each_call_without_the_kernel
grep -v 'by the kernel$' /tmp/secret.kernel >/tmp/secret.1
grep -v 'by the kernel$' /tmp/secret.userspace >/tmp/secret.2
[ -s /tmp/secret.1 ] && cmp -s /tmp/secret.1 /tmp/secret.2
result $? both_ways_print_the_same
[ $failed = 0 ] || sed 's/^/# /' /tmp/secret.kernel /tmp/secret.userspace
[ $failed = 0 ]
