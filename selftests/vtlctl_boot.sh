#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# What `vtlctl boot` does with files that are no kernels, and with kernels that misbehave: exit
# statuses and messages, as seen by a script. Prints KTAP.

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/vtlctl_common.sh"

case $(cat /sys/module/mshv_vtl_tdx/parameters/vtl0_mem) in
0x0,* | *,0x0,*) ;;
*) echo "1..0 # SKIP VTL0 has no memory at 0"; exit 4 ;;
esac

# boots STATUS PATTERN NAME ARGUMENT...: runs `vtlctl boot ARGUMENT...`.
boots() {
	wanted=$1 pattern=$2 name=$3
	shift 3
	expect "$wanted" "$pattern" "$name" boot --memory 32M "$@" </dev/null
}

# put FILE OFFSET BYTES: bytes as printf writes them.
# shellcheck disable=SC2059 # the bytes are a format
put() { printf "$3" | dd of="$1" bs=1 seek="$2" conv=notrunc 2>/dev/null; }

# image NAME CODE: a kernel to the boot protocol, with code at its 64-bit entry.
image() {
	rm -f "$work/$1"
	put "$work/$1" 497 '\001'			# setup_sects
	put "$work/$1" 514 'HdrS\017\002'		# version 2.15
	put "$work/$1" 529 '\001'			# loadflags
	put "$work/$1" 556 '\377\377\377\177'		# initrd_addr_max
	put "$work/$1" 566 '\001\000\377\007'		# 64 bits, cmdline_size
	put "$work/$1" 600 '\000\000\000\001\000\000\000\000\000\000\020' # 16 MiB, 1 MiB
	put "$work/$1" 1536 "$2"
	put "$work/$1" 4095 '\000'
}

