# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
#
# What requests quotes by Linux's own drivers (configfs-tsm). Sourced, not run.

REPORTS=/sys/kernel/config/tsm/report

skip() { echo "1..0 # SKIP $1"; exit 4; }

# load NAME FILE: unless it is loaded. A kernel that has it built in brings no such file.
load() { [ -d "/sys/module/$1" ] || [ ! -e "/lib/$2" ] || insmod "/lib/$2" || exit 1; }

load configfs configfs.ko
load tsm_report tsm_report.ko
load tdx_guest tdx-guest.ko
[ ! -d /sys/kernel/config ] || [ -d "$REPORTS" ] || mount -t configfs none /sys/kernel/config || exit 1
[ -d "$REPORTS" ] || skip "no $REPORTS: a kernel without the driver of TDX guests"
