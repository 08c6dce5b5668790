// SPDX-License-Identifier: GPL-2.0
/*
 * The timer of VTL0's APIC, left to the kernel, while the kernel switches between the
 * VTLs: it passes in VTL1, is moved or taken back by VTL0, and stands beside a
 * deadline of userspace's own.
 */
#include <string.h>
#include <sys/ioctl.h>

#include "irq_guest.h"
#include "pair_fixture.h"

#define MSR_TSC_DEADLINE 0x6e0
#define VECTOR 0x51
#define NEVER (~0ULL)
#define BOTH (MSHV_VTL_SWITCH_CALL | MSHV_VTL_SWITCH_RETURN)
/* First attempt: long enough unless the machine is very busy. */
#define SOON_TICKS 100000000ULL
#define TRIES 6

static uint64_t field(struct vtl_pair *pair, int vm)
{
	struct vtl_guest guest = pair->guest;
	uint64_t value = 0;

	guest.vm = vm;
	vtl_read_field(guest.fd, TDG_VP_RD,
		       vtl_guest_field(&guest, FIELD_TSC_DEADLINE(1)), &value);
	return value;
}

/* The kernel sets the deadline, in both VMs, or takes it back. */
static void arm(struct vtl_pair *pair, uint64_t deadline)
{
	pair->guest.run->tdx.l2_tsc_deadline.deadline = deadline;
	pair->guest.run->tdx.l2_tsc_deadline.update = 1;
}

/* VTL0 is about to write its IA32_TSC_DEADLINE and then to call VTL1. */
#define START_TIMER(value, vtl1)                                         \
	do {                                                             \
		const uint64_t _value = value;                           \
		ASSERT_EQ(0, vtl_catch_alarms());                        \
		START(pair_wrmsr_call, vtl1);                            \
		ASSERT_EQ(0, pair_deliver(&self->pair));                 \
		self->run->offload_flags = MSHV_VTL_OFFLOAD_INTR_INJECT; \
		self->state->gpr[RCX] = MSR_TSC_DEADLINE;                \
		self->state->gpr[RAX] = (uint32_t)_value;                \
		self->state->gpr[RDX] = _value >> 32;                    \
		pair_timer(&self->pair)->vector = VECTOR;                \
	} while (0)

/* Nothing of it remains for the next test. */
#define END_TIMER()                                              \
	do {                                                     \
		vtl_alarm_ms(0);                                 \
		pair_timer(&self->pair)->vector = 0;             \
		pair_timer(&self->pair)->deadline = 0;           \
		arm(&self->pair, 0);                             \
		self->run->cancel = 1;                           \
		EXPECT_EQ(-EINTR, vtl_enter(&self->pair.guest)); \
		self->run->cancel = 0;                           \
	} while (0)

/* Without PROXY userspace sees that it has passed; VTL0 gets the interrupt at once
 * when it runs again.
 */
TEST_F(pair, the_timer_of_vtl0_ends_a_run_of_vtl1)
{
	unsigned int tries = 0;
	uint64_t deadline;
	int result;

	/* Again if it has passed before VTL0 has called. */
	do {
		deadline = irq_tsc() + (SOON_TICKS << tries);
		START_TIMER(deadline, pair_spin);
		vtl_alarm_ms(5000);
		result = vtl_enter(&self->pair.guest);
	} while (result && !pair_timer(&self->pair)->deadline &&
		 ++tries < TRIES);
	ASSERT_EQ(0, result);
	ASSERT_EQ(EXIT_TIMER, vtl_exit_reason(&self->pair.guest));
	EXPECT_LE(deadline, irq_tsc());
	EXPECT_EQ(2, pair_vm(&self->pair));
	EXPECT_EQ(deadline, pair_timer(&self->pair)->deadline);
	EXPECT_FALSE(irq_is_requested(self->pair.vapic, VECTOR));
	EXPECT_EQ(0, self->page->left);
	/* VTL1 is told once, or until some microseconds have gone by. */
	do {
		vtl_alarm_ms(100);
		result = vtl_enter(&self->pair.guest);
	} while (!result);
	EXPECT_EQ(-EINTR, result);
	EXPECT_EQ(NEVER, field(&self->pair, 2));
	EXPECT_EQ(deadline, field(&self->pair, 1));
	vtl_alarm_ms(0);
	/* It returns, and VTL0 halts with interrupts off. */
	self->state->rip = pair_address(&self->pair, pair_return_fast);
	ASSERT_EQ(0, vtl_run(&self->pair.guest));
	EXPECT_EQ(EXIT_HLT, vtl_exit_reason(&self->pair.guest));
	EXPECT_EQ(1, pair_vm(&self->pair));
	EXPECT_TRUE(irq_is_requested(self->pair.vapic, VECTOR));
	EXPECT_EQ(0, pair_timer(&self->pair)->deadline);
	EXPECT_EQ(NEVER, field(&self->pair, 1));
	END_TIMER();
}

