#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Runs all tests of this folder inside a TD and prints one KTAP stream: one
# test per program, its cases indented below it. Status 0 if nothing failed.
# MODULE= says where the module is, if it is not loaded yet; LIST= which file
# names the tests.

MODULE=${MODULE:-/lib/mshv_vtl_tdx.ko}
LIST=${LIST:-kselftest-list.txt}
LIMIT_SECONDS=${LIMIT_SECONDS:-120}
cd "$(dirname "$0")" || exit 1
pass=0 fail=0 skip=0 number=0 failed_programs=0
log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT

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

# A subtest's lines, one by one as they come.
indent() {
	while IFS= read -r line; do
		case $line in
		"status "*) ;;
		*) printf '    %s\n' "$line" ;;
		esac
	done
}

# Runs one program, and shows its cases as they are reported.
run_program() {
	number=$((number + 1))
	echo "# $1"
	{ timeout "$LIMIT_SECONDS" "./$1" 2>&1; echo "status $?"; } | tee "$log" | indent
	status=$(sed -n 's/^status \([0-9]*\)$/\1/p' "$log" | tail -n 1)
	before=$fail
	count_cases
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
