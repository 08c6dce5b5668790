# SPDX-License-Identifier: MIT OR GPL-2.0-only
#
# Header of the image, the loop of VTL calls, and exceptions.

	.section .header, "a", @progbits
vtl1_header:
	.ascii	"VTL1IMG\0"
	.long	vtl1_entry_offset
	.long	vtl1_text_offset
	.long	vtl1_rodata_offset
	.long	vtl1_data_offset
	.long	vtl1_bss_offset
	.org	vtl1_header + 32

	.text
	.code64
	# Each VTL call continues here; the first one at vtl1_start, with RSP as VTL2
	# has set it. The general registers are VTL0's, and it gets them back: RAX and
	# RCX by the assist page, the others from the stack.
	.balign	16
	.globl	vtl1_start
vtl1_start:
1:	pushq	%rax
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
	cld
	movq	112(%rsp), %rdi		# RAX
	movq	104(%rsp), %rsi		# RCX
	movq	64(%rsp), %rdx		# RDI
	pushq	$0			# keeps the stack aligned
	call	vtl1_call
	popq	%rax
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
	addq	$16, %rsp
	xorl	%eax, %eax
	movl	$0x12, %ecx
	vmcall
	jmp	1b

	# Loads GDT, TSS and IDT, and sets CR0.WP. RDI: end of the stack for exceptions.
	.globl	vtl1_load_tables
vtl1_load_tables:
	leaq	vtl1_tss(%rip), %rax
	movq	%rdi, 36(%rax)		# IST1
	leaq	vtl1_gdt(%rip), %rdx
	movw	%ax, 24 + 2(%rdx)
	shrq	$16, %rax
	movb	%al, 24 + 4(%rdx)
	movb	%ah, 24 + 7(%rdx)
	shrq	$16, %rax
	movl	%eax, 24 + 8(%rdx)
	leaq	vtl1_vectors(%rip), %rax
	leaq	vtl1_idt(%rip), %rcx
	movl	$32, %r8d
2:	movq	%rax, %r9
	movw	%r9w, 0(%rcx)
	movl	$0x8e010008, 2(%rcx)	# selector 8, IST1, interrupt gate
	shrq	$16, %r9
	movw	%r9w, 6(%rcx)
	shrq	$16, %r9
	movl	%r9d, 8(%rcx)
	movl	$0, 12(%rcx)
	addq	$16, %rcx
	addq	$16, %rax
	decl	%r8d
	jnz	2b
	subq	$16, %rsp
	movw	$39, 6(%rsp)
	movq	%rdx, 8(%rsp)
	lgdt	6(%rsp)
	leaq	vtl1_idt(%rip), %rcx
	movw	$511, 6(%rsp)
	movq	%rcx, 8(%rsp)
	lidt	6(%rsp)
	addq	$16, %rsp
	movl	$24, %eax
	ltr	%ax
	movq	%cr0, %rax
	orq	$0x10000, %rax
	movq	%rax, %cr0
	ret

	# Exceptions with an error code: 8, 10 to 14, 17, 21. The others push a zero.
	.balign	16
vtl1_vectors:
	.set	number, 0
	.rept	32
	.balign	16
	.if !((number == 8) || (number >= 10 && number <= 14) || (number == 17) || (number == 21))
	pushq	$0
	.endif
	pushq	$number
	jmp	vtl1_exception_entry
	.set	number, number + 1
	.endr
vtl1_exception_entry:
	movq	0(%rsp), %rdi		# vector
	movq	8(%rsp), %rsi		# error code
	movq	16(%rsp), %rdx		# RIP
	movq	%cr2, %rcx
	andq	$-16, %rsp
	call	vtl1_exception
	ud2

	.section .data
	.balign	16
vtl1_gdt:
	.quad	0
	.quad	0x00af9b000000ffff	# 8: 64-bit code
	.quad	0x00cf93000000ffff	# 16: data
	.quad	0x0000890000000067	# 24: TSS, whose address is filled in
	.quad	0

	.section .bss
	.balign	16
vtl1_tss:
	.skip	104
	.balign	16
vtl1_idt:
	.skip	512
