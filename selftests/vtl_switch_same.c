// SPDX-License-Identifier: GPL-2.0
/*
 * Random programs of VTL0 and VTL1, switched by the kernel, by userspace, and by both
 * in random order: each way has the same result in memory and registers, and the
 * paravisor sees the same exits, except those of the switches themselves.
 * SWITCH_PROGRAMS is the number of programs, 40 by default.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "irq_guest.h"
#include "pair_program.h"
#include "vtl_harness.h"

#define VECTOR 0x41
#define REASON_CALL 1
#define REASON_INTERRUPT 2
#define OFFLOAD (MSHV_VTL_OFFLOAD_INTR_INJECT | MSHV_VTL_OFFLOAD_X2APIC)
#define MOST_EVENTS 256
/* More exits than any program has, to detect one that does not end. */
#define MOST_RUNS 100000

/* Who carries out switches. */
enum way { BY_KERNEL, BY_USERSPACE, BY_BOTH, WAYS };

/* State at the end of a program. */
struct outcome {
	uint8_t traces[2][TRACE_SIZE];
	uint8_t assist[0x20], taken, requested, vm;
	uint64_t gpr[16], rip, rflags, rvi, live[7];
	struct mshv_vtl_parked parked;
	/* Halts of VTL0 that an interrupt has ended, those begun, and those for VTL1. */
	unsigned int sent, later, sleeps;
	/* Exits except switches: VM, reason, RIP, RAX, RCX. */
	uint64_t events[MOST_EVENTS][5];
	unsigned int num_events;
};

static struct outcome outcomes[WAYS];

static void note(struct outcome *outcome, struct vtl_pair *pair)
{
	volatile struct mshv_tdx_l2_enter_guest_state *state =
		&pair->guest.run->tdx.l2_enter_guest_state;
	uint64_t *event = outcome->events[outcome->num_events % MOST_EVENTS];

	event[0] = pair_vm(pair);
	event[1] = vtl_exit_reason(&pair->guest);
	event[2] = state->rip;
	event[3] = state->gpr[RAX];
	event[4] = state->gpr[RCX];
	outcome->num_events++;
}

/* The switch by userspace; returns false if the exit is not a call or return. */
static bool exchange(struct vtl_pair *pair)
{
	volatile __u64 *gpr = pair->guest.run->tdx.l2_enter_guest_state.gpr;
	const bool is_call = pair_vm(pair) == 1;
	const bool is_normal = !is_call && !gpr[RAX];
	uint8_t halt;

	if (gpr[RCX] != (is_call ? CODE_CALL : CODE_RETURN) ||
	    gpr[RAX] > (is_call ? 0 : 1))
		return false;
	vtl_step_over(&pair->guest);
	if (is_call)
		*(volatile uint32_t *)(pair->assist + ASSIST_ENTRY_REASON) =
			REASON_CALL;
	halt = pair->page->parked[pair_vm(pair) == 1 ? 1 : 0].halt;
	pair_exchange(pair);
	if (halt) {
		pair->guest.run->flags = MSHV_VTL_RUN_HALTED;
		pair->guest.run->offload_flags |= halt;
	}
	if (is_normal) {
		gpr[RAX] = *(volatile uint64_t *)(pair->assist + ASSIST_RAX);
		gpr[RCX] = *(volatile uint64_t *)(pair->assist + ASSIST_RCX);
	}
	return true;
}

/* Posts interrupts for VTL0 to its APIC while VTL1 runs. */
static void take_for_vtl0(struct vtl_pair *pair)
{
	volatile struct mshv_vtl_run *run = pair->guest.run;

	run->scan_proxy_irr = 0;
	run->proxy_irr[VECTOR / 32] = 0;
	pair->vapic[0x200 + VECTOR / 32 * 16 + VECTOR % 32 / 8] |=
		1 << VECTOR % 8;
	pair->page->parked[0].rvi = VECTOR;
}

/* Halts VTL0, and enters VTL1, while an interrupt for VTL0 is on its way. */
static void put_to_sleep(struct vtl_pair *pair)
{
	vtl_step_over(&pair->guest);
	pair_exchange(pair);
	pair->page->parked[0].halt = MSHV_VTL_HALT_HLT;
	*(volatile uint32_t *)(pair->assist + ASSIST_ENTRY_REASON) =
		REASON_INTERRUPT;
	irq_proxy(pair->guest.run, VECTOR);
}