/* It does so once even if the paravisor arms a deadline of its own before each run. */
TEST_F(pair, a_timer_that_has_passed_does_not_keep_vtl1_from_running)
{
	unsigned int tries = 0, runs = 0;
	uint64_t turns;
	int result;

	do {
		START_TIMER(irq_tsc() + (SOON_TICKS << tries), pair_spin);
		vtl_alarm_ms(5000);
		result = vtl_enter(&self->pair.guest);
	} while (result && !pair_timer(&self->pair)->deadline &&
		 ++tries < TRIES);
	ASSERT_EQ(0, result);
	ASSERT_EQ(EXIT_TIMER, vtl_exit_reason(&self->pair.guest));
	ASSERT_EQ(2, pair_vm(&self->pair));
	turns = self->pair.data[0]->turns;
	do {
		arm(&self->pair, irq_tsc() + (SOON_TICKS << 8));
		vtl_alarm_every_ms(100);
		result = vtl_enter(&self->pair.guest);
	} while (turns == self->pair.data[0]->turns && ++runs < 1000);
	EXPECT_EQ(-EINTR, result);
	EXPECT_EQ(2, pair_vm(&self->pair));
	EXPECT_LT(turns, self->pair.data[0]->turns);
	END_TIMER();
}

/* With PROXY the kernel posts it, and VTL1 runs on. */
TEST_F(pair, with_proxy_the_timer_of_vtl0_is_posted_while_vtl1_runs)
{
	uint64_t proxied = pair_stats(&self->pair).vtl_proxied;
	unsigned int tries = 0;

	do {
		START_TIMER(irq_tsc() + (SOON_TICKS << tries), pair_spin);
		self->page->enable = BOTH | MSHV_VTL_SWITCH_PROXY;
		do {
			vtl_alarm_ms(200);
			ASSERT_EQ(-EINTR, vtl_enter(&self->pair.guest));
		} while (pair_timer(&self->pair)->deadline &&
			 field(&self->pair, 2) != NEVER);
	} while (pair_stats(&self->pair).vtl_proxied == proxied &&
		 ++tries < TRIES);
	EXPECT_EQ(proxied + 1, pair_stats(&self->pair).vtl_proxied);
	EXPECT_EQ(2, pair_vm(&self->pair));
	EXPECT_EQ(0, pair_timer(&self->pair)->deadline);
	EXPECT_TRUE(irq_is_requested(self->pair.vapic, VECTOR));
	EXPECT_EQ(VECTOR, self->page->parked[0].rvi);
	EXPECT_EQ(NEVER, field(&self->pair, 1));
	EXPECT_EQ(NEVER, field(&self->pair, 2));
	END_TIMER();
}

