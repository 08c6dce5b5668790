#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# What the scripts do when something is wrong: a clear message, a status that
# is not 0, and nothing half-made that would disturb the next try. Prints KTAP;
# needs a finished set-up and a built emulator.

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/env.sh"

work=$(mktemp -d "$BUILD/test-scripts.XXXXXX")
mounted=
cleanup() {
	[ -z "$mounted" ] || umount "$work/small"
	rm -rf --one-file-system "$work"
}
trap cleanup EXIT
number=0 failed=0

# expect PATTERN NAME COMMAND...: COMMAND has to fail and to say PATTERN.
expect() {
	local pattern=$1 name=$2 status=0
	shift 2
	number=$((number + 1))
	"$@" >"$work/out" 2>&1 </dev/null || status=$?
	if [ "$status" != 0 ] && [ "$status" != 124 ] && grep -q -- "$pattern" "$work/out"; then
		echo "ok $number $name"
		return
	fi
	echo "# status $status, expected another than 0 and '$pattern' in:"
	sed 's/^/# /' "$work/out"
	echo "not ok $number $name"
	failed=$((failed + 1))
}

# setup_in CACHE COMMAND...: runs a set-up with a cache of its own, under COMMAND.
setup_in() {
	local cache=$1
	shift
	MSHV_VTL_CACHE=$cache timeout 120 "$@" bash "$TOP/scripts/setup.sh"
}

echo "KTAP version 1"
echo "1..16"

mkdir "$work/small"
mount -t tmpfs -o size=64m tmpfs "$work/small"
mounted=1
expect 'not enough room' no_room_is_said_before_anything_is_made setup_in "$work/small/cache" env

expect 'build root.*failed' no_network_at_first_use_is_said \
	setup_in "$work/offline" env NEED_MIB=1 unshare --net
number=$((number + 1))
if [ ! -e "$work/offline/root" ] && [ ! -e "$work/offline/stamp/root" ]; then
	echo "ok $number a_failed_set_up_leaves_nothing_that_looks_finished"
else
	echo "not ok $number a_failed_set_up_leaves_nothing_that_looks_finished"
	failed=$((failed + 1))
fi

mkdir "$work/tree"
expect 'not a kernel tree prepared' a_wrong_kernel_tree_is_refused \
	env KDIR="$work/tree" "$TOP/scripts/build.sh" module
expect 'is missing or empty' a_missing_kernel_is_named \
	env KERNEL="$work/none" INITRD="$work/none" "$TOP/scripts/emu-run.sh"
expect 'KERNEL= and INITRD= are needed' emu_run_says_what_it_needs "$TOP/scripts/emu-run.sh"
expect 'hide_time' an_unknown_emulator_option_lists_the_known_ones \
	env LIMIT=60 "$TOP/scripts/td.sh" run "$work/td.log" emu.no_such_option=1
expect 'MEM=1000M is not 1G or more' too_little_memory_is_named \
	env MEM=1000M "$TOP/scripts/td.sh" run "$work/td.log"

# Builds the module as a user of Kbuild does who has a kernel tree: from a copy with nothing else in
# it.
mkdir "$work/plain"
cp -r "$TOP/Kbuild" "$TOP/rust" "$TOP/include" "$work/plain"
expect 'needs Linux 7.3 or later, and this tree is 7.2' an_older_series_is_named \
	kernel_make M="$work/plain" VERSION=7 PATCHLEVEL=2 modules
expect 'CONFIG_RUST=y' a_kernel_without_rust_is_named kernel_make M="$work/plain" CONFIG_RUST= modules
# What a package of headers lacks; nothing else of the kernel's build is needed to find that out.
expect 'has no rust/' a_tree_without_metadata_is_named \
	make -C "$work/plain" -f Kbuild objtree="$work/tree" VERSION=7 PATCHLEVEL=3 \
	CONFIG_CC_VERSION_TEXT=any CONFIG_RUST=y CONFIG_INTEL_TDX_GUEST=y
plain() { kernel_make M="$work/plain" INSTALL_MOD_PATH="$work/installed" "$@"; }
result() {
	number=$((number + 1))
	if [ "$1" = 0 ]; then
		echo "ok $number $2"
	else
		sed 's/^/# /' "$work/out"
		echo "not ok $number $2"
		failed=$((failed + 1))
	fi
}
status=0
plain modules >"$work/out" 2>&1 && [ -s "$work/plain/mshv_vtl_tdx.ko" ] || status=1
result $status plain_kbuild_builds_the_module
status=0
plain modules_install >"$work/out" 2>&1 &&
	find "$work/installed" -name 'mshv_vtl_tdx.ko*' | grep -q . || status=1
result $status plain_kbuild_installs_it
status=0
plain clean >"$work/out" 2>&1 && [ ! -e "$work/plain/mshv_vtl_tdx.ko" ] || status=1
result $status plain_kbuild_leaves_nothing_behind

# The kselftests' runner: what a program has left would hold the pipe of its output for ever.
mkdir "$work/runner" "$work/bin"
cp "$TOP/selftests/run_selftests.sh" "$work/runner"
printf '#!/bin/sh\n' >"$work/bin/insmod"
# As a test harness does: what it starts is no member of its process group.
printf '#!/bin/bash\nset -m\necho 1..1; echo ok 1 a; sleep 600 & wait\n' >"$work/runner/hangs"
printf '#!/bin/sh\necho 1..1; echo ok 1 a; sleep 600 &\n' >"$work/runner/leaves"
chmod +x "$work/bin/insmod" "$work/runner/hangs" "$work/runner/leaves"
# run_only PROGRAM: the runner, of which two seconds are the limit.
run_only() {
	echo "$1" >"$work/runner/list"
	PATH=$work/bin:$PATH LIMIT_SECONDS=2 GRACE_SECONDS=1 LIST=list \
		timeout 60 sh "$work/runner/run_selftests.sh"
}
expect 'not ok 1 hangs # status 124, and left processes' a_test_that_hangs_fails run_only hangs
expect 'left: thread .*, sleep, ' a_test_that_leaves_a_process_fails_and_names_it run_only leaves
[ "$failed" = 0 ]
