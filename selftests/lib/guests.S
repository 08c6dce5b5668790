/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Small guests for the tests, in 32-bit protected mode without paging. Each
 * runs at any address; vtl_util.h declares the labels.
 */

.macro	guest name
	.globl	\name, \name\()_end
	.balign	16
\name:
.endm

	.section .rodata
	.code32

/* Every kind of exit that the tests answer, in the order of vp_run.c. */
guest vtl_guest_exits
	movl	$0x40000000, %eax
	movl	$0x5, %ecx
	cpuid
	movl	%ebx, %eax
	outl	%eax, $0xe9
	xorl	%eax, %eax
	inb	$0x60, %al
	movl	%eax, %esi
	movl	$0xc0000080, %ecx
	rdmsr
	movl	%eax, %edi
	movl	$0x174, %ecx
	movl	$0x11112222, %eax
	movl	$0x33334444, %edx
	wrmsr
	movl	$0x77, %eax
	vmcall
	hlt
	jmp	.
vtl_guest_exits_end:

/* Never exits by itself; eax shows how far it came. */
guest vtl_guest_spin
1:	incl	%eax
	jmp	1b
vtl_guest_spin_end:

/* Gives every register a value of its own, then halts. */
guest vtl_guest_registers
	movl	$0x10, %eax
	movl	$0x11, %ecx
	movl	$0x12, %edx
	movl	$0x13, %ebx
	movl	$0x14, %esp
	movl	$0x15, %ebp
	movl	$0x16, %esi
	movl	$0x17, %edi
	stc
	hlt
	jmp	.
vtl_guest_registers_end:

/* Shows the low word of xmm0, sets xmm1 to ones, then halts. */
guest vtl_guest_fpu
	movd	%xmm0, %eax
	pcmpeqd	%xmm1, %xmm1
	hlt
	jmp	.
vtl_guest_fpu_end:

/* Shows dr0 to dr3 and dr6, gives each another value, then halts. */
guest vtl_guest_debug
	movl	%dr0, %eax
	movl	%dr1, %ecx
	movl	%dr2, %edx
	movl	%dr3, %esi
	movl	%dr6, %edi
	movl	$0x1110, %ebx
	movl	%ebx, %dr0
	movl	$0x2220, %ebx
	movl	%ebx, %dr1
	movl	$0x3330, %ebx
	movl	%ebx, %dr2
	movl	$0x4440, %ebx
	movl	%ebx, %dr3
	movl	$0xffff0ff3, %ebx
	movl	%ebx, %dr6
	hlt
	jmp	.
vtl_guest_debug_end:

/* With CR4.OSXSAVE on, shows XCR0 in ebx, then halts. */
guest vtl_guest_xcr0
	xorl	%ecx, %ecx
	xgetbv
	movl	%eax, %ebx
	hlt
	jmp	.
vtl_guest_xcr0_end:

/* Writes to the address in ebx, then halts. */
guest vtl_guest_store
	movl	%eax, (%ebx)
	hlt
	jmp	.
vtl_guest_store_end:

/* Reads from the address in ebx, then halts. */
guest vtl_guest_read
	movl	(%ebx), %eax
	hlt
	jmp	.
vtl_guest_read_end:

/* Goes on at the address in ebx. */
guest vtl_guest_jump
	jmp	*%ebx
vtl_guest_jump_end:

/* Counts at the address in ebx, for ever. */
guest vtl_guest_count
	incl	(%ebx)
	jmp	vtl_guest_count
vtl_guest_count_end:

/* Sums up ecx words from esi in eax and inverts each, then halts. */
guest vtl_guest_checksum
	xorl	%eax, %eax
1:	roll	$1, %eax
	addl	(%esi), %eax
	notl	(%esi)
	addl	$4, %esi
	decl	%ecx
	jnz	1b
	hlt
	jmp	.
vtl_guest_checksum_end:

.macro	save_msr number, offset
	movl	$\number, %ecx
	rdmsr
	movl	%eax, \offset(%ebx)
	movl	%edx, \offset + 4(%ebx)
.endm

.macro	load_msr number, offset
	movl	$\number, %ecx
	movl	\offset(%ebx), %eax
	movl	\offset + 4(%ebx), %edx
	wrmsr
.endm

/* STAR, LSTAR, FMASK, KERNEL_GS_BASE, TSC_AUX. */
.macro	each_msr action, offset
	\action	0xc0000081, \offset
	\action	0xc0000082, \offset + 8
	\action	0xc0000084, \offset + 16
	\action	0xc0000102, \offset + 24
	\action	0xc0000103, \offset + 32
.endm

.macro	save_rest	offset
	.irp	n, 0, 1, 2, 3, 4, 5, 6, 7
	movq	%mm\n, \offset + 8 * \n(%ebx)
	.endr
	.irp	n, 0, 1, 2, 3
	movl	%dr\n, %eax
	movl	%eax, \offset + 0x40 + 4 * \n(%ebx)
	.endr
	xorl	%ecx, %ecx
	rdpkru
	movl	%eax, \offset + 0x50(%ebx)
.endm

.macro	load_rest	offset
	.irp	n, 0, 1, 2, 3, 4, 5, 6, 7
	movq	\offset + 8 * \n(%ebx), %mm\n
	.endr
	.irp	n, 0, 1, 2, 3
	movl	\offset + 0x40 + 4 * \n(%ebx), %eax
	movl	%eax, %dr\n
	.endr
	xorl	%ecx, %ecx
	xorl	%edx, %edx
	movl	\offset + 0x50(%ebx), %eax
	wrpkru
.endm

/*
 * Of the struct guest_patterns at ebx: stores ymm0 to ymm7, MSRs, mm0 to mm7, dr0
 * to dr3 and PKRU in "found", loads them from "own", then looks ebp times whether
 * they still are what they should be. Halts, with zero in eax if they always were.
 */
guest vtl_guest_patterns
	.irp	n, 0, 1, 2, 3, 4, 5, 6, 7
	vmovups	%ymm\n, 32 * \n(%ebx)
	.endr
	each_msr save_msr, 0x100
	save_rest 0x128
	.irp	n, 0, 1, 2, 3, 4, 5, 6, 7
	vmovups	0x200 + 32 * \n(%ebx), %ymm\n
	.endr
	each_msr load_msr, 0x300
	load_rest 0x328
1:
	.irp	n, 0, 1, 2, 3, 4, 5, 6, 7
	vmovups	%ymm\n, 0x400 + 32 * \n(%ebx)
	.endr
	each_msr save_msr, 0x500
	save_rest 0x528
	leal	0x200(%ebx), %esi
	leal	0x400(%ebx), %edi
	movl	$(0x17c / 4), %ecx
	repe cmpsl
	jne	2f
	decl	%ebp
	jnz	1b
	xorl	%eax, %eax
	hlt
	jmp	.
2:	movl	$1, %eax
	hlt
	jmp	.
vtl_guest_patterns_end:

/*
 * Of the struct vectors at ebx: stores ymm0 to ymm7 and MXCSR in "found", loads
 * them from "own", then halts.
 */
guest vtl_guest_ymm
	.irp	n, 0, 1, 2, 3, 4, 5, 6, 7
	vmovups	%ymm\n, 32 * \n(%ebx)
	.endr
	stmxcsr	0x100(%ebx)
	.irp	n, 0, 1, 2, 3, 4, 5, 6, 7
	vmovups	0x200 + 32 * \n(%ebx), %ymm\n
	.endr
	ldmxcsr	0x300(%ebx)
	hlt
	jmp	.
vtl_guest_ymm_end:

/*
 * Of the struct hidden at ebx: stores ymm0 to ymm7 in "found", loads them from "own",
 * hides AVX by XFD of esi, halts; then XFD becomes zero, stores them in "seen",
 * and halts again.
 */
guest vtl_guest_hidden
	.irp	n, 0, 1, 2, 3, 4, 5, 6, 7
	vmovups	%ymm\n, 32 * \n(%ebx)
	.endr
	.irp	n, 0, 1, 2, 3, 4, 5, 6, 7
	vmovups	0x100 + 32 * \n(%ebx), %ymm\n
	.endr
	movl	$0x1c4, %ecx
	movl	%esi, %eax
	xorl	%edx, %edx
	wrmsr
	hlt
	xorl	%eax, %eax
	xorl	%edx, %edx
	wrmsr
	.irp	n, 0, 1, 2, 3, 4, 5, 6, 7
	vmovups	%ymm\n, 0x200 + 32 * \n(%ebx)
	.endr
	hlt
	jmp	.
vtl_guest_hidden_end:

/*
 * Of the rows of struct msr_row from ebx to ebp: stores each MSR in "found" and
 * writes "own" to it, then looks esi times whether all still are so. Halts, with
 * zero in eax if they always were.
 */
guest vtl_guest_msrs
	movl	%ebx, %edi
1:	movl	(%edi), %ecx
	rdmsr
	movl	%eax, 8(%edi)
	movl	%edx, 12(%edi)
	movl	16(%edi), %eax
	movl	20(%edi), %edx
	wrmsr
	addl	$24, %edi
	cmpl	%ebp, %edi
	jne	1b
2:	movl	%ebx, %edi
3:	movl	(%edi), %ecx
	rdmsr
	cmpl	%eax, 16(%edi)
	jne	4f
	cmpl	%edx, 20(%edi)
	jne	4f
	addl	$24, %edi
	cmpl	%ebp, %edi
	jne	3b
	decl	%esi
	jnz	2b
	xorl	%eax, %eax
	hlt
	jmp	.
4:	movl	$1, %eax
	hlt
	jmp	.
vtl_guest_msrs_end:

/*
 * One step with RFLAGS.TF if eax is not zero, then the instruction at
 * vtl_guest_step_at, then halts. A #DB that is handled at vtl_guest_step_trap sets ecx.
 */
guest vtl_guest_step
	.globl	vtl_guest_step_at, vtl_guest_step_trap
	xorl	%ecx, %ecx
	testl	%eax, %eax
	jz	1f
	pushfl
	orl	$0x100, (%esp)
	popfl
1:	nop
vtl_guest_step_at:
	nop
	hlt
	jmp	.
vtl_guest_step_trap:
	movl	$1, %ecx
	hlt
	jmp	.
vtl_guest_step_end:

/* Exchanges its GS base with KERNEL_GS_BASE, then halts; in long mode. */
	.code64
guest vtl_guest_swapgs
	swapgs
	hlt
	jmp	.
vtl_guest_swapgs_end:
	.code32

/* Raises an exception nobody handles. */
guest vtl_guest_undefined
	ud2
vtl_guest_undefined_end:

	.section .note.GNU-stack, "", @progbits
