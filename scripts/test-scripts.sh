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
echo "1..75"

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

# A person who waits for an hour has to know for what.
# shellcheck disable=SC2016 # not this shell expands it
expect 'another set-up is running' two_set_ups_at_once_wait setup_in "$work/two" env NEED_MIB=1 \
	sh -c 'mkdir -p "$MSHV_VTL_CACHE" && { flock "$MSHV_VTL_CACHE/.lock" sleep 2 & sleep 0.5; exec unshare --net "$@"; }' sh
mkdir "$work/user"
printf '#!/bin/sh\necho 4321\n' >"$work/user/id"
chmod +x "$work/user/id"
expect 'the set-up needs root' a_user_without_root_is_told setup_in "$work/no" env PATH="$work/user:$PATH"

# `make distclean` leaves nothing of what these scripts keep in the cache.
mkdir "$work/full"
kept=$(grep -ohE '[$]CACHE"?/[a-z0-9.-]+' "$TOP"/scripts/*.sh | sed 's|.*/||' | sort -u)
for each in $kept kernel-debug-rt root.new; do mkdir "$work/full/$each" && : >"$work/full/$each/file"; done
number=$((number + 1))
if [ "$(wc -w <<<"$kept")" -ge 10 ] && MSHV_VTL_CACHE=$work/full "$TOP/scripts/setup.sh" --remove && [ ! -e "$work/full" ]; then
	echo "ok $number nothing_of_a_removed_cache_is_left"
else
	find "$work/full" -mindepth 1 -maxdepth 1 | sed 's/^/# /'
	echo "not ok $number nothing_of_a_removed_cache_is_left"
	failed=$((failed + 1))
fi

expect 'example: make fuzz T=0 TARGET=' a_seed_of_no_target_is_refused env SEED=7 T=0 TARGET= "$TOP/scripts/fuzz.sh"

# `make doctor` says what is missing wherever it runs, and reaches its last line.
doctor_in() {
	local cache=$1
	shift
	MSHV_VTL_CACHE=$cache timeout 60 "$@" "$TOP/scripts/doctor.sh"
}
expect 'thing(s) missing' doctor_ends_where_no_folder_is doctor_in "$work/no/such/folder" env
expect 'thing(s) missing' doctor_ends_without_a_network doctor_in "$work/no" unshare --net
expect 'crates of the tools, as tools/Cargo.lock has them' doctor_names_missing_crates doctor_in "$work/no" env
mkdir -p "$work/lost/stamp"
sha256sum "$TOP/tools/Cargo.lock" | cut -c1-16 >"$work/lost/stamp/crates"
expect 'were fetched, but .*cargo/registry is gone' doctor_names_lost_crates doctor_in "$work/lost" env
expect 'room: .* MiB free, a set-up needs' doctor_names_too_little_room doctor_in "$work/small/cache" env
expect 'there is no HOME' a_missing_home_is_named env -u HOME -u XDG_CACHE_HOME -u MSHV_VTL_CACHE "$TOP/scripts/doctor.sh"
expect 'has a space' a_path_with_a_space_is_named setup_in "$work/a cache" env

# A machine with Ubuntu's sources and keys.
mkdir -p "$work/apt/sources.list.d" "$work/keys"
echo 'deb http://archive.ubuntu.invalid/ubuntu noble main' >"$work/apt/sources.list"
# shellcheck disable=SC2016 # not this shell expands it
ubuntu=(unshare --mount --propagation private -- sh -c 'mount --bind "$1/apt" /etc/apt &&
	mount --bind "$1/keys" /usr/share/keyrings && shift && exec "$@"' sh "$work")
expect 'make setup DEBIAN_MIRROR=' a_missing_mirror_is_named doctor_in "$work/no" "${ubuntu[@]}"
expect 'apt-get install debian-archive-keyring' missing_keys_are_named doctor_in "$work/no" "${ubuntu[@]}"
expect 'apt sources have no mirror of Debian' a_set_up_without_a_mirror_says_so \
	setup_in "$work/no" env NEED_MIB=1 "${ubuntu[@]}"
mkdir -p "$work/keyless/stamp"
echo 1 >"$work/keyless/stamp/host"
expect "does not know Debian's keys" a_set_up_without_keys_says_so \
	setup_in "$work/keyless" env NEED_MIB=1 DEBIAN_MIRROR=http://mirror.invalid/debian "${ubuntu[@]}"

# A cache that was moved: its kernel tree has the path of its sources in it.
mkdir -p "$work/moved/kernel/obj"
ln -s /elsewhere/mshv_vtl_tdx/kernel/src "$work/moved/kernel/obj/source"
expect 'the cache was moved' doctor_names_a_moved_cache doctor_in "$work/moved" env
expect 'moved here from /elsewhere/mshv_vtl_tdx' a_moved_cache_is_prepared_again \
	setup_in "$work/moved" env NEED_MIB=1 unshare --net

# The kernel that all was tested with may leave the archive.
mkdir -p "$work/newer/kernel"
cp -r "$CACHE/stamp" "$work/newer/stamp"
sha256sum "$TOP/tools/Cargo.lock" | cut -c1-16 >"$work/newer/stamp/crates"
echo 7.3.99+deb13-cloud-amd64 >"$work/newer/kernel/release"
number=$((number + 1))
if setup_in "$work/newer" env >"$work/out" 2>&1 &&
	grep -q 'has left the archive, 7.3.99+deb13-cloud-amd64 is used' "$work/out"; then
	echo "ok $number another_kernel_than_the_tested_one_is_named"
else
	sed 's/^/# /' "$work/out"
	echo "not ok $number another_kernel_than_the_tested_one_is_named"
	failed=$((failed + 1))
fi

expect 'KDIR=none: there is no folder .*/none' a_tree_that_there_is_not_is_named setup_in "$work/no" env KDIR=none
mkdir "$work/tree"
# shellcheck disable=SC2016 # not this shell expands it
expect "$work/tree is not a kernel tree" a_relative_tree_is_looked_for_from_here \
	sh -c 'cd "$1" && KDIR=tree "$2/scripts/build.sh" module' sh "$work" "$TOP"
# shellcheck disable=SC2016
expect 'another build of this clone' two_builds_at_once_wait \
	sh -c 'flock "$1/.lock" sleep 2 & sleep 0.5; KDIR="$2/tree" "$3/scripts/build.sh" module' sh "$BUILD" "$work" "$TOP"
expect 'not a kernel tree prepared' a_wrong_kernel_tree_is_refused \
	env KDIR="$work/tree" "$TOP/scripts/build.sh" module

expect 'another user has built here' a_folder_that_cannot_be_written_is_named \
	env BUILD=/proc/none ROOTLESS=1 "$TOP/scripts/build.sh" emulator

# A clone that another user owns, in which git refuses to work.
mkdir "$work/clone"
git -C "$work/clone" init -q 2>/dev/null || :
: >"$work/clone/file"
chown -R 4321:4321 "$work/clone"
number=$((number + 1))
if [ "$(TOP=$work/clone tracked 'fil*')" = file ]; then
	echo "ok $number a_clone_of_another_user_has_its_files"
else
	echo "not ok $number a_clone_of_another_user_has_its_files"
	failed=$((failed + 1))
fi

# Every reason for which emu-run can't start, or ends, is on the terminal.
emu_run() { env KERNEL="$work/file" INITRD="$work/file" "$@" timeout 60 "$TOP/scripts/emu-run.sh"; }
echo 'no kernel' >"$work/file"
expect 'KERNEL: there is no file .*/none' a_missing_kernel_is_named emu_run KERNEL="$work/none"
expect 'there is no file /boot/none' a_missing_kernel_of_the_system_is_named emu_run KERNEL=/boot/none
expect 'INITRD: there is no file .*/none' a_missing_initrd_is_named emu_run INITRD="$work/none"
expect 'KERNEL: .* is not a file that can be read' a_folder_is_no_kernel emu_run KERNEL="$work"
expect 'KERNEL: /dev/null is not a file' a_device_is_no_kernel emu_run KERNEL=/dev/null
: >"$work/empty"
expect 'KERNEL: .*/empty is empty' an_empty_kernel_is_named emu_run KERNEL="$work/empty"
expect 'lies neither in' a_kernel_out_of_reach_is_named emu_run KERNEL=/etc/passwd
expect 'no bzImage at' a_file_that_is_no_kernel_is_named emu_run
expect 'its messages: .*emu-run.emu.log' the_log_of_the_emulator_is_named emu_run
expect 'unknown option or value: emu.none=1' emu_run_names_an_unknown_option emu_run EMU=emu.none=1
expect 'processors' emu_run_names_too_many_processors emu_run SMP=300
expect 'SMP=2000 is not a number of processors' more_processors_than_qemu_has_are_refused emu_run SMP=2000
expect 'MEM=64M is not 1G or more' emu_run_names_too_little_memory emu_run MEM=64M
expect 'GDB=here is not a port' a_wrong_port_of_a_debugger_is_named emu_run GDB=here

# A machine that is none: what a TD says about itself is all that td.sh goes by.
mkdir "$work/fake"
cat >"$work/fake/qemu-system-x86_64" <<'END'
#!/bin/sh
echo 'Linux version 7.3'
exec sleep "$QEMU_SECONDS"
END
printf '#!/bin/sh\nexec cat\n' >"$work/fake/cpio"
chmod +x "$work/fake"/*
# fake_td WHAT [VARIABLE=...]
fake_td() {
	env ROOTLESS=1 PATH="$work/fake:$PATH" KIMAGE="$work/file" INITRAMFS="$work/file" QEMU_SECONDS=0 "${@:2}" \
		"$TOP/scripts/td.sh" "$1" "$work/td.log"
}
expect 'the kernel did not find itself in a TD' a_kernel_in_no_td_is_named fake_td run
expect 'the TD did not finish within 1 s' a_td_that_never_ends_is_named fake_td run LIMIT=1 QEMU_SECONDS=60
expect 'nothing came back to .*small' a_share_that_is_lost_is_named fake_td shell SHARE="$work/small"
expect 'KIMAGE: there is no file' a_missing_kernel_is_named_before_anything_is_built \
	env KIMAGE="$work/none" "$TOP/scripts/run.sh"
expect 'KIMAGE: there is no file' the_other_name_of_that_variable_is_the_same \
	env KERNEL="$work/none" "$TOP/scripts/run.sh"

# It goes on to the build, for which this is no place.
expect 'kernel .*/file instead of the stock one' another_kernel_is_not_called_the_stock_one \
	env KIMAGE="$work/file" BUILD=/proc/none "$TOP/scripts/run.sh"

# This system's QEMU and compilers, with ROOTLESS=1.
mkdir "$work/old" "$work/new" "$work/sysroot"
printf '#!/bin/sh\necho QEMU emulator version 10.0.0\n' >"$work/new/qemu-system-x86_64"
printf '#!/bin/sh\necho QEMU emulator version 8.2.2\n' >"$work/old/qemu-system-x86_64"
printf '#!/bin/sh\necho %s/sysroot\n' "$work" >"$work/old/rustc"
printf '#!/bin/sh\nexit 127\n' >"$work/user/qemu-system-x86_64"
chmod +x "$work/user/qemu-system-x86_64"
expect 'there is no qemu-system-x86_64' a_missing_qemu_is_named emu_run ROOTLESS=1 PATH="$work/user:$PATH"
chmod +x "$work/old"/* "$work/new"/*
expect 'QEMU 8.2.2 is too old: 10.0 or later' an_old_qemu_is_named emu_run ROOTLESS=1 PATH="$work/old:$PATH"
# The command says it in the words of its own options.
expect '--smp x is not a number of processors' tdxemu_names_the_option_that_is_wrong \
	env PATH="$work/new:$PATH" "$TOP/scripts/tdxemu" --smp=x "$work/file" "$work/file"
expect '--memory 64M is not 1G or more' tdxemu_takes_values_in_both_forms \
	env PATH="$work/new:$PATH" "$TOP/scripts/tdxemu" --smp=4 --memory 64M "$work/file" "$work/file"
expect 'no core library for x86_64-unknown-none' a_compiler_without_the_target_is_named \
	env ROOTLESS=1 PATH="$work/old:$PATH" "$TOP/scripts/build.sh" emulator
expect 'ROOTLESS=1 is for the emulator and the tools' a_part_that_needs_root_is_named \
	env ROOTLESS=1 "$TOP/scripts/build.sh" initramfs
expect 'KERNEL= and INITRD= are needed' emu_run_says_what_it_needs "$TOP/scripts/emu-run.sh"
expect 'hide_time' an_unknown_emulator_option_lists_the_known_ones \
	env LIMIT=60 "$TOP/scripts/td.sh" run "$work/td.log" emu.no_such_option=1
expect 'unknown option or value: emu.none=1' a_shell_takes_options_of_the_emulator \
	env EMU=emu.none=1 "$TOP/scripts/td.sh" shell "$work/td.log"
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
in_root modinfo -F parm "$work/plain/mshv_vtl_tdx.ko" >"$work/out" || status=1
[ "$(wc -l <"$work/out")" -ge 9 ] && ! grep -v ' ([a-z0-9]*)$' "$work/out" || status=1
result $status each_parameter_has_a_meaning_and_a_type
status=0
plain modules_install >"$work/out" 2>&1 &&
	find "$work/installed" -name 'mshv_vtl_tdx.ko*' | grep -q . || status=1
result $status plain_kbuild_installs_it
status=0
plain clean >"$work/out" 2>&1 && [ ! -e "$work/plain/mshv_vtl_tdx.ko" ] || status=1
result $status plain_kbuild_leaves_nothing_behind

# `make soak` goes on where it stopped. Instead of booting a TD, this notes that it was asked to; a boot that is
# named in fails has failed.
mkdir -p "$work/soak/cache/kernel" "$work/soak/cache/kernel-other" "$work/soak/build"
for kernel in kernel kernel-other; do
	echo "$kernel" | tee "$work/soak/cache/$kernel/vmlinuz" >"$work/soak/cache/$kernel/release"
done
cat >"$work/soak/td" <<'END'
#!/bin/sh
name=$(basename "$2" .log)
echo "$name $3" >>"$NOTES/booted"
! grep -qx "$name" "$NOTES/fails"
END
chmod +x "$work/soak/td"
# soak COUNT RESULT [PART]: has to boot COUNT TDs, and to end with RESULT.
soak() {
	local want="soak: $2" booted
	: >"$work/soak/booted"
	env MSHV_VTL_CACHE="$work/soak/cache" BUILD="$work/soak/build" EMULATOR="$work/soak/emulator" NOTES="$work/soak" \
		TD="$work/soak/td" TEST="$work/soak/test" VCPUS=1 N=3 OTHERS=1 EMU="${EMU:-}" \
		"$TOP/scripts/soak.sh" ${3:+"$3"} >"$work/out" 2>&1 || :
	booted=$(wc -l <"$work/soak/booted")
	echo "$booted were booted" >>"$work/out"
	[ "$booted" = "$1" ] && grep -qxF "$want" "$work/out"
}
# soak_case NAME COUNT RESULT [PART]
soak_case() {
	local name=$1 status=0
	shift
	soak "$@" || status=1
	result $status "$name"
}
echo one >"$work/soak/emulator"
echo kernel-1-level1-2 >"$work/soak/fails"
soak_case soak_boots_each_kernel_at_each_level 10 '9 passed (0 of them earlier), 1 failed'
soak_case soak_repeats_only_what_failed 1 '9 passed (9 of them earlier), 1 failed'
: >"$work/soak/fails"
soak_case soak_goes_on_until_everything_has_passed 1 '10 passed (9 of them earlier), 0 failed'
soak_case soak_repeats_nothing_that_has_passed 0 '10 passed (10 of them earlier), 0 failed'
echo other >"$work/soak/cache/kernel-other/vmlinuz"
soak_case soak_boots_another_kernel_again 5 '10 passed (5 of them earlier), 0 failed'
echo two >"$work/soak/emulator"
soak_case soak_boots_with_another_emulator_again 10 '10 passed (0 of them earlier), 0 failed'
EMU=emu.l2=3 soak_case soak_boots_with_other_options_again 10 '10 passed (0 of them earlier), 0 failed'
cat >"$work/soak/test" <<'END'
#!/bin/sh
echo "$1 $SEED" >>"$NOTES/booted"
END
chmod +x "$work/soak/test"
touch "$work/soak/build/initramfs" "$work/soak/build/initramfs-run"
soak_case soak_tries_each_hostile_seed 3 '3 passed (0 of them earlier), 0 failed' hostile
soak_case soak_tries_no_hostile_seed_twice 0 '3 passed (3 of them earlier), 0 failed' hostile

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