# movw $0x600, %dx; movb $0x34, %al; outb %al, %dx
off='\146\272\000\006\260\064\356'
image off "$off"
image halts '\372\364\353\375'
image spins '\353\376'
image faults '\017\013'
# movl $0xb0000000, %eax; jmp *%rax
image jumps '\270\000\000\000\260\377\340'
# movl $0xd8000000, %eax; lock incl (%rax)
image locks '\270\000\000\000\330\360\377\000'
# movl $0xd8000000, %eax; movl (%rax), %ebx; cmpl $-1, %ebx; jne 1f; off; 1: ud2
image floats "\270\000\000\000\330\213\030\203\373\377\165\007$off\017\013"
# movl $0xfec00000, %eax; movl $1, (%rax); cmpl $0x170011, 16(%rax); jne 1f; off; 1: ud2
image ioapic "\270\000\000\300\376\307\000\001\000\000\000\201\170\020\021\000\027\000\165\007$off\017\013"
# Select the version; movl $0xfec00010, %esi; movl $0x1002ffe, %edi; movsl;
# cmpl $0x170011, -4(%rdi); jne 1f; off; 1: ud2
image crosses "\270\000\000\300\376\307\000\001\000\000\000\276\020\000\300\376\277\376\057\000\001\245\201\177\374\021\000\027\000\165\007$off\017\013"
# movl $0xfec00000, %esi; movabs $0x140000000, %rdi; movsb; off
image unmapped "\276\000\000\300\376\110\277\000\000\000\100\001\000\000\000\244$off"
# movw $0xf4, %dx; movb $7, %al; outb %al, %dx
image ends '\146\272\364\000\260\007\356'
# movw $0x602, %dx; movb $1, %al; outb %al, %dx
image resets '\146\272\002\006\260\001\356'
# movl $0xffff0, %eax; jmp *%rax: where firmware would begin
image restarts '\270\360\377\017\000\377\340'
# movl $0xc0000080, %ecx; rdmsr; andb $0xf7, %ah; wrmsr: EFER.NXE; off
image nxe "\271\200\000\000\300\017\062\200\344\367\017\060$off"
# movl $0x830, %ecx; movl $0x4500, %eax; xorl %edx, %edx; wrmsr: INIT to itself
image inits '\271\060\010\000\000\270\000\105\000\000\061\322\017\060\364\353\375'
# movb $'.', %al; outb %al, $0xe9, and a reset
image dots '\260\056\346\351\146\272\002\006\260\001\356'
# Writes to the word at 16 MiB + 8 KiB, and ends with 9 if one was there before:
# movl $0x1002000, %ebx; cmpl $0, (%rbx); movl $0x5a5a5a5a, (%rbx); jz 1f
# movw $0xf4, %dx; movb $9, %al; outb %al, %dx; 1: off
image leaves "\273\000\040\000\001\203\073\000\307\003\132\132\132\132\164\007\146\272\364\000\260\011\356$off"
# The same word, and spins.
image keeps '\273\000\040\000\001\307\003\132\132\132\132\353\376'
# The word at 24 MiB + 8 KiB has to be ones: movl $0x1802000, %eax; movl (%rax), %ebx; cmpl $-1, %ebx; jne 1f;
# off; 1: ud2
image beyond "\270\000\040\200\001\213\030\203\373\377\165\007$off\017\013"
# movw $0x3f8, %dx; outsb
image strings '\146\272\370\003\156'
# A VTL call with a request of zeros, at 4 KiB: xorl %eax, %eax; movl $0x11, %ecx; movl $0x1000, %edi;
# vmcall; cmpl $2, %eax; jne 1f; off; 1: ud2. Without a VTL1: cmpl $-1000, %eax.
call='\061\300\271\021\000\000\000\277\000\020\000\000\017\001\301'
image calls "$call\203\370\002\165\007$off\017\013"
image misses "$call\075\030\374\377\377\165\007$off\017\013"
image large "$off"
put "$work/large" 611 '\020'
image old "$off"
put "$work/old" 566 '\000'
# multiboot NAME FLAGS CHECKSUM CODE: a kernel whose header says that all of it goes to 1 MiB.
multiboot() {
	put "$work/$1" 0 '\002\260\255\033'
	put "$work/$1" 4 "$2"
	put "$work/$1" 8 "$3"
	put "$work/$1" 12 '\000\000\020\000\000\000\020\000\000\000\000\000\000\000\000\000\040\000\020\000'
	put "$work/$1" 32 "$4"
}
# cmpl $0x2badb002, %eax; jne 1f; movl 16(%ebx), %esi; cmpl $0x746c756d, (%esi); jne 1f; off; 1: ud2
mb="\075\002\260\255\053\165\022\213\163\020\201\076\155\165\154\164\165\007$off\017\013"
multiboot multi '\000\000\001\000' '\376\117\121\344' "$mb"
multiboot video '\004\000\001\000' '\372\117\121\344' "$mb"
# secure NAME CODE: an image of a VTL1 that is one page of code.
secure() {
	put "$work/$1" 0 'VTL1IMG\000\040\000\000\000\000\020\000\000\000\020\000\000\000\020\000\000\000\020\000\000'
	put "$work/$1" 32 "$2"
	put "$work/$1" 4095 '\000'
}
secure vtl1_faults '\017\013'
secure vtl1_spins '\353\376'
head -c 8192 /lib/vtl1 >"$work/vtl1_short"
head -c 31 /dev/urandom >"$work/seed"
echo "no kernel" >"$work/text"
head -c 600 "$work/off" >"$work/short"
: >"$work/empty"
: >"$work/disk"

