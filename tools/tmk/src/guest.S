# SPDX-License-Identifier: MIT OR GPL-2.0-only
#
# The L2 side. It runs in the microkernel's own pages, to which L1 gives it the
# rights. VMCALL with a number in EAX says where it is:
#   1 to 5  stations on the way from real mode to 64-bit mode
#   0xc0    the loop: L1 puts the next routine into RDI
#   0xee    an exception: R8 vector, R9 RIP, R10 error code, R11 CR2
#   0x1e0   an interrupt, before its EOI: R8 vector

	.section .text.guest, "ax", @progbits
	.balign	4096
	.globl	l2_real_mode
	.code16
l2_real_mode:
	movl	$1, %eax
	vmcall
	movl	%cr0, %ebx
	movl	$2, %eax
	vmcall
	lgdtl	%cs:(l2_gdt_pointer - l2_real_mode)
	movl	%cr0, %eax
	orb	$1, %al
	movl	%eax, %cr0
	ljmpl	$8, $l2_protected_mode
	.balign	8
l2_gdt:	.quad	0
	.quad	0x00cf9b000000ffff	# 8: 32-bit code
	.quad	0x00cf93000000ffff	# 16: data
	.quad	0x00af9b000000ffff	# 24: 64-bit code
	.quad	0x00affb000000ffff	# 32: 64-bit code, user
	.quad	0x00cff3000000ffff	# 40: data, user
	.globl	l2_tss_descriptor
l2_tss_descriptor:
	.quad	0, 0			# 48: written by L1
	.quad	0x00af9a000000ffff	# 64: 64-bit code, not yet accessed
	.globl	l2_gdt_pointer
l2_gdt_pointer:
	.word	71
	.long	l2_gdt
	.long	0

	.code32
l2_protected_mode:
	movw	$16, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %ss
	movl	$l2_stack_top, %esp
	movl	%cr0, %ebx
	movl	$3, %eax
	vmcall
	movl	%cr4, %eax
	orl	$0x220, %eax		# PAE, OSFXSR
	movl	%eax, %cr4
	movl	$l2_pml4, %eax
	movl	%eax, %cr3
	movl	$0xc0000080, %ecx
	rdmsr
	orl	$0x100, %eax
	wrmsr
	movl	$4, %eax
	vmcall
	movl	%cr0, %eax
	orl	$0x80000000, %eax
	movl	%eax, %cr0
	ljmpl	$24, $l2_long_mode

	.code64
	.globl	l2_long_mode
l2_long_mode:
	movq	%cr0, %rbx
	movq	%cr4, %rcx
	movq	%cr3, %rdx
	movl	$5, %eax
	vmcall
	.globl	l2_loop
l2_loop:
	movl	$0xc0, %eax
	vmcall
	call	*%rdi
	jmp	l2_loop

	.balign	16
	.globl	l2_vectors
l2_vectors:
	.set	number, 0
	.rept	256
	tmk_vector number, l2_event
	.set	number, number + 1
	.endr
l2_event:
	pushq	%rax
	pushq	%r8
	pushq	%r9
	pushq	%r10
	pushq	%r11
	movq	40(%rsp), %r8
	movq	48(%rsp), %r10
	movq	56(%rsp), %r9
	movq	%cr2, %r11
	cmpq	$32, %r8
	jb	1f
	cmpq	$0x80, %r8
	je	1f
	movl	$0x1e0, %eax
	vmcall
	pushq	%rcx
	pushq	%rdx
	movl	$0x80b, %ecx		# x2APIC EOI
	xorl	%eax, %eax
	xorl	%edx, %edx
	wrmsr
	popq	%rdx
	popq	%rcx
	jmp	2f
1:	movl	$0xee, %eax
	vmcall
2:	popq	%r11
	popq	%r10
	popq	%r9
	popq	%r8
	popq	%rax
	addq	$16, %rsp
	iretq

	.macro	routine name
	.balign	16
	.globl	\name
\name:
	.endm

routine l2_nop
	nop
	ret
routine l2_cpuid
	cpuid
	ret
routine l2_sti
	sti
	nop
	nop
	cli
	ret
routine l2_mov_ss
	movl	%ss, %eax
	movl	%eax, %ss
	cpuid
	ret
routine l2_spin
	jmp	l2_spin
routine l2_hlt
	hlt
	ret
routine l2_ud
	ud2
	ret
routine l2_int3
	int3
	nop
	ret
routine l2_int80
	int	$0x80
	nop
	ret
routine l2_divide
	xorl	%eax, %eax
	xorl	%edx, %edx
	divl	%eax
	ret
routine l2_trap_flag
	pushfq
	orq	$0x100, (%rsp)
	popfq
	nop
	pushfq
	andq	$~0x100, (%rsp)
	popfq
	ret
routine l2_invd
	invd
	ret
routine l2_wbinvd
	wbinvd
	ret
routine l2_xsetbv
	movl	$1, %eax
	xorl	%edx, %edx
	xorl	%ecx, %ecx
	xsetbv
	ret
routine l2_pause
	pause
	ret
routine l2_rdtsc
	rdtsc
	ret
routine l2_rdpmc
	xorl	%ecx, %ecx
	rdpmc
	ret
routine l2_monitor_mwait
	xorl	%ecx, %ecx
	xorl	%edx, %edx
	movq	%rsp, %rax
	monitor
	xorl	%eax, %eax
	mwait
	ret
