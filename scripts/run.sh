#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# `make run`: from nothing to a Linux at VTL0, with every step on the screen.

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/env.sh"
. "$TOP/scripts/image.sh"
. "$TOP/scripts/machine.sh"

# What can't be right is said before anything is built.
[ -z "$KIMAGE_GIVEN" ] || in_reach KIMAGE "$KIMAGE"
[ -z "$KIMAGE_GIVEN" ] || say "kernel $KIMAGE_GIVEN instead of the stock one"
build_guest_image
kernel="kernel $KIMAGE_GIVEN"
[ -n "$KIMAGE_GIVEN" ] || kernel="stock kernel $(cat "$CACHE/kernel/release")"
say "a TD: $kernel at VTL2, the same at VTL0, and a secure kernel at VTL1"
INITRAMFS=$BUILD/guest-initramfs "$TOP/scripts/td.sh" guest "$BUILD/run.log"
is_signed "$BUILD/run.log" || die "the secure kernel's signature is missing or wrong" "console: $BUILD/run.log"
say "the signature is that of scripts/guest-init by the secure kernel at VTL1"
say "passed; the complete console is in ${BUILD#"$TOP"/}/run.log"
