#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# What a round trip to userspace and a VTL call with its return cost in a TD with 1, 2 and 8 processors,
# on the last of them: fails if more of them make it dearer by 3 %. Part of `make bench`.
#
# The plugin of the other figures counts on one processor only. Here one instruction takes a
# nanosecond, and the program reads the time-stamp counter: that includes its own instructions, and not
# those of the emulator, which hides its time.

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/env.sh"

PATHS="user_round_trip vtl_call_return"
MOST_PERCENT=3

# ticks VPS: a line for each path, with its name and its ticks.
ticks() {
	local vps=$1 log=$BUILD/bench-vps-$1.log
	SMP=$vps ICOUNT=1 LIMIT=1200 RUN="vtlctl bench --cpu $((vps - 1))" \
		"$TOP/scripts/td.sh" command "$log" emu.hide_time=1 >/dev/null
	sed -n 's/.*BENCH name=\([a-z_]*\) .*tsc_min=\([0-9]*\).*/\1 \2/p' "$log" |
		grep -wE "${PATHS// /|}" || die "no figures for $vps processors" "console: ${log#"$TOP/"}"
}

say "a round trip and a VTL call with 1, 2 and 8 processors (about 3 min)"
one=$(ticks 1)
status=0
for vps in 2 8; do
	while read -r name ticks; do
		alone=$(awk -v name="$name" '$1 == name { print $2 }' <<<"$one")
		printf '%-36s%17s  with one processor %s\n' "${name}_of_$vps" "$ticks" "$alone"
		if [ $((100 * ticks)) -gt $(((100 + MOST_PERCENT) * alone)) ]; then
			echo "error: $name takes $ticks ticks with $vps processors, expected at most $MOST_PERCENT % more than $alone" >&2
			status=1
		fi
	done < <(ticks "$vps")
done
exit "$status"
