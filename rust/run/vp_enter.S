/* SPDX-License-Identifier: GPL-2.0 */
/*
 * vtl_vp_enter(operands): one TDG.VP.ENTER.
 *
 * The caller has disabled interrupts and loaded all other state of the lower
 * VTL. The TDX module loads the lower VTL's general registers from the guest
 * state and stores them there. On return our registers describe the exit,
 * except RBP, which is the lower VTL's, and RBX, R14, R15, which are zero.
 * [ABI TDG.VP.ENTER] If the lower VTL was not entered, only RAX changes.
 *
 * Stack, from the entry of the function downwards:
 *
 *	 0  return address
 *	-8  rbp	-16 rbx	-24 r12	-32 r13	-40 r14	-48 r15
 *	-56 operands		<- RSP during the TDCALL, kept by the TDX module
 *
 * CR2 is loaded last and saved first: any #PF of this kernel in between, even
 * in an NMI, would overwrite it.
 *
 * Operand scrub selects the speculation defences, VTL_SCRUB_*. Buffers are
 * cleared after VTL2's last access to sensitive data. The return stack,
 * IA32_SPEC_CTRL, branch targets and history are dealt with before the first
 * RET, without an indirect branch in between.
 */
#include <linux/linkage.h>
#include <asm/alternative.h>
#include <asm/cpufeatures.h>
#include <asm/msr-index.h>
#include <asm/nospec-branch.h>
#include <asm/percpu.h>
#include <asm/segment.h>
#include "vp_enter.h"

/* Reads IA32_SPEC_CTRL into RAX. */
.macro READ_SPEC_CTRL
	movl	$MSR_IA32_SPEC_CTRL, %ecx
	rdmsr
	shlq	$32, %rdx
	orq	%rdx, %rax
.endm

/* Changes IA32_SPEC_CTRL from the value in RAX to @new. */
.macro CHANGE_SPEC_CTRL new:req
	movq	\new, %rdx
	cmpq	%rax, %rdx
	je	.Lchanged\@
	movl	$MSR_IA32_SPEC_CTRL, %ecx
	movl	%edx, %eax
	shrq	$32, %rdx
	wrmsr
.Lchanged\@:
.endm

	.section .noinstr.text, "ax"

SYM_FUNC_START(vtl_vp_enter)
	pushq	%rbp
	pushq	%rbx
	pushq	%r12
	pushq	%r13
	pushq	%r14
	pushq	%r15
	pushq	%rdi

	movl	VTL_ENTER_SCRUB(%rdi), %ebp
	testb	$VTL_SCRUB_SPEC_CTRL, %bpl
	jz	.Lspec_ctrl_loaded
	/*
	 * The register holds what the kernel wants, except with
	 * spectre_v2=ibrs: then it may hold another task's value until this
	 * task returns to userspace.
	 */
	movq	PER_CPU_VAR(x86_spec_ctrl_current), %rax
	ALTERNATIVE "jmp .Lhost_known", "", X86_FEATURE_KERNEL_IBRS
	READ_SPEC_CTRL
.Lhost_known:
	CHANGE_SPEC_CTRL VTL_ENTER_SPEC_CTRL(%rdi)
.Lspec_ctrl_loaded:

	/* All registers that are not operands are zero. */
	movq	VTL_ENTER_CR2(%rdi), %rbx
	movq	VTL_ENTER_RCX(%rdi), %rcx
	movq	VTL_ENTER_GUEST_STATE(%rdi), %rdx
	xorl	%esi, %esi
	xorl	%edi, %edi
	xorl	%r8d, %r8d
	xorl	%r9d, %r9d
	xorl	%r10d, %r10d
	xorl	%r11d, %r11d
	xorl	%r12d, %r12d
	xorl	%r13d, %r13d
	xorl	%r14d, %r14d
	xorl	%r15d, %r15d
	movl	$VTL_TDG_VP_ENTER, %eax
	movq	%rbx, %cr2
	testb	$VTL_SCRUB_BUFFERS, %bpl
	jz	.Lenter
	verw	vtl_data_segment(%rip)
