// SPDX-License-Identifier: GPL-2.0
/*
 * The thread that runs VTL0 and VTL1 of a VP in vtl_switch_storm.c, as a paravisor does.
 */
#include <errno.h>

#include "irq_guest.h"
#include "switch_storm.h"
#include "vtl_pair.h"

#define VECTOR_TIMER 0x41
#define VECTOR_VTL1 0x91
#define VMCS_ENTRY_INTERRUPT_INFO VMCS32(0x4016)
#define EVENT_VALID (1U << 31)
#define OFFLOAD (MSHV_VTL_OFFLOAD_INTR_INJECT | MSHV_VTL_OFFLOAD_X2APIC)
#define PROXY MSHV_VTL_SWITCH_PROXY
#define ALL (MSHV_VTL_SWITCH_CALL | MSHV_VTL_SWITCH_RETURN | PROXY)
#define ENTERED_BY_INTERRUPT 2
#define FAILED_EXIT 0x10000
#define FAILED_FIELD 0x20000

volatile struct storm_data *storm_data(const struct storm_vp *vp, int vm)
{
	return (void *)((volatile uint8_t *)vp->pair->data[vm - 1] + STORM_AT);
}

/* Takes what the kernel has left, for the VTL0 that runs or is parked. */
static void take_proxied(struct vtl_pair *pair)
{
	volatile struct mshv_vtl_run *run = pair->guest.run;

	irq_take_proxied(run, pair->vapic,
			 pair_vm(pair) == 2 ?
				 &pair->page->parked[0].rvi :
				 &run->tdx.l2_enter_guest_state.rvi);
}

/* VTL1 runs next, with the reason of an interrupt. VTL0 stays halted if it is. */
static void enter_vtl1(struct storm_vp *vp)
{
	struct vtl_pair *pair = vp->pair;
	volatile struct mshv_vtl_run *run = pair->guest.run;
	const uint8_t halts = MSHV_VTL_HALT_HLT | MSHV_VTL_HALT_IDLE;

	pair_exchange(pair);
	pair->page->parked[0].halt = run->offload_flags & halts;
	run->offload_flags &= ~halts;
	run->flags = 0;
	*(volatile uint32_t *)(pair->assist + ASSIST_ENTRY_REASON) =
		ENTERED_BY_INTERRUPT;
	vp->entered_vtl1++;
}

/* The kernel must not switch until the event was delivered. */
static void inject(struct storm_vp *vp)
{
	if (pair_write_field(vp->pair, 2, VMCS_ENTRY_INTERRUPT_INFO,
			     EVENT_VALID | VECTOR_VTL1, 0xffffffff))
		vp->failed = FAILED_FIELD;
	vp->is_injecting = true;
	vp->injected++;
	vp->pair->page->enable = PROXY;
}

/* Another thread wants VTL1 to run, or to be interrupted. */
static void look_at_vtl1(struct storm_vp *vp)
{
	struct vtl_pair *pair = vp->pair;

	if (vp->done == vp->wanted_vtl1 || vp->is_injecting)
		return;
	if (pair_vm(pair) == 1)
		enter_vtl1(vp);
	vp->done++;
	/* With interrupts off it is in its handler. */
	if (vp->done & 1 &&
	    pair->guest.run->tdx.l2_enter_guest_state.rflags & RFLAGS_IF)
		inject(vp);
}

/* A VMCALL that the kernel has left. Returns 0, or what is wrong. */
static int on_vmcall(struct storm_vp *vp)
{
	struct vtl_pair *pair = vp->pair;
	const uint64_t rcx = pair->guest.run->tdx.l2_enter_guest_state.gpr[RCX];

	if (pair_vm(pair) == 1 && rcx == STORM_END) {
		vp->is_stopped = true;
		vtl_step_over(&pair->guest);
		return 0;
	}
	/* VTL1 has handled the event and may return. */
	if (pair_vm(pair) == 2 && vp->is_injecting &&
	    pair->page->left == MSHV_VTL_LEFT_DISABLED) {
		vp->is_injecting = false;
		pair->page->enable = ALL;
		return 0;
	}
	return FAILED_EXIT | pair->page->left << 8 | pair_vm(pair);
}

/* One call. Returns 0, or what is wrong. */
static int storm_turn(struct storm_vp *vp)
{
	struct vtl_guest *guest = &vp->pair->guest;
	int result = vtl_enter(guest);

	if (result == -EINTR) {
		guest->run->cancel = 0;
		take_proxied(vp->pair);
		look_at_vtl1(vp);
		return vp->failed;
	}
	if (result)
		return result;
	/* A host that is hostile ends runs for no reason. */
	if (guest->run->tdx.exit_info.rax >> 32)
		return 0;
	if (vtl_exit_reason(guest) == EXIT_VMCALL)
		return on_vmcall(vp);
	return FAILED_EXIT | vtl_exit_reason(guest);
}

static void set_gates(struct vtl_pair *pair)
{
	pair_set_gate(pair, 1, VECTOR_PEER, pair_storm_irq_peer);
	pair_set_gate(pair, 1, VECTOR_SELF, pair_storm_irq_self);
	pair_set_gate(pair, 1, VECTOR_TIMER, pair_storm_irq_timer);
	pair_set_gate(pair, 1, VECTOR_PROXY, pair_storm_irq_proxy);
	pair_set_gate(pair, 1, VECTOR_LEVEL, pair_storm_irq_level);
	pair_set_gate(pair, 2, VECTOR_VTL1, pair_storm_irq_vtl1);
}

/* Distinct for each VTL of each VP; the high halves are what each MSR allows. */
static void set_own_msrs(volatile struct storm_data *data, unsigned int owner)
{
	int i;

	for (i = 0; i < NUM_MSRS; i++)
		data->own[i] = (owner + 1) << 28 | i << 24;
	for (i = 0; i < NUM_MSRS - 1; i++)
		if (i != 2)
			data->own[i] |= (uint64_t)(0x100 + owner) << 32;
}

int storm_prepare(struct storm_vp *vp)
{
	struct vtl_pair *pair = vp->pair;
	const int cpu = pair->guest.cpu;
	int vm;

	if (vtl_pin(cpu) ||
	    pair_start(pair, pair_storm_vtl0, pair_storm_vtl1) ||
	    pair_deliver(pair) || pair_let_live_msrs_through(pair))
		return -1;
	set_gates(pair);
	for (vm = 1; vm <= 2; vm++)
		set_own_msrs(storm_data(vp, vm), 2 * cpu + vm - 1);
	pair->page->parked[1].rflags = 2 | RFLAGS_IF;
	pair->page->enable = ALL;
	pair->guest.run->offload_flags = OFFLOAD;
	pair->guest.run->proxy_irr_exit_mask[VECTOR_LEVEL / 32] =
		1U << VECTOR_LEVEL % 32;
	pair_timer(pair)->vector = VECTOR_TIMER;
	storm_data(vp, 1)->ticks = (2 + cpu) << 20;
	storm_data(vp, 1)->peer_apic_id = irq_apic_id(!cpu);
	return 0;
}

void *storm_run(void *argument)
{
	struct storm_vp *vp = argument;

	while (!vp->failed && !vp->is_over)
		vp->failed = storm_turn(vp);
	return NULL;
}
