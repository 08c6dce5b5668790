/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Guests of vtl_pair.c, VTL0 and VTL1, in 64-bit mode. RBP is the address of struct
 * pair_data. Both have the same code and begin at different labels.
 */
#define DATA_TURNS 0
#define DATA_TAKEN 8
#define DATA_STORE 16
#define DATA_LOADED 0x40
#define DATA_TO_LOAD 0xa0

	.section .rodata
	.code64

	.globl	pair_code, pair_code_end
	.balign	16
/* Handler of all interrupts. */
pair_code:
	incq	DATA_TAKEN(%rbp)
/* The end of any handler. */
pair_eoi:
	pushq	%rax
	pushq	%rcx
	pushq	%rdx
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

/* The same, after MOV SS. */
	.globl	pair_mov_ss_call
pair_mov_ss_call:
	sti
	movl	%ss, %edx
	xorl	%eax, %eax
	movl	$0x11, %ecx
	movl	%edx, %ss
	vmcall
	nop
	cli
	hlt
	jmp	.

/* A call of four bytes, with a REX prefix that means nothing. */
	.globl	pair_long_call
pair_long_call:
	xorl	%eax, %eax
	movl	$0x11, %ecx
	.byte	0x40
	vmcall
	hlt
	jmp	.

/* Never halts. */
	.globl	pair_call_forever
pair_call_forever:
	xorl	%eax, %eax
	movl	$0x11, %ecx
	vmcall
	incq	DATA_TURNS(%rbp)
	jmp	pair_call_forever

/* Stores a word at RDI before each of endless calls. */
	.globl	pair_store_call
pair_store_call:
	incq	(%rdi)
	xorl	%eax, %eax
	movl	$0x11, %ecx
	vmcall
	incq	DATA_TURNS(%rbp)
	jmp	pair_store_call

/* Stores a word at RDI for ever. */
	.globl	pair_store_spin
pair_store_spin:
	incq	(%rdi)
	jmp	pair_store_spin

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

/* VTL1 returns when the test has set the word. */
	.globl	pair_wait
pair_wait:
	pause
	incq	DATA_TURNS(%rbp)
	cmpq	$0, DATA_STORE(%rbp)
	je	pair_wait
	jmp	pair_return_fast

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

#include "vtl_pair_state.S"
#include "vtl_pair_storm.S"

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
	/* An error if there is no space for it before AT_ASSIST. */
	.org	pair_code + 0x4000

	.section .note.GNU-stack, "", @progbits
