#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# `make run`: from nothing to a Linux at VTL0, with every step on the screen.

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/env.sh"
. "$TOP/scripts/image.sh"

build_guest_image
release=$(cat "$CACHE/kernel/release" 2>/dev/null || echo '(KIMAGE)')
say "a TD: stock kernel $release at VTL2, and the same at VTL0"
INITRAMFS=$BUILD/guest-initramfs "$TOP/scripts/td.sh" guest "$BUILD/run.log"
say "passed; the complete console is in ${BUILD#"$TOP"/}/run.log"
