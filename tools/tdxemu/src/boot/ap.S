# SPDX-License-Identifier: MIT OR GPL-2.0-only
#
# Other processors: real mode at the trampoline page to 64-bit mode. The part
# up to emu_ap_trampoline_end is copied to a page below 1 MiB; each processor then
# draws a number and takes the stack of that number.

	.section .rodata.ap, "a"
	.code16
	.globl	emu_ap_trampoline
emu_ap_trampoline:
	cli
	xorw	%ax, %ax
	movw	%ax, %ds
	lgdtl	emu_ap_gdt_pointer - emu_ap_trampoline + {TRAMPOLINE}
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
	ljmpl	$8, $emu_ap_start_64
	.balign	4
emu_ap_gdt_pointer:
	.word	23
	.long	emu_gdt
	.globl	emu_ap_trampoline_end
emu_ap_trampoline_end:

	.section .text.ap, "ax"
	.code64
	.type	emu_ap_start_64, @function
emu_ap_start_64:
	movl	$16, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %ss
	xorl	%eax, %eax
	movl	%eax, %fs
	movl	%eax, %gs
	movl	$1, %edi
	lock xaddl %edi, emu_ap_next(%rip)
	leal	1(%rdi), %eax
	imulq	${STACK}, %rax, %rax
	addq	emu_ap_stacks(%rip), %rax
	movq	%rax, %rsp
	movq	${STACK_MARK}, -{STACK}(%rax)
	xorl	%ebp, %ebp
	call	emu_ap_main
	ud2
	.size	emu_ap_start_64, . - emu_ap_start_64
