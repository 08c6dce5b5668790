// SPDX-License-Identifier: GPL-2.0
/*
 * VTLs of two VPs: an interrupt that VTL0 of one sends to the other one, whose VTL1 runs;
 * and both call at the same time, while what the kernel needs for a switch comes and goes.
 */
#include <string.h>

#include "irq_guest.h"
#include "two_vps.h"

#define VECTOR 0x41
#define MSR_ICR 0x830
#define OFFLOAD (MSHV_VTL_OFFLOAD_INTR_INJECT | MSHV_VTL_OFFLOAD_X2APIC)
#define BOTH (MSHV_VTL_SWITCH_CALL | MSHV_VTL_SWITCH_RETURN)

static bool is_asked(const struct vtl_pair *pair)
{
	return pair->guest.run->proxy_irr[VECTOR / 32] >> VECTOR % 32 & 1;
}

/* VTL0 of VP 0 sends an interrupt to VP 1. Returns the exit reason, or the errno. */
static int send(struct runner *sender)
{
	volatile struct mshv_tdx_l2_enter_guest_state *state =
		&sender->pair.guest.run->tdx.l2_enter_guest_state;
	int result;

	if (start(sender, pair_wrmsr_call, pair_return_fast) ||
	    pair_deliver(&sender->pair))
		return -EPROTO;
	sender->pair.guest.run->offload_flags = OFFLOAD;
	state->gpr[RCX] = MSR_ICR;
	state->gpr[RAX] = VECTOR;
	state->gpr[RDX] = irq_apic_id(1);
	result = vtl_run(&sender->pair.guest);
	return result ? result : (int)vtl_exit_reason(&sender->pair.guest);
}

/* VP 1 is in VTL1, which VTL0 has called, when VP 0 sends it an interrupt. */
static int receive(struct runner *vp, uint32_t enable, uint8_t offload)
{
	if (start(vp, pair_sti_call, pair_wait) || pair_deliver(&vp->pair))
		return -1;
	vp->pair.page->enable = enable;
	vp->pair.guest.run->offload_flags = offload;
	if (begin(vp))
		return -1;
	wait_for_turns(vp, 3);
	return 0;
}

TEST_F(two, an_icr_of_one_vp_reaches_the_vtl0_that_another_vp_has_parked)
{
	struct runner *vp = &self->vps[1];
	struct vtl_pair *pair = &vp->pair;
	const uint64_t proxied = pair_stats(pair).vtl_proxied;

	ASSERT_EQ(0, receive(vp, BOTH | MSHV_VTL_SWITCH_PROXY, OFFLOAD));
	EXPECT_EQ(EXIT_HLT, send(&self->vps[0]));
	while (pair_stats(pair).vtl_proxied == proxied && !vp->is_over)
		usleep(100);
	/* VTL1 is not disturbed. */
	wait_for_turns(vp, 3);
	EXPECT_FALSE(vp->is_over);
	EXPECT_EQ(proxied + 1, pair_stats(pair).vtl_proxied);
	EXPECT_TRUE(irq_is_requested(pair->vapic, VECTOR));
	EXPECT_EQ(0, pair->data[0]->taken);
	pair->data[0]->word = 1;
	pthread_join(vp->thread, NULL);
	EXPECT_EQ(0, vp->result);
	EXPECT_EQ(EXIT_HLT, vtl_exit_reason(&pair->guest));
	EXPECT_EQ(1, pair_vm(pair));
	EXPECT_EQ(VECTOR, pair->guest.run->tdx.l2_enter_guest_state.rvi);
	EXPECT_FALSE(is_asked(pair));
}

TEST_F(two, an_icr_for_a_parked_vtl0_without_proxy_ends_the_run_of_vtl1)
{
	struct runner *vp = &self->vps[1];

	ASSERT_EQ(0, receive(vp, BOTH, OFFLOAD));
	EXPECT_EQ(EXIT_HLT, send(&self->vps[0]));
	pthread_join(vp->thread, NULL);
	EXPECT_EQ(-EINTR, vp->result);
	EXPECT_EQ(2, pair_vm(&vp->pair));
	EXPECT_TRUE(is_asked(&vp->pair));
	EXPECT_FALSE(irq_is_requested(vp->pair.vapic, VECTOR));
}

/* A VTL0 that waits for its SIPI: the interrupt is for userspace to drop. */
TEST_F(two, an_icr_for_a_parked_vtl0_that_waits_for_userspace_is_not_delivered)
{
	struct runner *vp = &self->vps[1];
	struct vtl_pair *pair = &vp->pair;
	unsigned int has_x2apic;

	for (has_x2apic = 0; has_x2apic < 2; has_x2apic++) {
		ASSERT_EQ(0, start(vp, pair_sti, pair_wait));
		ASSERT_EQ(0, pair_deliver(pair));
		pair_exchange(pair);
		pair->page->parked[0].halt = MSHV_VTL_HALT_OTHER;
		pair->page->enable = BOTH | MSHV_VTL_SWITCH_PROXY;
		pair->guest.run->offload_flags =
			has_x2apic ? OFFLOAD : MSHV_VTL_OFFLOAD_INTR_INJECT;
		ASSERT_EQ(0, begin(vp));
		wait_for_turns(vp, 3);
		/* As documented the sender's userspace sees it; or the receiver's. */
		EXPECT_EQ(has_x2apic ? EXIT_HLT : EXIT_WRMSR,
			  send(&self->vps[0]));
		if (has_x2apic)
			pthread_join(vp->thread, NULL);
		else
			stop(vp);
		EXPECT_EQ(-EINTR, vp->result);
		EXPECT_EQ(has_x2apic, is_asked(pair));
		EXPECT_FALSE(irq_is_requested(pair->vapic, VECTOR));
		EXPECT_EQ(MSHV_VTL_HALT_OTHER, pair->page->parked[0].halt);
	}
}

