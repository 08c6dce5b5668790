// SPDX-License-Identifier: GPL-2.0
/* The timer of the lower VTL: l2_tsc_deadline of the run page. */
#include <errno.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vtl_harness.h"
#include "irq_guest.h"

/* By how much an exit may come too early here. */
#define EARLIEST_MS 10

FIXTURE(deadline)
{
	struct irq_guest irq;
	volatile struct mshv_vtl_run *run;
	uint64_t ticks_per_ms;
};

FIXTURE_SETUP(deadline)
{
	struct mshv_vtl_info info = { .head.size = sizeof(info) };
	uint64_t base, size;
	int mshv;

	ASSERT_EQ(0, vtl_catch_alarms());
	if (!vtl_memory(&base, &size))
		SKIP(return, "no vtl0_mem= on the kernel command line");
	mshv = vtl_open(DEV_MSHV);
	ASSERT_EQ(0, ioctl(mshv, MSHV_VTL_INFO, &info));
	close(mshv);
	self->ticks_per_ms = info.tsc_khz;
	ASSERT_NE(0, self->ticks_per_ms);
	ASSERT_EQ(0, irq_guest_open(&self->irq, 0))
	{
		TH_LOG("%s", self->irq.guest.why);
	}
	self->run = self->irq.guest.run;
	ASSERT_EQ(0, irq_guest_start(&self->irq, irq_guest_spin));
}

FIXTURE_TEARDOWN(deadline)
{
	vtl_alarm_ms(0);
	vtl_guest_write_field(&self->irq.guest, FIELD_TSC_DEADLINE(1), ~0ULL,
			      ~0ULL);
	irq_guest_close(&self->irq);
}

static void arm(volatile struct mshv_vtl_run *run, uint64_t deadline)
{
	run->tdx.l2_tsc_deadline.deadline = deadline;
	run->tdx.l2_tsc_deadline.update = 1;
}

static int read_field(struct irq_guest *irq, uint64_t *value)
{
	return vtl_read_field(irq->guest.fd, TDG_VP_RD, FIELD_TSC_DEADLINE(1),
			      value);
}

/* Runs until there is an exit, or the alarm. */
static int run_until(struct irq_guest *irq)
{
	int result;

	do {
		result = vtl_enter(&irq->guest);
	} while (!result && irq->guest.run->tdx.exit_info.rax >> 32);
	return result;
}

/*
 * Runs until the deadline has passed. The TDX module rounds it down, so an exit may come too early;
 * it takes nothing back.
 */
static int run_past(struct irq_guest *irq, uint64_t deadline,
		    uint64_t ticks_per_ms)
{
	int result;

	do {
		result = run_until(irq);
		if (result)
			return result;
		if (vtl_exit_reason(&irq->guest) != EXIT_TIMER ||
		    irq_tsc() + EARLIEST_MS * ticks_per_ms < deadline)
			return -ERANGE;
	} while (irq_tsc() < deadline);
	return 0;
}

TEST_F(deadline, the_extension_is_told)
{
	uint32_t name = MSHV_CAP_LOWER_VTL_TIMER_VIRT;
	int mshv = vtl_open(DEV_MSHV);

	EXPECT_EQ(1, ioctl(mshv, MSHV_CHECK_EXTENSION, &name));
	close(mshv);
}

TEST_F(deadline, it_ends_a_run)
{
	uint64_t deadline = irq_tsc() + 100 * self->ticks_per_ms;
	uint64_t field;

	arm(self->run, deadline);
	vtl_alarm_ms(5000);
	ASSERT_EQ(0, run_past(&self->irq, deadline, self->ticks_per_ms));
	EXPECT_EQ(0, self->run->tdx.l2_tsc_deadline.update);
	EXPECT_NE(0, self->irq.data->spins);
	ASSERT_EQ(0, read_field(&self->irq, &field));
	EXPECT_TRUE(field == deadline || field == ~0ULL);
}

TEST_F(deadline, a_past_one_ends_a_run_at_once_and_then_is_forgotten)
{
	unsigned int i;
	uint64_t field = 0;

	arm(self->run, 1);
	ASSERT_EQ(0, run_until(&self->irq));
	EXPECT_EQ(EXIT_TIMER, vtl_exit_reason(&self->irq.guest));
	ASSERT_EQ(0, read_field(&self->irq, &field));
	EXPECT_EQ(~0ULL, field);
	/* The guest runs until something else stops it. */
	vtl_alarm_ms(200);
	EXPECT_EQ(-EINTR, run_until(&self->irq));
	/* Nothing is armed without the update. */
	for (i = 0; i < 3; i++) {
		self->run->tdx.l2_tsc_deadline.deadline = 1;
		vtl_alarm_ms(50);
		EXPECT_EQ(-EINTR, run_until(&self->irq));
	}
}

TEST_F(deadline, zero_and_what_is_too_far_away_never_come)
{
	static const uint64_t never[] = { 0, ~0ULL, ~0ULL - 1, 1ULL << 63 };
	uint64_t field;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(never); i++) {
		arm(self->run, irq_tsc() + 20 * self->ticks_per_ms);
		self->run->cancel = 1;
		ASSERT_EQ(-EINTR, vtl_enter(&self->irq.guest));
		self->run->cancel = 0;
		arm(self->run, never[i]);
		vtl_alarm_ms(100);
		EXPECT_EQ(-EINTR, run_until(&self->irq));
		EXPECT_EQ(0, self->run->tdx.l2_tsc_deadline.update);
		ASSERT_EQ(0, read_field(&self->irq, &field));
		EXPECT_LE(1ULL << 63, field);
	}
}