/* With VINA, VTL1 has to be notified: the interrupt is posted, and userspace told. */
TEST_F(pair, with_vina_userspace_is_told_of_vtl0s_timer)
{
	unsigned int tries = 0;
	int result;

	do {
		START_TIMER(irq_tsc() + (SOON_TICKS << tries), pair_spin);
		self->state->rflags = 0x202;
		self->page->enable = BOTH | MSHV_VTL_SWITCH_PROXY |
				     MSHV_VTL_SWITCH_VINA;
		vtl_alarm_ms(5000);
		result = vtl_enter(&self->pair.guest);
	} while (self->pair.data[0]->taken && ++tries < TRIES);
	ASSERT_EQ(0, result);
	EXPECT_EQ(EXIT_TIMER, vtl_exit_reason(&self->pair.guest));
	EXPECT_EQ(2, pair_vm(&self->pair));
	EXPECT_EQ(MSHV_VTL_LEFT_NOTICE, self->page->left);
	EXPECT_EQ(0, pair_timer(&self->pair)->deadline);
	EXPECT_TRUE(irq_is_requested(self->pair.vapic, VECTOR));
	EXPECT_EQ(VECTOR, self->page->parked[0].rvi);
	END_TIMER();
}

/* Also in a halt of VTL1, which userspace has begun. */
TEST_F(pair, the_timer_of_vtl0_ends_a_halt_of_vtl1)
{
	unsigned int tries = 0;
	uint64_t deadline;

	/* Again if it has passed before VTL0 has called. */
	do {
		deadline = irq_tsc() + (SOON_TICKS << tries);
		START_TIMER(deadline, pair_halt);
		ASSERT_EQ(0, vtl_run(&self->pair.guest));
		ASSERT_EQ(2, pair_vm(&self->pair));
	} while (!pair_timer(&self->pair)->deadline && ++tries < TRIES);
	if (vtl_exit_reason(&self->pair.guest) == EXIT_HLT) {
		self->run->flags = MSHV_VTL_RUN_HALTED;
		vtl_alarm_ms(20000);
		EXPECT_EQ(0, vtl_enter(&self->pair.guest));
		self->run->flags = 0;
	}
	EXPECT_EQ(EXIT_TIMER, vtl_exit_reason(&self->pair.guest));
	EXPECT_LE(deadline, irq_tsc());
	EXPECT_EQ(2, pair_vm(&self->pair));
	END_TIMER();
}

/* What VTL0 takes back or moves is taken back or moved in VTL1, too. */
TEST_F(pair, a_timer_that_vtl0_has_moved_does_not_end_vtl1s_run)
{
	const uint64_t first = irq_tsc() + (SOON_TICKS << 8);
	const uint64_t moved[] = { 0, irq_tsc() + (SOON_TICKS << 9), 1 };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(moved); i++) {
		const uint64_t now = i == 1 ? moved[i] : NEVER;

		START_TIMER(moved[i], pair_halt);
		pair_timer(&self->pair)->deadline = first;
		arm(&self->pair, first);
		ASSERT_EQ(0, vtl_run(&self->pair.guest));
		EXPECT_EQ(EXIT_HLT, vtl_exit_reason(&self->pair.guest));
		EXPECT_EQ(2, pair_vm(&self->pair));
		EXPECT_EQ(now, field(&self->pair, 1));
		EXPECT_EQ(now, field(&self->pair, 2));
		EXPECT_EQ(i == 1 ? moved[i] : 0,
			  pair_timer(&self->pair)->deadline);
	}
	END_TIMER();
}

/* VTL1's timer, which userspace serves, is beyond VTL0's reach. */
TEST_F(pair, vtl0_can_not_take_the_deadline_of_userspace)
{
	const uint64_t own = irq_tsc() + (SOON_TICKS << 8);
	const uint64_t written[] = { 0, 1, own - 1000, own + 1000, NEVER };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(written); i++) {
		const uint64_t first = i == 2 ? own - 1000 : own;
		int vm;

		START_TIMER(written[i], pair_halt);
		arm(&self->pair, own);
		ASSERT_EQ(0, vtl_run(&self->pair.guest));
		EXPECT_EQ(EXIT_HLT, vtl_exit_reason(&self->pair.guest));
		EXPECT_EQ(2, pair_vm(&self->pair));
		for (vm = 1; vm <= 2; vm++)
			EXPECT_EQ(first, field(&self->pair, vm))
			{
				TH_LOG("case %zu, VM %d", i, vm);
			}
	}
	END_TIMER();
}

TEST_HARNESS_MAIN
