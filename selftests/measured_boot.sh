#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# The event log of the boot (ACPI's table CCEL) against RTMR0 to 2, and what `vtlctl` makes of
# the command line in it. Prints KTAP.

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/vtlctl_common.sh"

LOG=/sys/firmware/acpi/tables/data/CCEL

echo "TAP version 13"
echo "1..9"
cat "$LOG" >"$work/log"
result $? linux_shows_the_event_log
expect 0 "^RTMR1 [0-9a-f]{96}: as the log says$" the_kernel_is_in_rtmr1 audit boot
expect 0 "^RTMR2 [0-9a-f]{96}: as the log says$" command_line_and_ram_disk_are_in_rtmr2 audit boot
grep -qE "^RTMR[12] 0{96}" "$work/out"
[ $? = 1 ]
result $? and_both_are_measured
[ "$(sed -n 's/^command line: //p' "$work/out")" = "$(cat /proc/cmdline)" ]
result $? the_command_line_is_the_one_that_linux_has
# This kernel is started for tests, not for secrets.
expect 0 "root can become the kernel: it is not locked down" and_says_what_it_leaves_open audit boot
expect 0 '"proved":true' the_same_as_json audit boot --json "$work/log"
# The command line begins at byte 289. Changed, the text is no longer what was measured.
cp "$work/log" "$work/forged"
printf 'X' | dd of="$work/forged" bs=1 seek=289 conv=notrunc 2>/dev/null
expect 0 "command line: not proved" a_forged_command_line_is_not_believed audit boot "$work/forged"
# Another digest: the register is no longer what it leads to. The first one begins at byte 79.
cp "$work/log" "$work/other"
printf '\377\377' | dd of="$work/other" bs=1 seek=80 conv=notrunc 2>/dev/null
expect 10 "^RTMR1 [0-9a-f]*: NOT as the log says$" another_digest_is_told audit boot "$work/other"
[ "$failed" = 0 ]
