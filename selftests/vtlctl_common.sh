# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
#
# What the tests of vtlctl have in common. Sourced, not run.

VTLCTL=${VTLCTL:-vtlctl}
command -v "$VTLCTL" >/dev/null || { echo "1..0 # SKIP no vtlctl in PATH"; exit 4; }
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/result.sh"

# expect STATUS PATTERN NAME ARGUMENT...: runs `vtlctl ARGUMENT...`. The pattern is an extended regular
# expression.
expect() {
	wanted=$1 pattern=$2 name=$3
	shift 3
	"$VTLCTL" "$@" >"$work/out" 2>&1
	status=$?
	if [ $status = "$wanted" ] && grep -qE -- "$pattern" "$work/out"; then
		result 0 "$name"
		return
	fi
	echo "# status $status, expected $wanted and '$pattern' in:"
	head -n 20 "$work/out" | sed 's/^/# /'
	result 1 "$name"
}
