# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh disable=SC2034 # who sources it looks at $failed
#
# Common functions of the tests that are scripts. Sourced, not run.

number=0
failed=0

# result STATUS NAME: the case passed if the status is 0.
result() {
	number=$((number + 1))
	if [ "$1" = 0 ]; then
		echo "ok $number $2"
	else
		echo "not ok $number $2"
		failed=$((failed + 1))
	fi
}
