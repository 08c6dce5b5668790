/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Part of vtl_pair_code.S: VTL0 and VTL1 of vtl_switch_storm.c. VTL0 sends interrupts and
 * calls VTL1 for ever; both find out if a register is not what it should be, an interrupt
 * was lost, or a call. VTL1 knows its memory by RSP, because all other registers may be
 * VTL0's.
 */
#include "switch_storm.h"
#include "vtl_assist.h"

#define PART_SIZE 0x20000
#define PART_ASSIST 0x4000
#define PART_VTL1_DATA 0x14000
#define FLAGS_CF_DF 0x401

/* Handler of one vector of VTL0. */
.macro storm_irq name, number
	.globl	pair_storm_irq_\name
pair_storm_irq_\name:
	incq	STORM_TAKEN(\number)(%rbp)
	jmp	pair_eoi
.endm

storm_irq peer, TAKEN_PEER
storm_irq self, TAKEN_SELF
storm_irq timer, TAKEN_TIMER
storm_irq proxy, TAKEN_PROXY
storm_irq level, TAKEN_LEVEL

/* Address of VTL1's data. */
.macro vtl1_data to
	movq	%rsp, \to
	andq	$-PART_SIZE, \to
	addq	$PART_VTL1_DATA, \to
.endm

/* Handler of VTL1, whose interrupts userspace injects. */
	.globl	pair_storm_irq_vtl1
pair_storm_irq_vtl1:
	pushq	%rsi
	vtl1_data %rsi
	incq	STORM_TAKEN(TAKEN_VTL1)(%rsi)
	popq	%rsi
	iretq

/* Compares an MSR with the value that this VTL has given it, and gives it the next one. */
.macro change_own_msr place, number, data
	movl	$\number, %ecx
	rdmsr
	cmpl	STORM_OWN + 8 * \place(%\data), %eax
	jne	1f
	cmpl	STORM_OWN + 8 * \place + 4(%\data), %edx
	je	2f
1:	orq	$(1 << \place), STORM_ERRORS(%\data)
2:	movl	STORM_OWN + 8 * \place + 4(%\data), %edx
	movl	STORM_OWN + 8 * \place(%\data), %eax
	addl	$0x10001, %eax
	movl	%eax, STORM_OWN + 8 * \place(%\data)
	wrmsr
.endm

/* The first value. */
.macro write_own_msr place, number, data
	movl	$\number, %ecx
	movl	STORM_OWN + 8 * \place(%\data), %eax
	movl	STORM_OWN + 8 * \place + 4(%\data), %edx
	wrmsr
.endm

/* All MSRs of a VTL's own. */
.macro own_msrs action, data
	\action\()_own_msr 0, 0xc0000081, \data
	\action\()_own_msr 1, 0xc0000082, \data
	\action\()_own_msr 2, 0xc0000084, \data
	\action\()_own_msr 3, 0xc0000102, \data
	\action\()_own_msr 4, 0xc0000103, \data
.endm

/* Goes to @otherwise if what was sent last was not yet taken. */
.macro send_next sent, taken, at, otherwise
	movq	STORM_TAKEN(\taken)(%\at), %rax
	cmpq	\sent(%rbp), %rax
	jne	\otherwise
	incq	\sent(%rbp)
.endm

	.globl	pair_storm_vtl0
pair_storm_vtl0:
	own_msrs write, rbp
storm_turn:
	sti
	cmpq	$0, STORM_STOP(%rbp)
	jne	storm_end
	movq	STORM_PEER(%rbp), %rsi
	send_next STORM_SENT_PEER, TAKEN_PEER, rsi, 1f
	movl	STORM_APIC_ID(%rbp), %edx
	movl	$VECTOR_PEER, %eax
	movl	$0x830, %ecx
	wrmsr
1:	testb	$3, STORM_TURNS(%rbp)
	jnz	3f
	send_next STORM_SENT_SELF, TAKEN_SELF, rbp, 2f
	xorl	%edx, %edx
	movl	$(0x40000 | VECTOR_SELF), %eax
	movl	$0x830, %ecx
	wrmsr
2:	send_next STORM_SENT_TIMER, TAKEN_TIMER, rbp, 3f
	rdtsc
	addl	STORM_TICKS(%rbp), %eax
	adcl	$0, %edx
	movl	$0x6e0, %ecx
	wrmsr
