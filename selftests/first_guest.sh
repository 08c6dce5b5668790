#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# The first guest of the guide, unchanged, says what the guide says; and what the guide promises to
# guests is kept. Prints KTAP.

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/vtlctl_common.sh"

# says GUEST TEXT: it halts, and has printed these lines.
says() {
	"$VTLCTL" run "guests/$1" >"$work/out" 2>&1 || return 1
	printf '%s\n' "$2" | while read -r line; do
		grep -qxF -- "$line" "$work/out" || { sed 's/^/# /' "$work/out"; return 1; }
	done
}

echo "TAP version 13"
echo "1..2"
says first_guest "hello from a guest of my own
40 + 2 = 42"
result $? the_guest_of_the_guide_runs
says contract kept
result $? what_is_promised_to_guests_is_kept
[ "$failed" = 0 ]
