# SPDX-License-Identifier: MIT OR GPL-2.0-only
#
# L1's first instructions, its TDCALL, and its interrupt table.
# [Linux Documentation/arch/x86/boot.rst for the header]

	.section .header, "a", @progbits
tmk_header:
	.org	tmk_header + 0x1f1
	.byte	1			# setup_sects
	.org	tmk_header + 0x1f4
	.long	tmk_load_paragraphs	# syssize
	.org	tmk_header + 0x1fe
	.word	0xaa55
	.byte	0xeb, 0x6a		# jump over the header
	.ascii	"HdrS"
	.word	0x20f			# version
	.org	tmk_header + 0x236
	.word	1			# xloadflags: 64-bit entry
	.long	2047			# cmdline_size
	.org	tmk_header + 0x258
	.quad	tmk_image_start		# pref_address
	.long	tmk_memory_bytes	# init_size
	.org	tmk_header + 0x400

	.section .text.start, "ax", @progbits
	.code64
	# The 64-bit entry is 512 bytes into the image. RSI: zero page.
	.fill	0x200, 1, 0xcc
	.globl	tmk_start
tmk_start:
	cli
	leaq	tmk_stack_top(%rip), %rsp
	leaq	tmk_bss_start(%rip), %rdi
	leaq	tmk_image_end(%rip), %rcx
	subq	%rdi, %rcx
	xorl	%eax, %eax
	rep stosb
	lgdt	tmk_gdt_pointer(%rip)
	movl	$16, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %ss
	pushq	$8
	leaq	1f(%rip), %rax
	pushq	%rax
	lretq
1:	movq	%cr4, %rax
	orq	$0x600, %rax		# OSFXSR, OSXMMEXCPT: one test uses XMM
	movq	%rax, %cr4
	movq	%rsi, %rdi
	call	tmk_main
	ud2

	# Another processor, woken through the mailbox: 64-bit mode, identity mapped.
	.globl	tmk_ap_start
tmk_ap_start:
	cli
	movq	tmk_ap_stack(%rip), %rsp
	lgdt	tmk_gdt_pointer(%rip)
	movl	$16, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %ss
	pushq	$8
	leaq	1f(%rip), %rax
	pushq	%rax
	lretq
1:	movq	%cr4, %rax
	orq	$0x600, %rax
	movq	%rax, %cr4
	call	tmk_ap_main
	ud2

	# void tmk_tdcall(u64 registers[16]): loads all but RSP, executes, stores.
	.globl	tmk_tdcall
tmk_tdcall:
	pushq	%rbx
	pushq	%rbp
	pushq	%r12
	pushq	%r13
	pushq	%r14
	pushq	%r15
	pushq	%rdi
	movq	0(%rdi), %rax
	movq	8(%rdi), %rcx
	movq	16(%rdi), %rdx
	movq	24(%rdi), %rbx
	movq	40(%rdi), %rbp
	movq	48(%rdi), %rsi
	movq	64(%rdi), %r8
	movq	72(%rdi), %r9
	movq	80(%rdi), %r10
	movq	88(%rdi), %r11
	movq	96(%rdi), %r12
	movq	104(%rdi), %r13
	movq	112(%rdi), %r14
	movq	120(%rdi), %r15
	movq	56(%rdi), %rdi
	.byte	0x66, 0x0f, 0x01, 0xcc
	pushq	%rdi
	movq	8(%rsp), %rdi
	movq	%rax, 0(%rdi)
	movq	%rcx, 8(%rdi)
	movq	%rdx, 16(%rdi)
	movq	%rbx, 24(%rdi)
	movq	%rbp, 40(%rdi)
	movq	%rsi, 48(%rdi)
	movq	%r8, 64(%rdi)
	movq	%r9, 72(%rdi)
	movq	%r10, 80(%rdi)
	movq	%r11, 88(%rdi)
	movq	%r12, 96(%rdi)
	movq	%r13, 104(%rdi)
	movq	%r14, 112(%rdi)
	movq	%r15, 120(%rdi)
	popq	%rax
	movq	%rax, 56(%rdi)
	popq	%rdi
	popq	%r15
	popq	%r14
	popq	%r13
	popq	%r12
	popq	%rbp
	popq	%rbx
	ret

	# Vectors with an error code: 8, 10 to 14, 17, 21. The others push a zero.
	.macro	tmk_vector number, target
	.balign	16
	.if !((\number == 8) || (\number >= 10 && \number <= 14) || (\number == 17) || (\number == 21))
	pushq	$0
	.endif
	pushq	$\number
	jmp	\target
	.endm

	.balign	16
	.globl	tmk_l1_vectors
tmk_l1_vectors:
	.set	number, 0
	.rept	256
	tmk_vector number, tmk_l1_event
	.set	number, number + 1
	.endr
tmk_l1_event:
	pushq	%rax
	pushq	%rcx
	pushq	%rdx
	pushq	%rsi
	pushq	%rdi
	pushq	%r8
	pushq	%r9
	pushq	%r10
	pushq	%r11
	movq	72(%rsp), %rdi		# vector
	movq	80(%rsp), %rsi		# error code
	leaq	88(%rsp), %rdx		# where RIP is
	pushq	%rbp
	movq	%rsp, %rbp
	andq	$-16, %rsp
	call	tmk_event
	movq	%rbp, %rsp
	popq	%rbp
	popq	%r11
	popq	%r10
	popq	%r9
	popq	%r8
	popq	%rdi
	popq	%rsi
	popq	%rdx
	popq	%rcx
	popq	%rax
	addq	$16, %rsp
	iretq

	.section .data
	.balign	8
tmk_gdt:
	.quad	0
	.quad	0x00af9b000000ffff	# 8: 64-bit code
	.quad	0x00cf93000000ffff	# 16: data
tmk_gdt_pointer:
	.word	23
	.quad	tmk_gdt
	.balign	8
	.globl	tmk_ap_stack
tmk_ap_stack:
	.quad	0			# written by smp.rs before each wake-up

	.section .bss
	.balign	4096
	.skip	65536
tmk_stack_top:
