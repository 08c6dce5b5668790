#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# `make soak`: boots the pinned kernel and the newest cloud kernel of another
# series as a TD, each with 1, 2 and 4 vCPUs, N times, to userspace and off.
# The consoles are kept in build/soak; the last line counts.

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/env.sh"
. "$TOP/scripts/other-kernel.sh"

logs=$BUILD/soak
mkdir -p "$logs"

need_other
passed=0 failed=0
for kernel in "$CACHE/kernel" "$other"; do
	for vcpus in ${VCPUS:-1 2 4}; do
		good=0
		for run in $(seq "${N:-20}"); do
			log=$logs/$(cat "$kernel/release")-$vcpus-$run.log
			if KIMAGE=$kernel/vmlinuz SMP=$vcpus "$TOP/scripts/td.sh" boot "$log" >/dev/null 2>"$log.err"; then
				good=$((good + 1))
			else
				failed=$((failed + 1))
				note "failed: $log: $(head -n 1 "$log.err")"
			fi
		done
		passed=$((passed + good))
		say "$(cat "$kernel/release"), $vcpus vCPU: $good of ${N:-20} boots"
	done
done
echo "soak: $passed passed, $failed failed"
[ "$failed" = 0 ]
