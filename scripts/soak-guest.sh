#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# `make soak-guest`: boots the pinned kernel and the newest cloud kernel of another series at VTL0, each
# with 1, 2 and 4 processors, N times in a row in one TD; then one that is killed in the middle,
# one that starts again by itself, and one more. The module has to unload then.
# The consoles are kept in build/soak-guest; the last line counts.

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/env.sh"
. "$TOP/scripts/image.sh"
. "$TOP/scripts/other-kernel.sh"

boots=${N:-10}
logs=$BUILD/soak-guest
mkdir -p "$logs"
need_other
build_guest_image
passed=0 failed=0
for kernel in "$CACHE/kernel" "$other"; do
	release=$(cat "$kernel/release")
	GUEST_KIMAGE=$kernel/vmlinuz "$TOP/scripts/build.sh" guest
	for vcpus in ${VCPUS:-1 2 4}; do
		log=$logs/$release-$vcpus.log
		# The one that starts again does so twice, if its drivers are at hand.
		wanted=$((boots + 2)) status=0
		[ "$kernel" = "$other" ] || wanted=$((wanted + 1))
		SMP=$vcpus LIMIT=${LIMIT:-$((300 + 120 * vcpus * boots))} INITRAMFS=$BUILD/guest-initramfs \
			CMDLINE="guest.vps=$vcpus guest.boots=$boots ${CMDLINE:-}" \
			"$TOP/scripts/td.sh" guestsoak "$log" >/dev/null || status=1
		good=$(grep -c '^=== VTL0 userspace' "$log") || :
		if [ $status = 0 ] && [ "$good" -ge "$wanted" ]; then
			passed=$((passed + 1))
		else
			failed=$((failed + 1))
			note "failed: $log"
		fi
		say "$release at VTL0, $vcpus processors: $good of $wanted starts, status $status"
	done
done
echo "soak-guest: $passed passed, $failed failed"
[ "$failed" = 0 ]