.Lenter:
	xorl	%ebx, %ebx
	xorl	%ebp, %ebp

	.byte	0x66, 0x0f, 0x01, 0xcc		/* TDCALL */

	movq	%cr2, %rbx
	popq	%r14
	movl	VTL_ENTER_SCRUB(%r14), %r15d
	testb	$VTL_SCRUB_RETURNS, %r15b
	jz	.Lreturns_done
	/* One call per RSB entry; none of them returns. */
	.rept	RSB_CLEAR_LOOPS
	__FILL_RETURN_SLOT
	.endr
	addq	$8 * RSB_CLEAR_LOOPS, %rsp
	CREDIT_CALL_DEPTH
.Lreturns_done:
	movq	%rbx, VTL_ENTER_CR2(%r14)
	movq	%rax, VTL_EXIT_RAX(%r14)
	movq	%rcx, VTL_EXIT_RCX(%r14)
	movq	%rdx, VTL_EXIT_RDX(%r14)
	movq	%rsi, VTL_EXIT_RSI(%r14)
	movq	%rdi, VTL_EXIT_RDI(%r14)
	movq	%r8, VTL_EXIT_R8(%r14)
	movq	%r9, VTL_EXIT_R9(%r14)
	movq	%r10, VTL_EXIT_R10(%r14)
	movq	%r11, VTL_EXIT_R11(%r14)
	movq	%r12, VTL_EXIT_R12(%r14)
	movq	%r13, VTL_EXIT_R13(%r14)

	testb	$VTL_SCRUB_SPEC_CTRL, %r15b
	jz	.Lspec_ctrl_stored
	movq	VTL_ENTER_SPEC_CTRL(%r14), %rax
	testb	$VTL_SCRUB_SPEC_CTRL_STEADY, %r15b
	jnz	.Llower_known
	READ_SPEC_CTRL
	movq	%rax, VTL_ENTER_SPEC_CTRL(%r14)
.Llower_known:
	CHANGE_SPEC_CTRL PER_CPU_VAR(x86_spec_ctrl_current)
.Lspec_ctrl_stored:

	/* Leave no value that the lower VTL chose for speculation to use. */
	xorl	%eax, %eax
	xorl	%ecx, %ecx
	xorl	%edx, %edx
	xorl	%esi, %esi
	xorl	%edi, %edi
	xorl	%r8d, %r8d
	xorl	%r9d, %r9d
	xorl	%r10d, %r10d
	xorl	%r11d, %r11d

	testb	$VTL_SCRUB_TARGETS | VTL_SCRUB_BRANCHES, %r15b
	jz	.Lbranches_done
	testb	$VTL_SCRUB_TARGETS, %r15b
	jz	.Ltargets_done
	movl	$MSR_IA32_PRED_CMD, %ecx
	movl	$PRED_CMD_IBPB, %eax
	wrmsr
.Ltargets_done:
	/* Take enough branches to evict all others from the history. */
	testb	$VTL_SCRUB_BRANCHES, %r15b
	jz	.Lbranches_done
	movl	$VTL_BHB_ROUNDS, %ebx
.Lround:
	movl	$VTL_BHB_TURNS, %ebp
.Lturn:
	jmp	.Ltaken
	int3
.Ltaken:
	decl	%ebp
	jnz	.Lturn
	decl	%ebx
	jnz	.Lround
.Lbranches_done:
	/* No mispredicted branch can skip the above. */
	lfence

	popq	%r15
	popq	%r14
	popq	%r13
	popq	%r12
	popq	%rbx
	popq	%rbp
	RET
SYM_FUNC_END(vtl_vp_enter)

	.section .rodata, "a"
/*
 * VERW clears buffers if it reads the selector of a writable data segment from
 * memory.
 */
	.balign	2
vtl_data_segment:
	.word	__KERNEL_DS
