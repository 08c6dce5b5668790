#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# `make storm`: offload_storm, halt_race and attest_loop in a TD for long: EVENTS interrupts,
# RACE_SECONDS of wake-ups for each of halt_race's cases, and ATTEST_SECONDS of exits whose
# records are hashed. The console is kept in build/storm.log.

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/env.sh"
. "$TOP/scripts/ktap.sh"

events=${EVENTS:-1000000} seconds=${RACE_SECONDS:-40} attest=${ATTEST_SECONDS:-10}
# On a slow machine a second has some hundred interrupts.
limit=$((events / 200 + 10 * seconds + 300))
say "$events interrupts, then $((3 * seconds)) s of wake-ups"
CMDLINE="STORM_EVENTS=$events STORM_SECONDS=$limit RACE_SECONDS=$seconds ATTEST_SECONDS=$attest LIMIT_SECONDS=$limit ${CMDLINE:-}" \
	LIMIT=$((2 * limit)) run_kselftests storm "$BUILD/storm.log"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