echo "TAP version 13"
echo "1..51"
boots 3 "cannot use the kernel .*missing: No such" a_missing_kernel_is_named --kernel "$work/missing"
boots 3 "is empty" an_empty_kernel_is_refused --kernel "$work/empty"
boots 3 "no bzImage.*too short" a_short_file_is_refused --kernel "$work/text"
boots 3 "no bzImage.*too short" a_truncated_kernel_is_refused --kernel "$work/short"
boots 3 "no 64-bit entry" a_kernel_for_32_bits_is_refused --kernel "$work/old"
boots 3 "no regular file" a_folder_is_no_kernel --kernel "$work"
boots 3 "cannot use the initial RAM disk" a_missing_ram_disk_is_named --kernel "$work/off" --initrd "$work/missing"
boots 3 "cannot use the disk" a_missing_disk_is_named --kernel "$work/off" --disk "$work/missing"
boots 3 "no whole sector" a_disk_without_a_sector_is_refused --kernel "$work/off" --disk "$work/disk"
boots 2 "give it more with --memory" a_kernel_that_wants_more_memory_is_refused --kernel "$work/large"
expect 2 "VTL0 has no memory at 0" too_little_memory_is_refused boot --kernel "$work/off" --memory 64K
boots 2 "lower --vps" more_processors_than_there_are_are_refused --kernel "$work/off" --vps 99
boots 2 "shorten --cmdline" a_long_command_line_is_refused --kernel "$work/off" \
	--cmdline "$(head -c 3000 /dev/zero | tr '\0' x)"
boots 0 "the guest powered itself off" a_guest_powers_itself_off --kernel "$work/off"
boots 0 "the guest powered itself off" a_multiboot_kernel_finds_its_table_and_its_name --kernel "$work/multi"
boots 3 "not served.* Multiboot" a_multiboot_kernel_that_wants_a_screen_is_refused --kernel "$work/video"
boots 0 "the guest halted" a_guest_that_halts_for_good_ends --kernel "$work/halts"
boots 0 "wanted a reset" a_guest_resets --kernel "$work/resets" --no-reboot
boots 0 "wanted a reset" a_guest_that_jumps_to_its_firmware_resets --kernel "$work/restarts" --no-reboot
boots 0 "powered itself off" a_guest_may_clear_nxe --kernel "$work/nxe"
boots 4 "ended with 7" a_guest_ends_with_a_number --kernel "$work/ends"
boots 4 "triple fault.*, #UD at 0x[0-9a-f]+ " a_guest_that_faults_is_reported_with_its_first_exception --kernel "$work/faults"
boots 4 "fetch of guest-physical address 0xb0000000.*no memory to execute" \
	a_guest_that_jumps_nowhere_is_reported --kernel "$work/jumps"
boots 4 "0xd8000000.*f0, ff, 00.*not emulated" an_instruction_that_is_not_emulated_is_shown --kernel "$work/locks"
boots 4 "string I/O to port 0x3f8" string_output_is_reported --kernel "$work/strings"
boots 0 "powered itself off" addresses_without_a_device_float --kernel "$work/floats"
boots 0 "powered itself off" the_io_apic_answers --kernel "$work/ioapic"
boots 0 "powered itself off" an_element_of_a_string_move_crosses_a_page --kernel "$work/crosses"
boots 4 "triple fault" a_string_move_to_no_page_is_the_guests_fault --kernel "$work/unmapped"
boots 0 "the guest halted" a_guest_whose_processors_all_wait_has_halted --kernel "$work/inits"
boots 0 "powered itself off" a_guest_leaves_something_in_memory --kernel "$work/leaves"
boots 0 "powered itself off" the_next_guest_finds_no_memory_of_the_last --kernel "$work/leaves"
boots 5 "stopped after 1 s" a_guest_that_spins_is_ended --kernel "$work/spins" --timeout 1

boots 3 "cannot use the secure kernel .*missing: No such" a_missing_secure_kernel_is_named \
	--kernel "$work/off" --vtl1 "$work/missing"
boots 3 "text is no image of one" another_file_is_no_secure_kernel --kernel "$work/off" --vtl1 "$work/text"
boots 3 "vtl1_short is no image of one, or not all of it" a_truncated_secure_kernel_is_refused \
	--kernel "$work/off" --vtl1 "$work/vtl1_short"
