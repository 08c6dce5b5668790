#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# `make storm`: offload_storm, vtl_switch_storm, halt_race and attest_loop in a TD for long: EVENTS
# interrupts, SWITCHES between VTL0 and VTL1, RACE_SECONDS of wake-ups, which halt_race's three cases
# share, and ATTEST_SECONDS of exits whose records are hashed. Then the tests of the switch again,
# as many times, in a TD whose host is hostile (SEED). The consoles are kept in build/storm.log
# and build/storm-hostile.log.

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/env.sh"
. "$TOP/scripts/ktap.sh"

events=${EVENTS:-1000000} switches=${SWITCHES:-1000000} seconds=${RACE_SECONDS:-40} attest=${ATTEST_SECONDS:-10}
# On a slow machine a second has some hundred interrupts, and as many switches.
limit=$(((events > switches ? events : switches) / 200 + 10 * seconds + 300))
storm="STORM_EVENTS=$events STORM_SWITCHES=$switches STORM_SECONDS=$limit LIMIT_SECONDS=$limit"
say "$events interrupts, $switches switches, then $seconds s of wake-ups"
CMDLINE="$storm RACE_SECONDS=$seconds ATTEST_SECONDS=$attest ${CMDLINE:-}" \
	LIMIT=$((3 * limit)) run_kselftests storm "$BUILD/storm.log"
say "$switches switches beside a hostile host (seed ${SEED:-1})"
CMDLINE="$storm ${CMDLINE:-}" LIMIT=$((2 * limit)) \
	run_kselftests hostile "$BUILD/storm-hostile.log" emu.host=hyperv "emu.hostile=${SEED:-1}"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
