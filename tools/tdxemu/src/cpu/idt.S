# SPDX-License-Identifier: MIT OR GPL-2.0-only
#
# One stub of 16 bytes per vector; all meet in emu_trap_common, which builds
#
#	[rsp]		15 general registers, r15 first, rax last
#	[rsp+120]	vector, error code
#	[rsp+136]	rip, cs, rflags, rsp, ss as the processor pushed them
#
# and calls emu_trap with its address.

	.section .text.idt, "ax"
	.balign	16
	.globl	emu_idt_stubs
emu_idt_stubs:
	.set	vector, 0
	.rept	256
	.balign	16
	.if	(vector == 8) || (vector >= 10 && vector <= 14) || (vector == 17) || (vector == 21)
	.else
	pushq	$0
	.endif
	pushq	$vector
	jmp	emu_trap_common
	.set	vector, vector + 1
	.endr

	.balign	16
	.type	emu_trap_common, @function
emu_trap_common:
	pushq	%rax
	pushq	%rcx
	pushq	%rdx
	pushq	%rbx
	pushq	%rbp
	pushq	%rsi
	pushq	%rdi
	pushq	%r8
	pushq	%r9
	pushq	%r10
	pushq	%r11
	pushq	%r12
	pushq	%r13
	pushq	%r14
	pushq	%r15
	movq	%rsp, %rdi
	movq	%rsp, %rbx		# the callee keeps RBX; align the stack for it
	andq	$-16, %rsp
	cld
	call	emu_trap
	movq	%rbx, %rsp
	popq	%r15
	popq	%r14
	popq	%r13
	popq	%r12
	popq	%r11
	popq	%r10
	popq	%r9
	popq	%r8
	popq	%rdi
	popq	%rsi
	popq	%rbp
	popq	%rbx
	popq	%rdx
	popq	%rcx
	popq	%rax
	addq	$16, %rsp
	iretq
	.size	emu_trap_common, . - emu_trap_common
