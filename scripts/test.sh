#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# `make test`: host tests of the crates, bad input to the scripts, the guest test
# microkernel on the emulator, the kselftests inside a TD, inside one whose host is
# Hyper-V and inside one with much memory, a kexec, then guests in a TD whose host is
# hostile, a shell at a terminal, and where the module must not load.
# Everything is printed and kept in build/test.log; the last line counts.
#   test.sh PART      only that part

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/env.sh"
. "$TOP/scripts/image.sh"
. "$TOP/scripts/ktap.sh"

part=${1:-all}
host_log=$BUILD/test-host.log scripts_log=$BUILD/test-scripts.log
package_log=$BUILD/test-package.log
tmk_log=$BUILD/test-tmk.log smp_log=$BUILD/test-tmk-smp.log second_log=$BUILD/test-tmk-second.log
ends_log=$BUILD/test-emu-ends.log
td_log=$BUILD/test-td.log hyperv_log=$BUILD/test-hyperv.log memory_log=$BUILD/test-memory.log
kexec_log=$BUILD/test-kexec.log
noxsave_log=$BUILD/test-noxsave.log no_l2_log=$BUILD/test-no-l2.log no_td_log=$BUILD/test-no-td.log
hostile_log=$BUILD/test-hostile.log hostile_vtls_log=$BUILD/test-hostile-vtls.log
guest_log=$BUILD/test-guest.log monitor_log=$BUILD/test-monitor.log vtl1_log=$BUILD/test-vtl1.log vtl1_up_log=$BUILD/test-vtl1-up.log
shell_log=$BUILD/test-shell.log
mkdir -p "$BUILD/log"

