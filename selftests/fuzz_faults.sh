#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# fuzz_ioctl while allocations and user accesses fail in the middle of calls: each thread asks the
# kernel to fail its n-th one. Needs a debug kernel.

debug=/sys/kernel/debug
[ -d $debug/failslab ] || mount -t debugfs debugfs $debug

# Silent, and also for allocations that may wait: those are nearly all.
for kind in failslab fail_page_alloc fail_usercopy; do
	echo 0 >$debug/$kind/verbose || exit 1
done
echo N >$debug/failslab/ignore-gfp-wait || exit 1
echo N >$debug/fail_page_alloc/ignore-gfp-wait || exit 1
echo 0 >$debug/fail_page_alloc/min-order || exit 1

# The kernel accesses the rseq area at times of its own.
GLIBC_TUNABLES=glibc.pthread.rseq=0 FUZZ_FAULTS=1 exec ./fuzz_ioctl
