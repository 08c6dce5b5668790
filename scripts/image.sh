# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Set-up and all parts of a TD, with progress lines. Sourced after env.sh.

# shellcheck source-path=SCRIPTDIR
. "$TOP/scripts/progress.sh"

# build_image [bench]: parts that are up to date cost a second or two each.
build_image() {
	"$TOP/scripts/setup.sh"
	local part about parts=(module:40 emulator:60 tools:60 selftests:20)
	[ $# = 0 ] || parts+=("$1:30")
	parts+=(initramfs:2)
	STEP_NUMBER=0 STEP_COUNT=${#parts[@]}
	for part in "${parts[@]}"; do
		about=${part#*:} part=${part%:*}
		STEP_NUMBER=$((STEP_NUMBER + 1))
		LOGS=$BUILD/log timed "$part" "$about" "[$STEP_NUMBER/$STEP_COUNT] building: $part" "make_$part"
	done
}

make_module()    { "$TOP/scripts/build.sh" module; }
make_emulator()  { "$TOP/scripts/build.sh" emulator; }
make_tools()     { "$TOP/scripts/build.sh" tools; }
make_selftests() { "$TOP/scripts/build.sh" selftests; }
make_bench()     { "$TOP/scripts/build.sh" bench; }
make_initramfs() { "$TOP/scripts/build.sh" initramfs; }
