/* SPDX-License-Identifier: GPL-2.0 */
/*
 * vtl_read_kernel_gs_base(): returns IA32_KERNEL_GS_BASE.
 *
 * Where it can, by way of GS: SWAPGS, RDGSBASE and SWAPGS take a fraction of the
 * time of an RDMSR. Between the two SWAPGS the CPU has no per-CPU data. Interrupts
 * are disabled there, no probe can be set (noinstr), and what can still arrive
 * (NMI, machine check, debug exception) saves GS and loads the kernel's, whatever
 * GS holds, because the kernel uses RDGSBASE itself. A processor with FRED has no
 * SWAPGS.
 *
 * The caller has interrupts enabled.
 */
#include <linux/linkage.h>
#include <asm/alternative.h>
#include <asm/cpufeatures.h>
#include <asm/msr-index.h>
#include <asm/nospec-branch.h>

	.section .noinstr.text, "ax"

SYM_FUNC_START(vtl_read_kernel_gs_base)
	ALTERNATIVE_2 "jmp .Lby_rdmsr", \
		"cli; swapgs; rdgsbase %rax", X86_FEATURE_FSGSBASE, \
		"jmp .Lby_rdmsr", X86_FEATURE_FRED
	swapgs
	sti
	RET
.Lby_rdmsr:
	movl	$MSR_KERNEL_GS_BASE, %ecx
	rdmsr
	shlq	$32, %rdx
	orq	%rdx, %rax
	RET
SYM_FUNC_END(vtl_read_kernel_gs_base)