3:	own_msrs change, rbp
	incq	STORM_TURNS(%rbp)
	movq	STORM_TURNS(%rbp), %rdx
	movq	%rdx, %xmm3
	leaq	3(%rdx), %rbx
	leaq	7(%rdx), %rdi
	leaq	8(%rdx), %r8
	leaq	15(%rdx), %r15
	testb	$15, %dl
	jnz	4f
	hlt
4:	testb	$3, %dl
	jnz	5f
	cli
5:	xorl	%eax, %eax
	movl	$CODE_CALL, %ecx
	std
	stc
	vmcall
	pushfq
	popq	%rax
	cld
	andl	$FLAGS_CF_DF, %eax
	cmpl	$FLAGS_CF_DF, %eax
	je	6f
	orq	$ERROR_FLAGS, STORM_ERRORS(%rbp)
6:	movq	%xmm3, %rcx
	notq	%rcx
	notq	%rdx
	cmpq	STORM_TURNS(%rbp), %rcx
	jne	7f
	cmpq	STORM_TURNS(%rbp), %rdx
	je	8f
7:	orq	$ERROR_ANSWER, STORM_ERRORS(%rbp)
	movq	STORM_TURNS(%rbp), %rdx
8:	leaq	3(%rdx), %rax
	cmpq	%rax, %rbx
	jne	9f
	leaq	7(%rdx), %rax
	cmpq	%rax, %rdi
	jne	9f
	leaq	8(%rdx), %rax
	cmpq	%rax, %r8
	jne	9f
	leaq	15(%rdx), %rax
	cmpq	%rax, %r15
	je	storm_turn
9:	orq	$ERROR_SHARED, STORM_ERRORS(%rbp)
	jmp	storm_turn

/* What was sent may still come. */
storm_end:
	movl	$STORM_END, %ecx
	vmcall
	jmp	storm_turn

	.globl	pair_storm_vtl1
pair_storm_vtl1:
	pushq	%rax
	pushq	%rcx
	pushq	%rdx
	pushq	%rsi
	vtl1_data %rsi
	own_msrs write, rsi
	popq	%rsi
	popq	%rdx
	popq	%rcx
	popq	%rax
	clc
	cld
/* Here VTL1 is whenever it was entered. */
storm_entered:
	pushfq
	pushq	%rax
	pushq	%rcx
	pushq	%rdx
	pushq	%rsi
	vtl1_data %rsi
	testq	$FLAGS_CF_DF, 32(%rsp)
	jz	1f
	orq	$ERROR_FLAGS, STORM_ERRORS(%rsi)
1:	own_msrs change, rsi
	cmpl	$1, PART_ASSIST + ASSIST_ENTRY_REASON - PART_VTL1_DATA(%rsi)
	jne	3f
	/* A call, with its number in RDX and XMM3: it is answered there. */
	incq	STORM_TURNS(%rsi)
	movq	8(%rsp), %rdx
	movq	%xmm3, %rax
	cmpq	STORM_TURNS(%rsi), %rdx
	jne	2f
	cmpq	%rax, %rdx
	je	4f
2:	orq	$ERROR_ANSWER, STORM_ERRORS(%rsi)
4:	notq	%rdx
	movq	%rdx, %xmm3
	movq	%rdx, 8(%rsp)
	popq	%rsi
	popq	%rdx
	popq	%rcx
	popq	%rax
	addq	$8, %rsp
	movl	$1, %eax
	movl	$CODE_RETURN, %ecx
	clc
	cld
	vmcall
	jmp	storm_entered

/* Userspace has entered: VTL0 must not notice. */
3:	incq	STORM_ASKED(%rsi)
	movq	24(%rsp), %rax
	movq	%rax, PART_ASSIST + ASSIST_RAX - PART_VTL1_DATA(%rsi)
	movq	16(%rsp), %rax
	movq	%rax, PART_ASSIST + ASSIST_RCX - PART_VTL1_DATA(%rsi)
	popq	%rsi
	popq	%rdx
	popq	%rcx
	popq	%rax
	addq	$8, %rsp
	xorl	%eax, %eax
	movl	$CODE_RETURN, %ecx
	cld
	vmcall
	jmp	storm_entered