/*
 * A client considers a deadline armed once the call has returned, whatever the
 * result.
 */
TEST_F(deadline, a_call_that_ends_before_the_guest_runs_has_armed_it)
{
	uint64_t deadline, field;
	int reason;

	for (reason = 0; reason < 4; reason++) {
		deadline = irq_tsc() + (1000 + reason) * self->ticks_per_ms;
		arm(self->run, deadline);
		self->run->cancel = reason & 1;
		self->run->scan_proxy_irr = !self->run->cancel;
		self->run->flags = reason & 2 ? MSHV_VTL_RUN_HALTED : 0;
		EXPECT_EQ(-EINTR, vtl_enter(&self->irq.guest));
		EXPECT_EQ(0, self->run->tdx.l2_tsc_deadline.update);
		ASSERT_EQ(0, read_field(&self->irq, &field));
		EXPECT_EQ(deadline, field);
	}
	self->run->cancel = 0;
	self->run->scan_proxy_irr = 0;
	self->run->flags = MSHV_VTL_RUN_HALTED;
	vtl_alarm_ms(20000);
	ASSERT_EQ(0, vtl_enter(&self->irq.guest));
	EXPECT_EQ(EXIT_TIMER, self->run->tdx.exit_info.rax);
	EXPECT_LE(deadline, irq_tsc());
}

/* What the page says besides must be right first: then nothing is armed. */
TEST_F(deadline, a_page_that_is_refused_arms_nothing)
{
	uint64_t before, field;

	ASSERT_EQ(0, read_field(&self->irq, &before));
	arm(self->run, irq_tsc() + 1000 * self->ticks_per_ms);
	self->run->flags = 1 << 5;
	EXPECT_EQ(-EINVAL, vtl_enter(&self->irq.guest));
	EXPECT_EQ(1, self->run->tdx.l2_tsc_deadline.update);
	ASSERT_EQ(0, read_field(&self->irq, &field));
	EXPECT_EQ(before, field);
	self->run->flags = 0;
	self->run->tdx.l2_tsc_deadline.update = 0;
}

TEST_F(deadline, it_stays_armed_over_several_calls)
{
	uint64_t deadline = irq_tsc() + 300 * self->ticks_per_ms;

	arm(self->run, deadline);
	vtl_alarm_ms(50);
	ASSERT_EQ(-EINTR, run_until(&self->irq));
	vtl_alarm_ms(5000);
	ASSERT_EQ(0, run_past(&self->irq, deadline, self->ticks_per_ms));
}

TEST_F(deadline, it_ends_a_halt_that_sleeps)
{
	uint64_t deadline = irq_tsc() + 300 * self->ticks_per_ms;
	uint64_t rip = self->run->tdx.l2_enter_guest_state.rip;
	long sleeps = vtl_times_slept();

	self->run->flags = MSHV_VTL_RUN_HALTED;
	arm(self->run, deadline);
	vtl_alarm_ms(5000);
	ASSERT_EQ(0, vtl_enter(&self->irq.guest));
	sleeps = vtl_times_slept() - sleeps;
	EXPECT_EQ(EXIT_TIMER, self->run->tdx.exit_info.rax);
	EXPECT_LE(deadline, irq_tsc());
	EXPECT_LE(1, sleeps);
	EXPECT_GE(10, sleeps);
	/* The lower VTL did not run, and is halted still. */
	EXPECT_EQ(rip, self->run->tdx.l2_enter_guest_state.rip);
	EXPECT_EQ(MSHV_VTL_RUN_HALTED, self->run->flags);
}

TEST_F(deadline, it_ends_a_halt_of_the_kernel)
{
	uint64_t deadline = irq_tsc() + 200 * self->ticks_per_ms;

	ASSERT_EQ(0, irq_guest_start(&self->irq, irq_guest_halt));
	self->run->offload_flags = MSHV_VTL_OFFLOAD_INTR_INJECT;
	arm(self->run, deadline);
	vtl_alarm_ms(5000);
	ASSERT_EQ(0, run_until(&self->irq));
	EXPECT_EQ(EXIT_TIMER, vtl_exit_reason(&self->irq.guest));
	EXPECT_LE(deadline, irq_tsc());
	EXPECT_EQ(MSHV_VTL_OFFLOAD_INTR_INJECT | MSHV_VTL_HALT_HLT,
		  self->run->offload_flags);
	/* An interrupt for the timer: the guest continues where it halted. */
	irq_proxy(self->run, 0x33);
	ASSERT_EQ(0, run_until(&self->irq));
	EXPECT_EQ(EXIT_VMCALL, vtl_exit_reason(&self->irq.guest));
	EXPECT_EQ(1, self->irq.data->taken[0x33]);
}

TEST_F(deadline, one_that_userspace_took_back_itself_ends_no_halt)
{
	arm(self->run, irq_tsc() + 50 * self->ticks_per_ms);
	self->run->flags = MSHV_VTL_RUN_HALTED;
	vtl_alarm_ms(10);
	ASSERT_EQ(-EINTR, vtl_enter(&self->irq.guest));
	ASSERT_EQ(0,
		  vtl_guest_write_field(&self->irq.guest, FIELD_TSC_DEADLINE(1),
					~0ULL, ~0ULL));
	vtl_alarm_ms(200);
	EXPECT_EQ(-EINTR, vtl_enter(&self->irq.guest));
}

TEST_HARNESS_MAIN