/* Handles one exit; returns an error message, or NULL. */
static const char *handle(struct vtl_pair *pair, struct outcome *outcome)
{
	volatile struct mshv_vtl_run *run = pair->guest.run;

	switch (vtl_exit_reason(&pair->guest)) {
	case EXIT_VMCALL:
		if (exchange(pair))
			return NULL;
		note(outcome, pair);
		switch (run->tdx.l2_enter_guest_state.gpr[RCX]) {
		case CODE_ASK:
			irq_proxy(run, VECTOR);
			break;
		case CODE_LATER:
			outcome->later++;
			vtl_alarm_every_ms(5);
			break;
		case CODE_SLEEP:
			outcome->sleeps++;
			put_to_sleep(pair);
			return NULL;
		}
		break;
	case EXIT_HLT:
		note(outcome, pair);
		break;
	default:
		return "an exit that no program has";
	}
	vtl_step_over(&pair->guest);
	return NULL;
}

/* Something other than an exit has ended the run. */
static void handle_interruption(struct vtl_pair *pair, struct outcome *outcome)
{
	volatile struct mshv_vtl_run *run = pair->guest.run;

	if (run->scan_proxy_irr && pair_vm(pair) == 2)
		take_for_vtl0(pair);
	/* Not before the halt. */
	if (outcome->later == outcome->sent || !run->flags)
		return;
	vtl_alarm_every_ms(0);
	outcome->sent++;
	irq_proxy(run, VECTOR);
}

static uint32_t enabled(enum way way, uint64_t *dice)
{
	const uint32_t all = MSHV_VTL_SWITCH_CALL | MSHV_VTL_SWITCH_RETURN |
			     MSHV_VTL_SWITCH_PROXY;

	switch (way) {
	case BY_KERNEL:
		return all;
	case BY_USERSPACE:
		return 0;
	default:
		return vtl_roll(dice) & all;
	}
}

/* Runs until VTL0 halts at @end. Returns an error message, or NULL. */
static const char *run_to_end(struct vtl_pair *pair, enum way way,
			      uint64_t seed, uint64_t end,
			      struct outcome *outcome)
{
	volatile struct mshv_vtl_run *run = pair->guest.run;
	uint64_t dice = seed;
	const char *why = NULL;
	unsigned int runs;
	int result;

	for (runs = 0; !why && runs < MOST_RUNS; runs++) {
		pair->page->enable = enabled(way, &dice);
		result = vtl_enter(&pair->guest);
		if (result == -EINTR) {
			handle_interruption(pair, outcome);
		} else if (result) {
			why = strerror(-result);
		} else if (!(run->tdx.exit_info.rax >> 32)) {
			if (pair_vm(pair) == 1 &&
			    run->tdx.l2_enter_guest_state.rip == end)
				return NULL;
			why = handle(pair, outcome);
		}
	}
	return why ? why : "the program does not end";
}

static void keep(struct outcome *outcome, struct vtl_pair *pair)
{
	volatile struct mshv_tdx_vp_context *tdx = &pair->guest.run->tdx;
	unsigned int i;

	memcpy(outcome->traces, (void *)(pair->part + AT_TRACE(1)),
	       sizeof(outcome->traces));
	memcpy(outcome->assist, (void *)pair->assist, sizeof(outcome->assist));
	outcome->taken = pair->data[0]->taken;
	outcome->requested =
		pair->vapic[0x200 + VECTOR / 32 * 16 + VECTOR % 32 / 8];
	outcome->vm = pair_vm(pair);
	for (i = 0; i < 16; i++)
		outcome->gpr[i] = tdx->l2_enter_guest_state.gpr[i];
	outcome->rip = tdx->l2_enter_guest_state.rip;
	outcome->rflags = tdx->l2_enter_guest_state.rflags;
	outcome->rvi = tdx->l2_enter_guest_state.rvi;
	outcome->live[0] = tdx->vp_state.msr_kernel_gs_base;
	outcome->live[1] = tdx->vp_state.msr_star;
	outcome->live[2] = tdx->vp_state.msr_lstar;
	outcome->live[3] = tdx->vp_state.msr_sfmask;
	outcome->live[4] = tdx->vp_state.msr_xss;
	outcome->live[5] = tdx->vp_state.msr_tsc_aux;
	outcome->live[6] = tdx->vp_state.cr2;
	memcpy(&outcome->parked, (void *)&pair->page->parked[1],
	       sizeof(outcome->parked));
}

