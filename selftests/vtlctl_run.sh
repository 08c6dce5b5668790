#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# What `vtlctl run` does with good and bad guests: status codes and messages, as
# a script sees them. Prints KTAP.

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/vtlctl_common.sh"

: >"$work/empty"
# 1: hlt; jmp 1b -- the smallest guest that ends well.
printf '\364\353\375' >"$work/halts"
# jmp . -- one that never ends.
printf '\353\376' >"$work/spins"
# ud2 without an exception handler: a triple fault.
printf '\017\013' >"$work/faults"
# movb $0, 0x123456789000 by RAX: no page there
printf '\110\270\0\220\170\126\064\022\0\0\306\0\0' >"$work/unmapped"
# movl $0x12345, %ecx; rdmsr: a register that there is not
printf '\271\105\043\001\0\017\062' >"$work/rdmsr"
# pushq $0x1fa0; ldmxcsr (%rsp); ud2
printf '\150\240\037\0\0\017\256\024\044\017\013' >"$work/mxcsr"
# movl $0xfd000000, %ecx; movl %eax, (%rcx): a device that nothing emulates
printf '\271\0\0\0\375\211\001' >"$work/device"
truncate -s 8G "$work/large" 2>/dev/null || dd if=/dev/zero of="$work/large" bs=1M count=0 seek=8192 2>/dev/null

# The list of lower-VTL memory, as shown by the module and by vtlctl.
probe_shows_the_list() {
	list=$(cat /sys/module/mshv_vtl_tdx/parameters/vtl0_mem) || return 1
	[ -n "$list" ] && "$VTLCTL" probe | grep -q "^ok *lower-VTL memory *${list%%,*}\.\."
}

list=$(cat /sys/module/mshv_vtl_tdx/parameters/vtl0_mem)
rest=${list#*,}
first=${list%%,*},${rest%%,*}

printf '\177ELF\002\001\001' >"$work/elf"
printf '#!/bin/sh\n' >"$work/script"

echo "TAP version 13"
echo "1..25"
expect 3 "$work/missing" a_missing_file_is_named run "$work/missing"
expect 3 empty an_empty_file_is_refused run "$work/empty"
expect 3 "larg|fit" a_file_larger_than_the_memory_is_refused run "$work/large"
expect 3 "no regular file" a_directory_is_no_guest run "$work"
expect 3 "it is an ELF file .*objcopy" an_elf_file_is_not_executed run "$work/elf"
expect 3 "it is a script" a_script_is_not_executed run "$work/script"
expect 2 mode an_unknown_mode_lists_the_known_ones run --mode vm86 "$work/halts"
expect 2 "not memory of the lower VTLs, which vtl0_mem= names: 0x" memory_of_this_kernel_is_refused_with_the_list \
	run --memory 0x100000000000,2M "$work/halts"
expect 1 "there is no such CPU" a_cpu_that_there_is_not_is_named run --cpu 4000 "$work/halts"
expect 0 HLT a_guest_that_halts_ends_well run "$work/halts"
# In a user namespace of its own even root has no capabilities of the system.
command=$(command -v "$VTLCTL")
printf '#!/bin/sh\nexec unshare -U "%s" "$@"\n' "$command" >"$work/unprivileged"
chmod +x "$work/unprivileged"
VTLCTL=$work/unprivileged
expect 1 "CAP_SYS_ADMIN is needed" who_lacks_a_capability_is_told run "$work/halts"
VTLCTL=$command
# movb $'r', %al; outb %al, $0xe9; movb $10, %al; outb %al, $0xe9; jmp .
printf '\260r\346\351\260\012\346\351\353\376' >"$work/says_and_spins"
"$VTLCTL" run --timeout 4 "$work/says_and_spins" >"$work/first" 2>&1 &
until grep -qx r "$work/first" || ! kill -0 $! 2>/dev/null; do sleep 0.1; done
expect 1 "another thread runs this virtual processor" a_processor_that_is_in_use_is_named run "$work/halts"
wait $!
[ $? = 5 ] || { sed 's/^/# /' "$work/first"; false; }
result $? and_the_guest_that_uses_it_is_not_disturbed
expect 5 "limit|time" a_guest_that_spins_is_ended run --timeout 1 "$work/spins"
expect 4 "triple fault.*, #UD at 0x[0-9a-f]+ " a_guest_that_faults_is_reported_with_its_first_exception run "$work/faults"
expect 4 "#PF with error code 0x2 for address 0x123456789000 at 0x" a_page_fault_has_its_address run "$work/unmapped"
expect 4 "triple fault.*, after #GP for RDMSR 0x12345 " a_register_that_there_is_not_is_named run "$work/rdmsr"
expect 4 "may not write guest-physical address 0xfd000000" a_guest_that_wants_a_device_is_reported run "$work/device"
expect 4 "mxcsr 0000000000001f80" a_failed_guest_has_its_extended_state_shown run "$work/faults"
expect 4 "mxcsr 0000000000001fa0" it_is_what_the_guest_made_of_it run "$work/mxcsr"
expect 4 "mxcsr 0000000000001f80" the_next_guest_has_its_own run "$work/faults"
expect 0 HLT a_guest_runs_after_one_that_failed run "$work/halts"
# Address 0 and pages that this kernel reads at its start, where VTL0's memory begins there.
expect 0 HLT a_guest_runs_in_the_first_range_in_real_mode run --mode real --memory "$first" "$work/halts"
expect 0 HLT a_guest_runs_in_the_first_range_in_64_bit_mode run --load-address 0x10000 --memory "$first" "$work/halts"
probe_shows_the_list
result $? probe_shows_the_list_of_memory
[ "$failed" = 0 ]
