# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Figures of the kselftests that ran in a TD. Sourced after env.sh.

passed=0 failed=0 skipped=0

# Counts the KTAP in a log: each test case, not each file. An unfinished plan, or a log without
# totals, is a failure.
count_ktap() {
	local log=$1 p f s
	read -r p f s < <(sed -n 's/^# totals: pass:\([0-9]*\) fail:\([0-9]*\) skip:\([0-9]*\).*/\1 \2 \3/p' \
		"$log" | tail -n 1) || { p=0 f=1 s=0; }
	passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
}

# count_run LOG STATUS: of a TD. One that failed without a failed test case has failed all the same.
count_run() {
	local before=$failed
	count_ktap "$1"
	[ "$2" = 0 ] || [ "$failed" != "$before" ] || failed=$((failed + 1))
}

# run_kselftests WHAT LOG [EMULATOR OPTION...]
# The limit is for a TD that hangs: a busy or slow machine takes several times as long as a quiet one.
run_kselftests() {
	local status=0
	LIMIT=${LIMIT:-2400} "$TOP/scripts/td.sh" "$@" || status=$?
	count_run "$2" "$status"
}