[ "$(wc -l <"$work/out")" = 1 ]
result $? a_refused_secure_kernel_is_one_line
boots 3 "seed .* has not exactly 32 bytes" a_seed_of_another_length_is_refused \
	--kernel "$work/off" --vtl1 /lib/vtl1 --vtl1-seed "$work/seed"
boots 3 "has no number of starts" a_file_without_a_number_of_starts_is_refused \
	--kernel "$work/off" --vtl1 /lib/vtl1 --vtl1-starts "$work/text"
boots 2 "required" a_seed_without_a_secure_kernel_is_refused --kernel "$work/off" --vtl1-seed "$work/seed"
expect 2 "no large page for VTL1" too_little_memory_for_a_secure_kernel_is_refused \
	boot --kernel "$work/off" --memory 2M --vtl1 /lib/vtl1
boots 0 "powered itself off" a_guest_calls_the_secure_kernel --kernel "$work/calls" --vtl1 /lib/vtl1
boots 0 "powered itself off" a_vtl_call_without_vtl1_is_an_unknown_hypercall --kernel "$work/misses"
boots 4 "VTL1 has failed" a_secure_kernel_that_faults_ends_the_guest \
	--kernel "$work/calls" --vtl1 "$work/vtl1_faults"
boots 5 "stopped after 1 s" a_secure_kernel_that_never_returns_is_ended \
	--kernel "$work/calls" --vtl1 "$work/vtl1_spins" --timeout 1
boots 0 "powered itself off" the_next_guest_has_a_vtl1_again --kernel "$work/calls" --vtl1 /lib/vtl1

# has_rights: VTL0 has them at 24 MiB, which is a guest's with 32 MiB.
has_rights() { "$VTLCTL" mem map --range 0x1800000,2M | grep -qE ' accepted +rwx +---$'; }

# killed: boots a guest with 32 MiB, and kills the command while the guest runs.
killed() {
	"$VTLCTL" boot --memory 32M --kernel "$work/keeps" >/dev/null 2>&1 </dev/null &
	boot=$!
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		sleep 0.5
		has_rights && break
	done
	sleep 0.5
	kill -9 $boot
	wait $boot 2>/dev/null
}

# Nothing of a killed one hinders the next, or is the next one's.
killed
boots 0 "powered itself off" a_guest_boots_after_one_that_was_killed --kernel "$work/leaves"
killed
has_rights
result $? a_guest_that_was_killed_leaves_rights
expect 0 "powered itself off" a_smaller_guest_finds_no_memory_of_one_that_was_killed \
	boot --memory 18M --kernel "$work/beyond" </dev/null
"$VTLCTL" mem map >"$work/out" &&
	awk 'NR > 1 && $4 $5 != "------" { print "# " $0; bad = 1 } END { exit NR < 2 || bad }' "$work/out"
result $? no_rights_are_left_after_it

# One that resets all the time: each time it says so, by a dot. With what twelve machines had open, and
# their threads, there would be more. Looked at several times, because none is there between two of them.
"$VTLCTL" boot --memory 32M --timeout 300 --kernel "$work/dots" >"$work/out" 2>&1 </dev/null &
boot=$!
resets=0
while [ "$resets" -lt 12 ] && kill -0 $boot 2>/dev/null; do
	sleep 0.2
	resets=$(tr -cd . <"$work/out" | wc -c)
done
open=0
for _ in 1 2 3 4 5 6 7 8 9 10; do
	set -- /proc/$boot/fd/* /proc/$boot/task/*
	[ $# -le "$open" ] || open=$#
	sleep 0.1
done
kill -9 $boot
wait $boot 2>/dev/null
[ "$resets" -ge 12 ] && [ "$open" -gt 8 ] && [ "$open" -le 28 ]
status=$?
[ $status = 0 ] || echo "# $open descriptors and threads after $resets resets"
result $status resets_leave_no_descriptor_open
[ $failed = 0 ]
