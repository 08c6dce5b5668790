#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Runs all tests of this folder inside a TD and prints one KTAP stream: one
# test per program, its cases indented below it. Status 0 if nothing failed. A
# program that takes too long, or leaves a process, has failed: what is left of it
# is named, with where it is in the kernel, and killed.
# MODULE= says where the module is, if it is not loaded yet; LIST= which file
# names the tests.

MODULE=${MODULE:-/lib/mshv_vtl_tdx.ko}
LIST=${LIST:-kselftest-list.txt}
LIMIT_SECONDS=${LIMIT_SECONDS:-120}
cd "$(dirname "$0")" || exit 1
pass=0 fail=0 skip=0 number=0 failed_programs=0
GRACE_SECONDS=${GRACE_SECONDS:-10}
# The line after a program's last one, with its status.
ENDED="=== the program has ended:"
log=$(mktemp) && session=$(mktemp) || exit 1
trap 'rm -f "$log" "$log.status" "$session"' EXIT

# Adds the cases in the log. Prints nothing.
count_cases() {
	ok=$(grep -c '^ok ' "$log")
	skipped=$(grep -ci '^ok .*# skip' "$log")
	not_ok=$(grep -c '^not ok ' "$log")
	planned=$(sed -n 's/^1\.\.\([0-9]*\)\( # SKIP.*\)\{0,1\}$/\1/p' "$log" | head -n 1)
	# A program that was skipped as a whole has no case.
	[ "${planned:-1}" != 0 ] || skipped=$((skipped + 1)) ok=$((ok + 1)) planned=1
	pass=$((pass + ok - skipped))
	skip=$((skip + skipped))
	fail=$((fail + not_ok))
	# Cases that were planned and never reported have failed.
	missing=$((${planned:-1} - ok - not_ok))
	[ "$missing" -le 0 ] || fail=$((fail + missing))
}

# Keeps and shows a program's lines, one by one as they come. Whoever the program has
# left may hold the pipe, so its end is not what counts.
record() {
	: >"$log"
	echo unknown >"$log.status"
	while IFS= read -r line; do
		case $line in
		*"$ENDED "*)
			echo "${line##*"$ENDED "}" >"$log.status"
			line=${line%"$ENDED "*} has_ended=1
			;;
		*) has_ended= ;;
		esac
		[ -n "$has_ended" ] && [ -z "$line" ] || printf '%s\n' "$line" | tee -a "$log" | sed 's/^/    /'
		[ -z "$has_ended" ] || break
	done
}

# The processes of the session $1. busybox's timeout waits in there by itself for a while.
members() {
	sed -n 's/^\([0-9]*\) (\(.*\)) \([A-Z]\) [0-9]* [0-9]* \([0-9]*\) .*/\4 \3 \1 \2/p' \
		/proc/[0-9]*/stat 2>/dev/null |
		awk -v session="$1" '$1 == session && $2 !~ /[ZX]/ && $4 != "timeout" { print $3 }'
}

# Waits until nobody is left of the session $1.
is_empty() {
	tries=$((GRACE_SECONDS * 10))
	while [ -n "$(members "$1")" ]; do
		tries=$((tries - 1))
		[ $tries -gt 0 ] || return 1
		sleep 0.1
	done
}

# Says which threads the process $1 has, and where each is in the kernel.
name_threads() {
	for task in "/proc/$1/task/"*; do
		state=$(sed -n 's/^State:[[:space:]]*//p' "$task/status" 2>/dev/null) || continue
		echo "# left: thread ${task##*/} of $1, $(cat "$task/comm"), $state, in $(cat "$task/wchan" 2>/dev/null)"
		sed 's/^/#     /' "$task/stack" 2>/dev/null
	done
}

# Ends whoever is left of the program $1. Status 0 if nobody is.
nobody_is_left() {
	sid=$(cat "$session")
	! is_empty "$sid" || return 0
	for process in $(members "$sid"); do
		name_threads "$process"
		kill -KILL "$process"
	done
	if ! is_empty "$sid"; then
		echo "# of $1 these do not even end when they are killed:" $(members "$sid")
		for process in $(members "$sid"); do name_threads "$process"; done
		echo l >/proc/sysrq-trigger
		dmesg | tail -n 60 | sed 's/^/# /'
	fi
	return 1
}

# Runs one program, in a session of its own, so that what it leaves is found; its cases are
# shown as they are reported.
run_program() {
	number=$((number + 1))
	echo "# $1"
	# shellcheck disable=SC2016 # the inner shell's
	{ setsid sh -c 'echo $$ >"$1"; exec timeout "$2" "./$3"' - "$session" "$LIMIT_SECONDS" "$1" 2>&1
		echo "$ENDED $?"; } | record
	status=$(cat "$log.status")
	before=$fail
	count_cases
	nobody_is_left "$1" || status="$status, and left processes"
	case $status in
	0 | 4) why="cases failed or missing: $((fail - before))" ;;
	*)
		why="status $status"
		# A program that died without a failed case has failed all the same.
		[ "$fail" != "$before" ] || fail=$((fail + 1))
		;;
	esac
	if [ "$fail" != "$before" ]; then
		echo "not ok $number $1 # $why"
		failed_programs=$((failed_programs + 1))
	elif [ "$status" = 4 ]; then
		echo "ok $number $1 # SKIP"
	else
		echo "ok $number $1"
	fi
}

echo "KTAP version 1"
if [ ! -d /sys/module/mshv_vtl_tdx ] && ! insmod "$MODULE"; then
	dmesg | grep mshv_vtl_tdx | sed 's/^/# /'
	echo "1..1"
	echo "not ok 1 load_the_module"
	echo "# totals: pass:0 fail:1 skip:0"
	exit 1
fi
echo "1..$(wc -l <"$LIST")"
while read -r program; do
	run_program "$program" </dev/null
done <"$LIST"
echo "# totals: pass:$pass fail:$fail skip:$skip"
[ "$fail" = 0 ] && [ "$failed_programs" = 0 ]
