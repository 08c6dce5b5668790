# SPDX-License-Identifier: MIT OR GPL-2.0-only
#
# First processor: PVH entry (32-bit protected mode, paging off, EBX = start
# info) to 64-bit mode on the boot stack. Also the tables every processor uses.

	# ELF note XEN_ELFNOTE_PHYS32_ENTRY: where to start.
	.section .note.Xen, "a", @note
	.balign	4
	.long	4, 8, 18
	.asciz	"Xen"
	.quad	emu_start

	.section .text.boot, "ax"
	.code32
	.globl	emu_start
	.type	emu_start, @function
emu_start:
	cli
	movl	%ebx, %edi		# first argument of emu_main

	movl	$emu_pml4, %eax
	movl	%eax, %cr3
	movl	${CR4}, %eax
	movl	%eax, %cr4
	movl	${MSR_EFER}, %ecx
	movl	${EFER}, %eax
	xorl	%edx, %edx
	wrmsr
	movl	${CR0}, %eax
	movl	%eax, %cr0
	lgdtl	emu_gdt_pointer
	ljmpl	$8, $emu_start_64
	.size	emu_start, . - emu_start

	.code64
	.type	emu_start_64, @function
emu_start_64:
	movl	$16, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %ss
	xorl	%eax, %eax
	movl	%eax, %fs
	movl	%eax, %gs
	leaq	emu_boot_stack_top(%rip), %rsp
	movq	${STACK_MARK}, emu_boot_stack(%rip)
	movl	%edi, %edi		# the upper half is undefined so far
	xorl	%ebp, %ebp
	call	emu_main
	ud2
	.size	emu_start_64, . - emu_start_64

	.section .data.boot, "aw"
	.balign	8
	.globl	emu_gdt
emu_gdt:
	.quad	0
	.quad	0x00af9b000000ffff	# 8: 64-bit code
	.quad	0x00cf93000000ffff	# 16: data
emu_gdt_end:
	.globl	emu_gdt_pointer
emu_gdt_pointer:
	.word	emu_gdt_end - emu_gdt - 1
	.quad	emu_gdt

	# Identity map of 512 GiB in 1 GiB pages, supervisor, writable.
	.balign	4096
	.globl	emu_pml4
emu_pml4:
	.quad	emu_pdpt + 0x63
	.fill	511, 8, 0
emu_pdpt:
	.set	gib, 0
	.rept	512
	.quad	(gib << 30) + 0xe3
	.set	gib, gib + 1
	.endr

	.section .bss.boot, "aw", @nobits
	.balign	4096
	.globl	emu_boot_stack
emu_boot_stack:
	.skip	{STACK}
emu_boot_stack_top:
