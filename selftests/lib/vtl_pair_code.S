/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Guests of vtl_pair.c, VTL0 and VTL1, in 64-bit mode. RBP is the address of struct
 * pair_data. Both have the same code and begin at different labels.
 */
#define DATA_TURNS 0
#define DATA_TAKEN 8
#define DATA_STORE 16
#define DATA_LOADED 0x40
#define DATA_TO_LOAD 0x80

	.section .rodata
	.code64

	.globl	pair_code, pair_code_end
	.balign	16
/* Handler of all interrupts. */
pair_code:
	pushq	%rax
	pushq	%rcx
	pushq	%rdx
	incq	DATA_TAKEN(%rbp)
	xorl	%eax, %eax
	xorl	%edx, %edx
	movl	$0x80b, %ecx
	wrmsr
	popq	%rdx
	popq	%rcx
	popq	%rax
	iretq

/* VMCALL with the registers that the test has set, then HLT. */
	.globl	pair_vmcall
pair_vmcall:
	vmcall
	hlt
	jmp	pair_vmcall

	.globl	pair_halt
pair_halt:
	hlt
	jmp	pair_halt

/* VTL1 returns immediately whenever it is called. */
	.globl	pair_return_fast
pair_return_fast:
	movl	$1, %eax
	movl	$0x12, %ecx
	vmcall
	jmp	pair_return_fast

	.globl	pair_return
pair_return:
	xorl	%eax, %eax
	movl	$0x12, %ecx
	vmcall
	jmp	pair_return

/* VTL0 calls RBX times, or for ever if RBX is 0, then halts. */
	.globl	pair_call
pair_call:
	xorl	%eax, %eax
	movl	$0x11, %ecx
	vmcall
	incq	DATA_TURNS(%rbp)
	decq	%rbx
	jnz	pair_call
	hlt
	jmp	pair_call

/* The same, but with interrupts enabled between two calls. */
	.globl	pair_call_sti
pair_call_sti:
	sti
	nop
	cli
	jmp	pair_call

/* Calls right after STI, in whose shadow interrupts are blocked. */
	.globl	pair_sti_call
pair_sti_call:
	xorl	%eax, %eax
	movl	$0x11, %ecx
	sti
	vmcall
	cli
	hlt
	jmp	.

/* Writes an MSR with the registers that the test has set, then calls once. */
	.globl	pair_wrmsr_call
pair_wrmsr_call:
	wrmsr
	xorl	%eax, %eax
	movl	$0x11, %ecx
	vmcall
	hlt
	jmp	.

/* Never exits by itself. */
	.globl	pair_spin
pair_spin:
	pause
	incq	DATA_TURNS(%rbp)
	jmp	pair_spin

/* Accepts the requested interrupts, then halts with interrupts off. */
	.globl	pair_sti
pair_sti:
	sti
	nop
	cli
	hlt
	jmp	pair_sti

/* Halts until an interrupt was handled, then exits. */
	.globl	pair_sti_hlt
pair_sti_hlt:
	sti
	hlt
	cli
	hlt
	jmp	.

/* Stores a word at RDI, if the rights to the page allow it, then halts. */
	.globl	pair_store
pair_store:
	incq	(%rdi)
	hlt
	jmp	pair_store

/* Reads an MSR into a list and writes another value from the list. */
.macro exchange_msr list, place, number
	movl	$\number, %ecx
	rdmsr
	movl	%eax, DATA_LOADED + 8 * \place(%\list)
	movl	%edx, DATA_LOADED + 8 * \place + 4(%\list)
	movl	DATA_TO_LOAD + 8 * \place(%\list), %eax
	movl	DATA_TO_LOAD + 8 * \place + 4(%\list), %edx
	wrmsr
.endm

.macro exchange_live list
	exchange_msr \list, 0, 0xc0000081
	exchange_msr \list, 1, 0xc0000082
	exchange_msr \list, 2, 0xc0000084
	exchange_msr \list, 3, 0xc0000102
	exchange_msr \list, 4, 0xc0000103
.endm

.macro exchange_kept list
	exchange_msr \list, 0, 0x48
	exchange_msr \list, 1, 0xe1
	exchange_msr \list, 2, 0x1c4
	exchange_msr \list, 3, 0x6a0
	exchange_msr \list, 4, 0x6a4
.endm

/*
 * VTL0 exchanges its MSRs with the list at RSI before and after a call; VTL1 exchanges
 * its own with the list at RDI once in each call.
 */
.macro msr_guests kind
	.globl	pair_\kind\()_vtl0, pair_\kind\()_vtl1
pair_\kind\()_vtl0:
	exchange_\kind rsi
	xorl	%eax, %eax
	movl	$0x11, %ecx
	vmcall
	exchange_\kind rsi
	hlt
	jmp	pair_\kind\()_vtl0

pair_\kind\()_vtl1:
	exchange_\kind rdi
	movl	$1, %eax
	movl	$0x12, %ecx
	vmcall
	jmp	pair_\kind\()_vtl1
.endm

msr_guests live
msr_guests kept

/* Shared registers: VTL1 finds the values of VTL0 and leaves its own. */
	.globl	pair_shared_vtl0
pair_shared_vtl0:
	movq	DATA_TO_LOAD(%rbp), %xmm3
	movq	DATA_TO_LOAD(%rbp), %rdx
	movq	%rdx, %cr2
	xorl	%eax, %eax
	movl	$0x11, %ecx
	vmcall
	movq	%xmm3, DATA_LOADED(%rbp)
	movq	%cr2, %rdx
	movq	%rdx, DATA_LOADED+8(%rbp)
	hlt
	jmp	.

	.globl	pair_shared_vtl1
pair_shared_vtl1:
	movq	%xmm3, DATA_LOADED+16(%rbp)
	movq	%cr2, %rdx
	movq	%rdx, DATA_LOADED+24(%rbp)
	movq	DATA_TO_LOAD+8(%rbp), %xmm3
	movq	DATA_TO_LOAD+8(%rbp), %rdx
	movq	%rdx, %cr2
	movl	$1, %eax
	movl	$0x12, %ecx
	vmcall
	jmp	.

/* Markers of tools/checks/insn_count for @path around a call and its return, RBX times. */
	.macro	bench_call name, path
	.globl	\name
\name:
	xorl	%eax, %eax
	movl	$0x11, %ecx
	.byte	0x0f, 0x1f, 0x84, 0x00, 1, \path, 0x54, 0x56
	vmcall
	.byte	0x0f, 0x1f, 0x84, 0x00, 2, \path, 0x54, 0x56
	decq	%rbx
	jnz	\name
	hlt
	jmp	.
	.endm

	bench_call pair_bench_user, 8

	bench_call pair_bench, 9
pair_code_end:

	.section .note.GNU-stack, "", @progbits