routine l2_tdcall
	.byte	0x66, 0x0f, 0x01, 0xcc
	ret
routine l2_out
	movw	$0x3f8, %dx
	movb	$0x41, %al
	outb	%al, %dx
	ret
routine l2_rep_outs
	movw	$0x3f8, %dx
	movl	$3, %ecx
	rep outsb
	ret
routine l2_read_cr0
	movq	%cr0, %rsi
	ret
routine l2_write_cr0
	movq	%rsi, %cr0
	ret
routine l2_cr3
	movq	%cr3, %rax
	movq	%rax, %cr3
	ret
routine l2_read_cr4
	movq	%cr4, %rsi
	ret
routine l2_write_cr4
	movq	%rsi, %cr4
	ret
routine l2_read_cr8
	movq	%cr8, %rsi
	ret
routine l2_write_cr8
	movq	%rsi, %cr8
	ret
routine l2_clts
	clts
	ret
routine l2_lmsw
	smsw	%ax
	lmsw	%ax
	ret
routine l2_read_dr7
	movq	%dr7, %rsi
	ret
routine l2_write_dr0
	movq	%rsi, %dr0
	ret
	# DR0 to DR3 from and to R8 to R11.
routine l2_read_drs
	movq	%dr0, %r8
	movq	%dr1, %r9
	movq	%dr2, %r10
	movq	%dr3, %r11
	ret
routine l2_write_drs
	movq	%r8, %dr0
	movq	%r9, %dr1
	movq	%r10, %dr2
	movq	%r11, %dr3
	ret
routine l2_read_cr2
	movq	%cr2, %rsi
	ret
routine l2_write_cr2
	movq	%rsi, %cr2
	ret
routine l2_xgetbv
	xorl	%ecx, %ecx
	xgetbv
	movl	%eax, %esi
	ret
	# Exchanges RSI with the third word of YMM4.
routine l2_ymm
	vextractf128 $1, %ymm4, %xmm5
	vmovq	%xmm5, %rax
	vmovq	%rsi, %xmm5
	vinsertf128 $1, %xmm5, %ymm4, %ymm4
	movq	%rax, %rsi
	ret
routine l2_rdtscp
	rdtscp
	ret
routine l2_lgdt
	sgdt	-64(%rsp)
	lgdt	-64(%rsp)
	ret
routine l2_lidt
	sidt	-64(%rsp)
	lidt	-64(%rsp)
	ret
routine l2_str
	str	%eax
	ret
routine l2_lldt
	xorl	%eax, %eax
	lldt	%ax
	ret
routine l2_ltr
	andb	$0xfd, l2_tss_descriptor+5(%rip)	# not busy
	movl	$48, %eax
	ltr	%ax
	ret
routine l2_far_return
	popq	%rax
	pushq	$64
	pushq	%rax
	lretq
	# Instructions of VMX; RSI is memory of the L2.
routine l2_vmx
	vmlaunch
	vmresume
	vmxoff
	vmread	%rax, %rcx
	vmwrite	%rcx, %rax
	vmptrld	(%rsi)
	vmclear	(%rsi)
	vmxon	(%rsi)
	vmptrst	(%rsi)
	invept	(%rsi), %rax
	invvpid	(%rsi), %rax
	vmfunc
	.byte	0x66, 0x0f, 0x01, 0xcf	# SEAMCALL
	ret
routine l2_invlpg
	invlpg	(%rsi)
	ret
routine l2_sgdt
	sgdt	-64(%rsp)
	ret
routine l2_sldt
	sldt	%eax
	ret
routine l2_rdmsr
	movl	%esi, %ecx
	rdmsr
	movl	%eax, %esi
	ret
routine l2_wrmsr
	movl	%esi, %ecx
	movl	%r12d, %eax
	movl	%r13d, %edx
	wrmsr
	ret
routine l2_read
	movq	(%rsi), %rax
	ret
routine l2_write
	movq	%rax, (%rsi)
	ret
routine l2_jump
	jmp	*%rsi
routine l2_xmm
	movq	%xmm3, %rax
	movq	%rsi, %xmm3
	movq	%rax, %rsi
	ret
routine l2_syscall
	syscall
	ret
	# To user mode: RSI is where.
routine l2_user
	pushq	$0x2b
	leaq	l2_user_stack_top(%rip), %rax
	pushq	%rax
	pushq	$2
	pushq	$0x23
	pushq	%rsi
	iretq
routine l2_user_vmcall
	movl	$0xc3, %eax
	vmcall
	hlt

	.section .data
	.balign	4096
	.globl	l2_pml4
l2_pml4:
	.quad	l2_pdpt + 7
	.fill	511, 8, 0
	# The first 4 GiB, and the same 4 GiB again with the SHARED bit at 512 GiB.
l2_pdpt:
	.quad	0xe7, 0x400000e7, 0x800000e7, 0xc00000e7
	.quad	0x8000000000e7
	.fill	507, 8, 0

	.section .bss
	.balign	4096
	.globl	l2_idt
l2_idt:	.skip	4096
	.globl	l2_task
l2_task: .skip	4096
	.skip	8192
	.globl	l2_stack_top
l2_stack_top:
	.skip	4096
l2_user_stack_top:
	.skip	4096
