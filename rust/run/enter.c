// SPDX-License-Identifier: GPL-2.0
/*
 * Calls the entry stub: exchanges debug registers, and informs RCU, lockdep and time
 * accounting, before and after.
 *
 * Stays C: it must not be instrumented (noinstr), and consists of inline functions.
 */
#include <linux/context_tracking.h>
#include <linux/jiffies.h>
#include <linux/kvm_host.h>
#include <linux/rcupdate.h>
#include <asm/debugreg.h>

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
 * Reports a quiescent state to RCU, at most once a jiffy; @noted is the last jiffy in
 * which it did. That is often enough, because a grace period takes several.
 */
void vtl_note_quiescent_state(unsigned long *noted)
{
	unsigned long now = READ_ONCE(jiffies);

	if (*noted == now)
		return;
	*noted = now;
	rcu_virt_note_context_switch();
}

/*
 * As guest_state_enter_irqoff() and guest_state_exit_irqoff(), but without a
 * quiescent state for RCU at each entry and exit: context.rs reports one for many
 * entries. On a CPU without ticks, context tracking informs RCU anyway.
 *
 * Between the two state changes RCU may not watch this CPU, and lockdep assumes
 * that interrupts are on, as for every guest; only the stub may run.
 */
static noinline noinstr void
vtl_guest_enter(struct vtl_enter_operands *operands)
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

/*
 * The instructions themselves: get_debugreg() and set_debugreg() call pv_ops, which
 * only Xen PV needs, and that is never a TD. Volatile, unlike in native_get_debugreg():
 * the compiler must not take a value from before the entry for one from after it.
 */
#define VTL_READ_DR(number)                                         \
	({                                                          \
		u64 dr;                                             \
		asm volatile("mov %%db" #number ", %0" : "=r"(dr)); \
		dr;                                                 \
	})

#define VTL_LOAD_DR(number, value)                            \
	do {                                                  \
		if (VTL_READ_DR(number) != (value))           \
			native_set_debugreg(number, (value)); \
	} while (0)

/* For the rare case that VTL2 has breakpoints. */
static noinline void vtl_debug_stop(struct vtl_debug *debug)
{
	debug->host_dr7 = local_db_save();
	debug->host[0] = VTL_READ_DR(0);
	debug->host[1] = VTL_READ_DR(1);
	debug->host[2] = VTL_READ_DR(2);
	debug->host[3] = VTL_READ_DR(3);
}

static noinline void vtl_debug_resume(struct vtl_debug *debug)
{
	set_debugreg(debug->host[0], 0);
	set_debugreg(debug->host[1], 1);
	set_debugreg(debug->host[2], 2);
	set_debugreg(debug->host[3], 3);
	local_db_restore(debug->host_dr7);
	debug->host_dr7 = 0;
}

/* Writes only the registers that differ: usually none, so they are tested together. */
static void vtl_debug_load_addresses(const u64 *lower)
{
	u64 differ = (VTL_READ_DR(0) ^ lower[0]) | (VTL_READ_DR(1) ^ lower[1]) |
		     (VTL_READ_DR(2) ^ lower[2]) | (VTL_READ_DR(3) ^ lower[3]);

	if (likely(!differ))
		return;
	VTL_LOAD_DR(0, lower[0]);
	VTL_LOAD_DR(1, lower[1]);
	VTL_LOAD_DR(2, lower[2]);
	VTL_LOAD_DR(3, lower[3]);
}

/*
 * Under a hypervisor, as in every TD, cpu_dr7 has the value of DR7; local_db_save()
 * relies on that, too.
 */
static void vtl_debug_load(struct vtl_debug *debug)
{
	debug->has_addresses = debug->needs_addresses;
	if (unlikely(hw_breakpoint_active())) {
		vtl_debug_stop(debug);
		debug->has_addresses = true;
	}
	VTL_LOAD_DR(6, debug->lower[VTL_PLACE_DR6]);
	if (!debug->has_addresses)
		return;
	debug->must_forget = true;
	vtl_debug_load_addresses(debug->lower);
}

/*
 * A #DB sets B0 to B3 for every address that matches, whether its breakpoint is
 * enabled or not. If the lower VTL's addresses were not loaded, a match is one of
 * VTL2's, which stays in its register after the breakpoint is gone. Only bits that
 * were set before are the lower VTL's.
 */
static u64 vtl_debug_own_hits(u64 dr6, u64 before)
{
	return dr6 & (before | ~(u64)DR_TRAP_BITS);
}

/*
 * Without a breakpoint, VTL2 has no values to restore, except DR6: the handler of #DB
 * expects the value that the last #DB has left.
 */
static void vtl_debug_store(struct vtl_debug *debug)
{
	u64 dr6 = VTL_READ_DR(6);

	if (dr6 != DR6_RESERVED)
		native_set_debugreg(6, DR6_RESERVED);
	if (!debug->has_addresses)
		dr6 = vtl_debug_own_hits(dr6, debug->lower[VTL_PLACE_DR6]);
	debug->lower[VTL_PLACE_DR6] = dr6;
	if (!debug->has_addresses)
		return;
	debug->lower[0] = VTL_READ_DR(0);
	debug->lower[1] = VTL_READ_DR(1);
	debug->lower[2] = VTL_READ_DR(2);
	debug->lower[3] = VTL_READ_DR(3);
	if (unlikely(debug->host_dr7))
		vtl_debug_resume(debug);
}

/* With interrupts off: enters with the debug registers of the lower VTL. */
notrace void vtl_enter_lower(struct vtl_enter_operands *operands,
			     struct vtl_debug *debug)
{
	vtl_debug_load(debug);
	vtl_guest_enter(operands);
	vtl_debug_store(debug);
}