/* What the thread of a VP does when a run ends: it switches by itself, and goes on. */
static void *run_for_ever(void *argument)
{
	struct runner *vp = argument;
	struct vtl_pair *pair = &vp->pair;
	volatile struct mshv_tdx_l2_enter_guest_state *state =
		&pair->guest.run->tdx.l2_enter_guest_state;

	while (!vp->is_over) {
		vp->result = vtl_run(&pair->guest);
		pair->guest.run->cancel = 0;
		if (vp->result == -EINTR || vp->result == -EIO)
			continue;
		if (vp->result || vtl_exit_reason(&pair->guest) != EXIT_VMCALL)
			break;
		if (state->gpr[RCX] !=
		    (pair_vm(pair) == 1 ? CODE_CALL : CODE_RETURN))
			break;
		vtl_step_over(&pair->guest);
		pair_exchange(pair);
	}
	return NULL;
}

/* One thing that the kernel needs for a switch, which is missing for a moment. */
static void disturb(struct runner *vp, unsigned int turn)
{
	struct vtl_pair *pair = &vp->pair;
	const uint64_t apic = pair_gpa(pair, pair->part + PAIR_APIC_VM2);

	switch (turn % 6) {
	case 0:
		vtl_kick(&pair->guest, MSHV_KICK_CANCEL | MSHV_KICK_WAIT);
		break;
	case 1:
		pair_set_up(pair, NULL);
		usleep(500);
		break;
	case 2:
		pair->page->enable = turn;
		break;
	case 3:
		pair_set_up(pair, (void *)0x10000);
		vtl_kick(&pair->guest, MSHV_KICK_CANCEL);
		break;
	case 4:
		__atomic_fetch_add(&pair->page->flush[1 + turn / 6 % 2], 1,
				   __ATOMIC_SEQ_CST);
		vtl_kick(&pair->guest, MSHV_KICK_WAIT);
		break;
	default:
		/* On its CPU, between two of its runs or in the middle of one. */
		vtl_pin(pair->guest.cpu);
		pair_write_field(pair, 2, VMCS_VIRTUAL_APIC_PAGE, ~0ULL, ~0ULL);
		usleep(500);
		pair_write_field(pair, 2, VMCS_VIRTUAL_APIC_PAGE, apic, ~0ULL);
	}
	pair->page->enable = MSHV_VTL_SWITCH_CALL | MSHV_VTL_SWITCH_RETURN;
	pair_set_up(pair, pair->assist);
}

/* Whatever goes wrong with a switch, each VTL keeps its own registers. */
TEST_F(two, what_a_switch_needs_comes_and_goes_while_both_vps_call)
{
	unsigned int turn;
	int cpu;

	for (cpu = 0; cpu < VPS; cpu++) {
		struct runner *vp = &self->vps[cpu];

		ASSERT_EQ(0, start(vp, pair_call_forever, pair_return_fast));
		vp->is_over = false;
		ASSERT_EQ(0, vtl_thread_on(&vp->thread, cpu, run_for_ever, vp));
	}
	for (turn = 0; turn < 240; turn++)
		disturb(&self->vps[turn % VPS], turn / VPS);
	for (cpu = 0; cpu < VPS; cpu++) {
		struct runner *vp = &self->vps[cpu];
		struct vtl_pair *pair = &vp->pair;
		const uint64_t code = pair_address(pair, pair_code);
		const uint64_t end = pair_address(pair, pair_code_end);
		const uint64_t turns = pair->data[0]->turns;

		/* It still runs. */
		wait_for_turns(vp, 10);
		EXPECT_LE(turns + 10, pair->data[0]->turns);
		vp->is_over = true;
		vtl_kick(&pair->guest, MSHV_KICK_CANCEL);
		pthread_join(vp->thread, NULL);
		EXPECT_TRUE(!vp->result || vp->result == -EINTR)
		{
			TH_LOG("%d: exit %x", vp->result,
			       vtl_exit_reason(&pair->guest));
		}
		EXPECT_EQ(pair_vm(pair), pair->page->active_vm);
		EXPECT_LE(code, pair->guest.run->tdx.l2_enter_guest_state.rip);
		EXPECT_GT(end, pair->guest.run->tdx.l2_enter_guest_state.rip);
	}
	EXPECT_EQ(NULL, vtl_kernel_complaint());
}

TEST_HARNESS_MAIN
