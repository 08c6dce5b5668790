# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Set-up and all parts of a TD, with progress lines. Sourced after env.sh.

# shellcheck source-path=SCRIPTDIR
. "$TOP/scripts/progress.sh"

# Parts of a TD and about how many seconds each takes from nothing.
TD_PARTS=(module:40 emulator:60 tools:90 selftests:20)

build_image() { build_parts "${TD_PARTS[@]}" initramfs:2; }
build_guest_image() { build_parts module:40 emulator:60 tools:90 guest:30; }
build_bench_image() { build_parts "${TD_PARTS[@]}" bench:30 initramfs:2 guest:30; }
build_bench_guest_image() { build_parts module:40 emulator:60 tools:90 bench:30 guest:30; }

# is_signed LOG: VTL0 has shown the signature of its first process's file, and it is right.
is_signed() {
	local expected
	expected=$(in_root python3 "$TOP/scripts/vtl1-sign.py" "$BUILD/guest.seed" "$TOP/scripts/guest-init" init)
	grep -qxF "$expected" "$1" || {
		note "expected in ${1#"$TOP"/}: $expected"
		return 1
	}
}

# build_parts PART:SECONDS...: an up-to-date part costs a second or two.
build_parts() {
	"$TOP/scripts/setup.sh"
	local part
	STEP_NUMBER=0 STEP_COUNT=$#
	for part in "$@"; do
		STEP_NUMBER=$((STEP_NUMBER + 1))
		LOGS=$BUILD/log timed "${part%:*}" "${part#*:}" \
			"[$STEP_NUMBER/$STEP_COUNT] building: ${part%:*}" "make_${part%:*}"
	done
}

make_module()    { "$TOP/scripts/build.sh" module; }
make_emulator()  { "$TOP/scripts/build.sh" emulator; }
make_tools()     { "$TOP/scripts/build.sh" tools; }
make_selftests() { "$TOP/scripts/build.sh" selftests; }
make_bench()     { "$TOP/scripts/build.sh" bench; }
make_guest()     { "$TOP/scripts/build.sh" guest; }
make_initramfs() { "$TOP/scripts/build.sh" initramfs; }
