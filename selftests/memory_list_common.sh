# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh disable=SC2034 # who sources it looks at them
#
# Common functions of the tests of the list of lower-VTL memory. Sourced, not run.

MODULE=${MODULE:-/lib/mshv_vtl_tdx.ko}
PLUG=${PLUG:-/lib/vtl_plug.ko}
NAME=mshv_vtl_tdx
PARAMETER=/sys/module/$NAME/parameters/vtl0_mem
CLAIM="Lower VTL memory"
. "$(dirname "$0")/result.sh"

MIB=$((1 << 20))

hex() { printf '0x%x' "$1"; }

given=$(sed 's/.*vtl0_mem=\([^ ]*\).*/\1/' /proc/cmdline)
# The largest range, from its first large page on.
base=0 size=0 rest=$given
while [ -n "$rest" ]; do
	start=${rest%%,*} rest=${rest#*,}
	length=${rest%%,*} rest=${rest#"$length"} rest=${rest#,}
	[ $((length)) -le "$size" ] || base=$((start)) size=$((length))
done
size=$(hex $((size - (-base & (2 * MIB - 1)))))
base=$(hex $(((base + 2 * MIB - 1) & -(2 * MIB))))

unload() { [ ! -d "/sys/module/$NAME" ] || rmmod $NAME; }

load() { unload && insmod "$MODULE" "$@"; }

# refused LIST WORDS: no load, a line that says why, and nothing is left claimed.
refused() {
	if load "vtl0_mem=$1" 2>/dev/null; then
		echo "# vtl0_mem=$1 was taken"
		return 1
	fi
	if ! dmesg | tail -n 3 | grep -q "not loaded: vtl0_mem=.*$2"; then
		echo "# vtl0_mem=$1: no word of '$2' in the log, but"
		dmesg | tail -n 3 | sed 's/^/# /'
		return 1
	fi
	! grep "$CLAIM" /proc/iomem
}

# first NAME: where the first resource of this name starts.
first() { awk -v name="$1" '$0 ~ name "$" { sub(/^ */, ""); sub(/-.*/, ""); print "0x" $0; exit }' /proc/iomem; }

# last NAME: its last byte.
last() { awk -v name="$1" '$0 ~ name "$" { sub(/^ *[0-9a-f]*-/, ""); sub(/ .*/, ""); print "0x" $0; exit }' /proc/iomem; }

works_after_reload() { load && ./vp_run >/dev/null 2>&1; }

no_kernel_complaint() { ! dmesg | grep -E 'WARNING:|BUG:|Oops|general protection|resource sanity'; }

# run_cases NAME...: prints KTAP; each case is a function. One that returns 4 can't be
# had here, and $skipped_because says why.
run_cases() {
	echo "TAP version 13"
	echo "1..$#"
	for case in "$@"; do
		$case
		status=$?
		if [ $status = 4 ]; then
			result 0 "$case # SKIP $skipped_because"
		else
			result $status "$case"
		fi
	done
	[ $failed = 0 ]
}
