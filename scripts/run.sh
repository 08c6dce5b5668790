#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# `make run`: from nothing to a guest at VTL0, with every step on the screen.

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/env.sh"
. "$TOP/scripts/image.sh"

build_image
say "a TD: stock kernel $(cat "$CACHE/kernel/release" 2>/dev/null || echo '(KIMAGE)'), a guest at VTL0"
"$TOP/scripts/td.sh" run "$BUILD/run.log"
say "passed; the complete console is in ${BUILD#"$TOP"/}/run.log"
