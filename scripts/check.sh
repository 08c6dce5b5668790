# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Cases of a test that is a script: one line of KTAP each, and what was printed by one that failed. Sourced
# after env.sh; $work is a folder of the test.

number=0 failed=0

# check NAME COMMAND...
check() {
	local name=$1
	shift
	number=$((number + 1))
	# shellcheck disable=SC2154 # who sources this sets it
	if "$@" >"$work/out" 2>&1 </dev/null; then
		echo "ok $number $name"
		return
	fi
	tail -n 60 "$work/out" | sed 's/^/# /'
	echo "not ok $number $name"
	failed=$((failed + 1))
}
