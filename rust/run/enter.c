// SPDX-License-Identifier: GPL-2.0
/*
 * Calls the entry stub: informs RCU, lockdep and time accounting, before and after.
 *
 * Stays C: it must not be instrumented (noinstr), and consists of inline functions.
 */
#include <linux/context_tracking.h>
#include <linux/kvm_host.h>
#include <linux/rcupdate.h>

#include "../glue/helpers.h"
#include "vp_enter.h"

/* The stub uses the numbers of the header. */
#define VTL_CHECK_OPERAND(field, number) \
	static_assert(offsetof(struct vtl_enter_operands, field) == (number))
VTL_CHECK_OPERAND(exit.rax, VTL_EXIT_RAX);
VTL_CHECK_OPERAND(exit.rcx, VTL_EXIT_RCX);
VTL_CHECK_OPERAND(exit.rdx, VTL_EXIT_RDX);
VTL_CHECK_OPERAND(exit.rsi, VTL_EXIT_RSI);
VTL_CHECK_OPERAND(exit.rdi, VTL_EXIT_RDI);
VTL_CHECK_OPERAND(exit.r8, VTL_EXIT_R8);
VTL_CHECK_OPERAND(exit.r9, VTL_EXIT_R9);
VTL_CHECK_OPERAND(exit.r10, VTL_EXIT_R10);
VTL_CHECK_OPERAND(exit.r11, VTL_EXIT_R11);
VTL_CHECK_OPERAND(exit.r12, VTL_EXIT_R12);
VTL_CHECK_OPERAND(exit.r13, VTL_EXIT_R13);
VTL_CHECK_OPERAND(cr2, VTL_ENTER_CR2);
VTL_CHECK_OPERAND(spec_ctrl, VTL_ENTER_SPEC_CTRL);
VTL_CHECK_OPERAND(rcx, VTL_ENTER_RCX);
VTL_CHECK_OPERAND(guest_state_gpa, VTL_ENTER_GUEST_STATE);
VTL_CHECK_OPERAND(scrub, VTL_ENTER_SCRUB);

/*
 * As guest_state_enter_irqoff() and guest_state_exit_irqoff(), but without a
 * quiescent state for RCU at each entry and exit: vtl_irq_off_for_guest() reports one
 * for many entries. On a CPU without ticks, context tracking informs RCU anyway.
 *
 * Between the two state changes RCU may not watch this CPU, and lockdep assumes
 * that interrupts are on, as for every guest; only the stub may run.
 */
noinline noinstr void vtl_guest_enter(struct vtl_enter_operands *operands)
{
	guest_timing_enter_irqoff();
	instrumentation_begin();
	trace_hardirqs_on_prepare();
	lockdep_hardirqs_on_prepare();
	instrumentation_end();
	context_tracking_guest_enter();
	lockdep_hardirqs_on(CALLER_ADDR0);

	vtl_vp_enter(operands);

	lockdep_hardirqs_off(CALLER_ADDR0);
	context_tracking_guest_exit();
	instrumentation_begin();
	trace_hardirqs_off_finish();
	instrumentation_end();
	guest_timing_exit_irqoff();
}