/*
 * Runs both VTLs from a fixed state, switched by @way, into outcomes[way]. Returns an
 * error message, or NULL.
 */
static const char *run_program(struct vtl_pair *pair, enum way way,
			       uint64_t seed)
{
	volatile struct mshv_vtl_run *run = pair->guest.run;
	struct outcome *outcome = &outcomes[way];
	const char *why;
	uint32_t end;

	if (pair_start(pair, pair_code, pair_code) || pair_deliver(pair) ||
	    pair_let_live_msrs_through(pair))
		return pair->guest.why;
	end = put_program(pair, 1, seed);
	put_program(pair, 2, seed);
	run->tdx.l2_enter_guest_state.rip = pair->memory + AT_PROGRAM(1);
	pair->page->parked[1].rip = pair->memory + AT_PROGRAM(2);
	run->offload_flags = OFFLOAD;
	memset(outcome, 0, sizeof(*outcome));
	why = run_to_end(pair, way, seed, pair->memory + end, outcome);
	keep(outcome, pair);
	return why;
}

/* Returns the offset of the first byte that differs, for the log. */
static long first_difference(const struct outcome *a, const struct outcome *b)
{
	const uint8_t *bytes_a = (const uint8_t *)a;
	const uint8_t *bytes_b = (const uint8_t *)b;
	size_t i;

	for (i = 0; i < sizeof(*a); i++)
		if (bytes_a[i] != bytes_b[i])
			return i;
	return -1;
}

FIXTURE(same)
{
	struct vtl_pair pair;
	unsigned int programs;
};

FIXTURE_SETUP(same)
{
	uint64_t base, size;

	if (!vtl_memory(&base, &size))
		SKIP(return, "no vtl0_mem= on the kernel command line");
	self->programs = vtl_setting("SWITCH_PROGRAMS", 40);
	ASSERT_EQ(0, pair_open(&self->pair, 0))
	{
		TH_LOG("%s", self->pair.guest.why);
	}
	ASSERT_EQ(0, pair_set_up(&self->pair, self->pair.assist));
	ASSERT_EQ(0, vtl_catch_alarms());
}

FIXTURE_TEARDOWN(same)
{
	vtl_alarm_every_ms(0);
	pair_close(&self->pair);
}

TEST_F(same, whoever_switches_leaves_the_same)
{
	uint64_t calls[WAYS] = {}, taken = 0, events = 0, later = 0, sleeps = 0;
	unsigned int seed;
	enum way way;

	for (seed = 1; seed <= self->programs; seed++) {
		for (way = 0; way < WAYS; way++) {
			const uint64_t before =
				pair_stats(&self->pair).vtl_calls;
			const char *why = run_program(&self->pair, way, seed);

			ASSERT_EQ(NULL, why)
			{
				TH_LOG("program %u, way %d: %s", seed, way,
				       why);
			}
			calls[way] +=
				pair_stats(&self->pair).vtl_calls - before;
			ASSERT_EQ(-1, first_difference(&outcomes[0],
						       &outcomes[way]))
			{
				TH_LOG("program %u, way %d", seed, way);
			}
		}
		taken += outcomes[0].taken;
		events += outcomes[0].num_events;
		later += outcomes[0].later;
		sleeps += outcomes[0].sleeps;
	}
	/* The kernel made all switches, none, or some of them, as the way says. */
	TH_LOG("%lu calls, %lu of them by either, %lu interrupts, %lu exits",
	       calls[BY_KERNEL], calls[BY_BOTH], taken, events);
	TH_LOG("%lu halts of VTL0, %lu times halted for VTL1", later, sleeps);
	EXPECT_LT(self->programs, calls[BY_KERNEL]);
	EXPECT_EQ(0, calls[BY_USERSPACE]);
	EXPECT_LT(0, calls[BY_BOTH]);
	EXPECT_GT(calls[BY_KERNEL], calls[BY_BOTH]);
	EXPECT_LT(0, taken);
	EXPECT_LT(0, events);
	EXPECT_LT(self->programs / 2, later);
	EXPECT_LT(self->programs, sleeps);
}

TEST_HARNESS_MAIN
