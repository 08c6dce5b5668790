#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Types what the tutorial has its reader type, and looks for what it says that follows, line by line and
# in that order. Numbers and white space may differ. Prints KTAP.

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/vtlctl_common.sh"

# Numbers as one sign, white space as one space.
plain() { sed -E 's/0x[0-9a-f]+|[0-9]+(\.[0-9]+)?/N/g; s/[[:space:]]+/ /g; s/^ | $//g'; }

typed() {
	command=$1
	eval "$command" >"$work/out" 2>&1
	plain <"$work/out" >"$work/rest"
	echo "# $command"
	head -n 60 "$work/out" | sed 's/^/#   /'
}

# A line that begins so is in what has not been looked through yet.
says() {
	wanted=$(printf '%s\n' "$1" | plain)
	line=$(wanted=$wanted awk 'index($0, ENVIRON["wanted"]) == 1 { print NR; exit }' "$work/rest")
	[ -n "$line" ]
	result $? "$command says $wanted"
	[ -z "$line" ] || sed -i "1,${line}d" "$work/rest"
}

echo "TAP version 13"
echo "1..$(grep -c ^says tutorial.list)"
list=$PWD/tutorial.list
# One shell for all, as the reader has it: its variables stay.
cd "$work" || exit 1
# shellcheck source=/dev/null
. "$list"
[ "$failed" = 0 ]