# Adds the figures of cargo's closing lines. A log without one is a failure:
# a build error must not look like no tests.
count_host() {
	local p f s
	read -r p f s < <(awk '/^test result:/ { p += $4; f += $6; s += $8 }
			       END { print p + 0, f + 0, s + 0 }' "$host_log")
	[ "$p" -gt 0 ] || f=$((f + 1))
	passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
}

run_host() {
	local before=$failed
	say "host tests of the crates"
	{ in_root env CARGO_TARGET_DIR="$BUILD/cargo" cargo test --locked --no-fail-fast \
		--manifest-path "$TOP/tools/Cargo.toml" --workspace 2>&1 ||
		echo "=== cargo status: $?"; } | tee "$host_log" |
		grep -E '^(test result|test .*FAILED|error|failures:|===|     Running)' || :
	count_host
	# A run that broke off without a failed test has failed all the same.
	! grep -q '^=== cargo status' "$host_log" || [ "$failed" != "$before" ] ||
		failed=$((failed + 1))
}

# The scripts' own behaviour when something is wrong; and that the crates can be published.
run_scripts() {
	say "bad input to the scripts"
	run_script test-scripts.sh "$scripts_log"
	say "the crates as packages"
	run_script test-package.sh "$package_log"
}

run_shell() {
	say "a shell in a TD, at a terminal"
	run_script test-shell.sh "$shell_log"
}

# run_script NAME LOG: a script that prints KTAP.
run_script() {
	local status=0 planned p f
	"$TOP/scripts/$1" | tee "$2" || status=$?
	planned=$(sed -n 's/^1\.\.//p' "$2")
	p=$(grep -c '^ok ' "$2") || :
	f=$((${planned:-1} - p))
	[ "$status" = 0 ] || [ "$f" != 0 ] || f=1
	passed=$((passed + p)) failed=$((failed + f))
}

run_tmk() {
	say "guest test microkernel on the emulator"
	rm -f "$tmk_log" "$smp_log" "$second_log" "$ends_log"
	if ! "$TOP/scripts/build.sh" tmk >"$BUILD/log/tmk.log" 2>&1; then
		cat "$BUILD/log/tmk.log"
		failed=$((failed + 1))
		return
	fi
	count_tmk "$tmk_log" "$TOP/scripts/tmk.sh" "$tmk_log"
	say "the same on eight processors"
	count_tmk "$smp_log" "$TOP/scripts/tmk.sh" "$smp_log" smp
	say "the TDX module's 2.0 line"
	count_tmk "$second_log" "$TOP/scripts/tmk.sh" "$second_log" second
	say "how the emulator's machine ends"
	count_tmk "$ends_log" run_ends
}

run_ends() { "$TOP/scripts/test-emu-ends.sh" | tee "$ends_log"; }

# count_tmk LOG COMMAND...: the command writes KTAP to LOG. One that failed without
# a failed test has failed all the same.
count_tmk() {
	local log=$1 status=0 before=$failed
	shift
	"$@" || status=$?
	count_ktap "$log"
	[ "$status" = 0 ] || [ "$failed" != "$before" ] || failed=$((failed + 1))
}

# The second CPU comes online later: see selftests/cpu_online.c. Each deadline of a lower VTL ends a
# run too early.
run_td() {
	say "kselftests in a TD"
	CMDLINE="maxcpus=1 ${CMDLINE:-}" run_kselftests "test" "$td_log" emu.timer_rate=22 emu.quote=1
}

# The tests of what only such a host and such a processor offer. VTL2's Linux has four-level paging
# there, and the processor more.
# VTL0's memory is at the top of RAM. QEMU's disk and network reach what is shared.
run_hyperv() {
	test_disk "$BUILD/test-disk"
	say "kselftests in a TD whose host is Hyper-V, on a processor with more MSRs"
	CMDLINE="maxcpus=1 no5lvl noxsaves nofsgsbase clearcpuid=waitpkg spec_store_bypass_disable=on tests.virtio=1 ${CMDLINE:-}" \
		MEM=1G DISK=$BUILD/test-disk NET=1 run_kselftests "hyperv" "$hyperv_log" emu.host=hyperv emu.extra_msrs=1 emu.vtl0=64M@top
}

# test_disk FILE: as selftests/virtio_devices.sh expects it.
test_disk() {
	local block=4096 blocks=256
	dd if=/dev/urandom of="$1" bs=$block count=$blocks status=none
	dd if="$1" bs=$block skip=1 count=$((blocks - 2)) status=none | sha256sum |
		sed 's/^/sha256 /; s/ *-$//' | dd of="$1" bs=$block conv=notrunc,sync status=none
}

# The kernel is started by the previous one, which had guests; the status of this one counts. The
# emulated host lacks registers that the kernel disables then, and about which it warns.
run_kexec() {
	say "a kernel that another one has started, in a TD whose host is Hyper-V"
	if "$TOP/scripts/build.sh" kexec && INITRAMFS=$BUILD/kexec-initramfs \
		run_kselftests kexec "$kexec_log" emu.host=hyperv; then :; fi
}

# As on a real machine, the lower VTLs' memory has several ranges, most of it above 4 GiB and far
# from this kernel's, which has no struct pages for it, and contains a whole aligned gigabyte. This
# kernel reserves some of its own memory for a crash kernel.
run_memory() {
	say "kselftests of mappings in a TD with much memory"
	CMDLINE="crashkernel=64M ${CMDLINE:-}" MEM=3200M \
		run_kselftests "memory" "$memory_log" emu.vtl0=1100M@4G,64M@top emu.l2=3
}

# A guest runs as usual, and the kernel does not warn, whatever the host answers and however often
# it preempts the processor. So do two VTLs between which the kernel switches.
run_hostile() {
	local seed=${SEED:-1}
	say "a guest in a TD whose host is hostile (seed $seed)"
	if "$TOP/scripts/td.sh" run "$hostile_log" emu.host=hyperv "emu.hostile=$seed" &&
		grep -q 'Hypervisor detected: Microsoft Hyper-V' "$hostile_log"; then
		passed=$((passed + 1))
	else
		failed=$((failed + 1))
	fi
	run_kselftests hostile "$hostile_vtls_log" emu.host=hyperv "emu.hostile=$seed"
}

# An unmodified Linux boots, reads its disk, has the secure kernel sign a file, and powers itself off.
# Then it tests the secure kernel on two processors, and on one.
run_guest() {
	say "a Linux at VTL0, and a secure kernel at VTL1"
	local sum
	sum=$(head -c 1048576 "$KIMAGE" | sha256sum | cut -d ' ' -f 1)
	if "$TOP/scripts/build.sh" guest &&
		INITRAMFS=$BUILD/guest-initramfs "$TOP/scripts/td.sh" guest "$guest_log" &&
		grep -q "^$sum .* /dev/vda" "$guest_log" && grep -q 'ttyS0' "$guest_log" &&
		is_signed "$guest_log" && grep -q '^the guest powered itself off' "$guest_log"; then
		passed=$((passed + 1))
	else
		failed=$((failed + 1))
	fi
	run_vtl1 2 "$vtl1_log"
	run_vtl1 1 "$vtl1_up_log"
	say "an intruder in a Linux at VTL0, and the monitor"
	INITRAMFS=$BUILD/guest-initramfs CMDLINE="guest.vps=2 guest.monitor=1 ${CMDLINE:-}" \
		run_kselftests guestattack "$monitor_log"
}

# run_vtl1 PROCESSORS LOG
run_vtl1() {
	say "the services of VTL1 for a Linux with $1 processor(s)"
	INITRAMFS=$BUILD/guest-initramfs CMDLINE="guest.vps=$1 guest.monitor=1 ${CMDLINE:-}" run_kselftests guestvtl "$2"
}

# The module says what to change. The boot loader that the reference has leaves XSAVE off; a host may make TDs
# without L2 VMs; and somebody may load the module outside of any TD.
run_unfit() {
	say "kernels and machines that the module is not for"
	unfit this.kernel.does.not.use.XSAVE "$noxsave_log" noxsave
	unfit 0.L2.VMs.*1.to.3.are.needed "$no_l2_log" '' emu.l2=0
	DIRECT=1 unfit does.not.report.a.TDX.guest "$no_td_log" ''
}

# unfit REASON LOG MORE_COMMAND_LINE [EMULATOR OPTION]
unfit() {
	if CMDLINE="vtl.reason=$1 $3 ${CMDLINE:-}" "$TOP/scripts/td.sh" unfit "$2" "${@:4}"; then
		passed=$((passed + 1))
	else
		failed=$((failed + 1))
	fi
}

parts="host scripts tmk td hyperv memory kexec hostile guest shell unfit"
failing=()

# run_part NAME: runs it, and remembers a failure.
run_part() {
	local before=$failed
	"run_$1"
	[ "$failed" = "$before" ] || failing+=("$1")
}

# logs_of PART
logs_of() {
	case $1 in
	scripts) echo "$scripts_log" "$package_log" ;;
	tmk) echo "$tmk_log" "$smp_log" "$second_log" "$ends_log" ;;
	hostile) echo "$hostile_log" "$hostile_vtls_log" ;;
	guest) echo "$guest_log" "$vtl1_log" "$vtl1_up_log" "$monitor_log" ;;
	unfit) echo "$noxsave_log" "$no_l2_log" "$no_td_log" ;;
	*) local log=$1_log && echo "${!log}" ;;
	esac
}

# say_failure LOG: its failed tests, and the end of one that broke off.
say_failure() {
	[ -e "$1" ] || return 0
	{
		grep -E '^ *not ok |^test .* FAILED$|^error(\[|:)' "$1" | head -n 20 || :
		! grep -qE '^=== QEMU status|Kernel panic' "$1" || tail -n 20 "$1"
	} | sed "s|^|    ${1#"$TOP"/}: |"
}

# The last lines say what failed, and where to read on: of a long run, often only its
# end is kept.
say_failing() {
	local name log
	for name in "${failing[@]}"; do
		echo "failed: make test, part $name (alone: scripts/test.sh $name)"
		for log in $(logs_of "$name"); do say_failure "$log"; done
	done
}

case $part in
all)
	build_image
	for each in $parts; do run_part "$each"; done
	;;
*)
	[[ " $parts " == *" $part "* ]] || die "unknown part '$part'" "known: $parts"
	run_part "$part"
	;;
esac

cat "$host_log" "$scripts_log" "$package_log" "$tmk_log" "$smp_log" "$second_log" "$ends_log" "$td_log" "$hyperv_log" \
	"$memory_log" "$kexec_log" "$hostile_log" "$hostile_vtls_log" "$guest_log" "$vtl1_log" "$vtl1_up_log" "$monitor_log" "$shell_log" "$noxsave_log" "$no_l2_log" "$no_td_log" >"$BUILD/test.log" 2>/dev/null || :
say_failing
echo "$passed passed, $failed failed, $skipped skipped" | tee -a "$BUILD/test.log"
[ "$failed" = 0 ]
