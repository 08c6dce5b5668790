// SPDX-License-Identifier: GPL-2.0
/*
 * The timer of the lower VTL's APIC, left to the kernel: writes of IA32_TSC_DEADLINE, and the interrupt
 * of a deadline that has passed.
 */
#include <errno.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vtl_harness.h"
#include "irq_guest.h"

#define MSR_TSC_DEADLINE 0x6e0
#define VECTOR 0x51
#define NEVER (~0ULL)

/* By how much an exit may come too early here. */
#define EARLIEST_MS 10

FIXTURE(timer)
{
	struct irq_guest irq;
	volatile struct mshv_vtl_run *run;
	volatile struct mshv_vtl_timer *timer;
	uint64_t ticks_per_ms;
};

FIXTURE_SETUP(timer)
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
	ASSERT_EQ(0, irq_guest_open(&self->irq, 0))
	{
		TH_LOG("%s", self->irq.guest.why);
	}
	self->run = self->irq.guest.run;
	self->timer = (volatile void *)((volatile uint8_t *)self->run +
					MSHV_VTL_RUN_TIMER);
	self->timer->vector = VECTOR;
	self->timer->deadline = 0;
}

FIXTURE_TEARDOWN(timer)
{
	vtl_alarm_ms(0);
	self->timer->vector = 0;
	self->timer->deadline = 0;
	vtl_guest_write_field(&self->irq.guest, FIELD_TSC_DEADLINE(1), NEVER,
			      NEVER);
	irq_guest_close(&self->irq);
}

static uint64_t handled(struct irq_guest *irq, unsigned int kind)
{
	struct mshv_vtl_stats stats = { .head.size = sizeof(stats) };

	if (ioctl(irq->guest.fd, MSHV_VTL_STATS, &stats))
		return ~0ULL;
	return stats.exits[kind].handled;
}

static uint64_t field(struct irq_guest *irq)
{
	uint64_t value = 0;

	vtl_read_field(irq->guest.fd, TDG_VP_RD, FIELD_TSC_DEADLINE(1), &value);
	return value;
}

/* Runs until there is an exit, or the alarm. */
static int run_until(struct irq_guest *irq)
{
	int result;

	do {
		result = vtl_enter(&irq->guest);
	} while (!result && irq->guest.run->tdx.exit_info.rax >> 32);
	return result ? result : (int)vtl_exit_reason(&irq->guest);
}

/* Has the guest write @value to the MSR when it runs next, with interrupts off. */
static int begin_write(struct irq_guest *irq, uint64_t value)
{
	volatile struct mshv_tdx_l2_enter_guest_state *state =
		&irq->guest.run->tdx.l2_enter_guest_state;

	if (irq_guest_start(irq, irq_guest_wrmsr))
		return -EPROTO;
	irq->guest.run->offload_flags = MSHV_VTL_OFFLOAD_INTR_INJECT;
	state->gpr[RCX] = MSR_TSC_DEADLINE;
	state->gpr[RAX] = (uint32_t)value;
	state->gpr[RDX] = value >> 32;
	return 0;
}

/* Has the guest write the MSR, with interrupts off. Returns the exit reason. */
static int write_deadline(struct irq_guest *irq, uint64_t value)
{
	int result = begin_write(irq, value);

	return result ? result : run_until(irq);
}

/* Has the guest go on at @entry, with what it has set before. */
static void go_on(struct irq_guest *irq, const unsigned char *entry)
{
	irq->guest.run->tdx.l2_enter_guest_state.rip =
		irq_guest_address(irq, entry);
}

TEST_F(timer, the_extension_is_told)
{
	uint32_t name = MSHV_CAP_TIMER;
	int mshv = vtl_open(DEV_MSHV);

	EXPECT_EQ(1, ioctl(mshv, MSHV_CHECK_EXTENSION, &name));
	close(mshv);
}

TEST_F(timer, a_write_is_carried_out_and_ends_a_halt_in_time)
{
	uint64_t deadline = irq_tsc() + 200 * self->ticks_per_ms;
	uint64_t writes = handled(&self->irq, EXIT_WRMSR);

	ASSERT_EQ(EXIT_VMCALL, write_deadline(&self->irq, deadline));
	EXPECT_EQ(writes + 1, handled(&self->irq, EXIT_WRMSR));
	EXPECT_EQ(deadline, self->timer->deadline);
	EXPECT_EQ(deadline, field(&self->irq));
	EXPECT_FALSE(irq_is_requested(self->irq.vapic, VECTOR));
	go_on(&self->irq, irq_guest_halt);
	vtl_alarm_ms(20000);
	ASSERT_EQ(EXIT_VMCALL, run_until(&self->irq));
	EXPECT_LE(deadline, irq_tsc());
	EXPECT_EQ(1, self->irq.data->taken[VECTOR]);
	EXPECT_EQ(0, self->timer->deadline);
	EXPECT_EQ(NEVER, field(&self->irq));
	EXPECT_EQ(0, self->run->flags);
	EXPECT_EQ(MSHV_VTL_OFFLOAD_INTR_INJECT, self->run->offload_flags);
}

TEST_F(timer, the_interrupt_comes_into_a_guest_that_never_exits)
{
	/* Far enough away that it has not passed when the guest sets it. */
	uint64_t deadline = irq_tsc() + 2000 * self->ticks_per_ms;
	uint64_t ends = handled(&self->irq, EXIT_TIMER);

	ASSERT_EQ(EXIT_VMCALL, write_deadline(&self->irq, deadline));
	ASSERT_EQ(deadline, self->timer->deadline);
	go_on(&self->irq, irq_guest_spin);
	do {
		vtl_alarm_ms(200);
		ASSERT_EQ(-EINTR, run_until(&self->irq));
	} while (irq_tsc() < deadline + 200 * self->ticks_per_ms);
	EXPECT_EQ(1, self->irq.data->taken[VECTOR]);
	/* Those that come before the deadline are handled, too. */
	EXPECT_LE(ends + 1, handled(&self->irq, EXIT_TIMER));
	EXPECT_EQ(0, self->timer->deadline);
	EXPECT_EQ(NEVER, field(&self->irq));
}

TEST_F(timer, one_that_has_passed_is_an_interrupt_at_once)
{
	uint64_t past[] = { 1, 0 };
	size_t i;

	past[1] = irq_tsc();
	for (i = 0; i < ARRAY_SIZE(past); i++) {
		ASSERT_EQ(EXIT_VMCALL, write_deadline(&self->irq, past[i]));
		EXPECT_TRUE(irq_is_requested(self->irq.vapic, VECTOR));
		EXPECT_EQ(VECTOR, self->run->tdx.l2_enter_guest_state.rvi);
		EXPECT_EQ(0, self->timer->deadline);
		EXPECT_LE(1ULL << 63, field(&self->irq));
	}
}

TEST_F(timer, zero_takes_it_back_and_what_is_too_far_away_never_comes)
{
	static const uint64_t never[] = { 0, NEVER, NEVER - 1, 1ULL << 63 };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(never); i++) {
		ASSERT_EQ(
			EXIT_VMCALL,
			write_deadline(&self->irq,
				       irq_tsc() + 1000 * self->ticks_per_ms));
		ASSERT_EQ(EXIT_VMCALL, write_deadline(&self->irq, never[i]));
		EXPECT_EQ(never[i], self->timer->deadline);
		EXPECT_LE(1ULL << 63, field(&self->irq));
		EXPECT_FALSE(irq_is_requested(self->irq.vapic, VECTOR));
	}
}

TEST_F(timer, without_a_vector_both_exits_are_userspaces)
{
	static const uint8_t vectors[] = { 0, 1, 15 };
	uint64_t writes = handled(&self->irq, EXIT_WRMSR);
	uint64_t ends = handled(&self->irq, EXIT_TIMER);
	uint64_t wrmsr = irq_guest_address(&self->irq, irq_guest_wrmsr);
	size_t i;

	for (i = 0; i < ARRAY_SIZE(vectors); i++) {
		uint64_t before = field(&self->irq);

		self->timer->vector = vectors[i];
		EXPECT_EQ(EXIT_WRMSR, write_deadline(&self->irq, 1));
		EXPECT_EQ(wrmsr, self->run->tdx.l2_enter_guest_state.rip);
		EXPECT_EQ(before, field(&self->irq));
		EXPECT_FALSE(irq_is_requested(self->irq.vapic, VECTOR));
		/* A deadline of userspace's that looks like the timer's. */
		self->timer->deadline = irq_tsc() + 10 * self->ticks_per_ms;
		self->run->tdx.l2_tsc_deadline.deadline = self->timer->deadline;
		self->run->tdx.l2_tsc_deadline.update = 1;
		go_on(&self->irq, irq_guest_spin);
		EXPECT_EQ(EXIT_TIMER, run_until(&self->irq));
		EXPECT_NE(0, self->timer->deadline);
		self->run->flags = MSHV_VTL_RUN_HALTED;
		self->run->tdx.l2_tsc_deadline.update = 1;
		EXPECT_EQ(EXIT_TIMER, run_until(&self->irq));
		self->run->flags = 0;
	}
	EXPECT_EQ(writes, handled(&self->irq, EXIT_WRMSR));
	EXPECT_EQ(ends, handled(&self->irq, EXIT_TIMER));
}

TEST_F(timer, without_the_offload_of_interrupts_it_is_userspaces)
{
	ASSERT_EQ(0, irq_guest_start(&self->irq, irq_guest_wrmsr));
	self->run->tdx.l2_enter_guest_state.gpr[RCX] = MSR_TSC_DEADLINE;
	EXPECT_EQ(EXIT_WRMSR, run_until(&self->irq));
}

TEST_F(timer, a_deadline_of_userspaces_own_is_an_exit)
{
	uint64_t deadline = irq_tsc() + 10000 * self->ticks_per_ms;

	ASSERT_EQ(EXIT_VMCALL, write_deadline(&self->irq, deadline));
	self->run->tdx.l2_tsc_deadline.deadline =
		irq_tsc() + 10 * self->ticks_per_ms;
	self->run->tdx.l2_tsc_deadline.update = 1;
	go_on(&self->irq, irq_guest_spin);
	vtl_alarm_ms(5000);
	EXPECT_EQ(EXIT_TIMER, run_until(&self->irq));
	EXPECT_EQ(0, self->irq.data->taken[VECTOR]);
	EXPECT_EQ(deadline, self->timer->deadline);
	/* In a halt as well. */
	self->run->flags = MSHV_VTL_RUN_HALTED;
	self->run->tdx.l2_tsc_deadline.update = 1;
	EXPECT_EQ(EXIT_TIMER, run_until(&self->irq));
	EXPECT_EQ(deadline, self->timer->deadline);
	self->run->flags = 0;
}

/* Whatever the guest writes, the deadline of userspace comes, and the guest's after it. */
TEST_F(timer, the_guest_can_not_take_userspaces_deadline)
{
	const uint64_t ms = self->ticks_per_ms;
	size_t i;

	for (i = 0; i < 4; i++) {
		uint64_t own = irq_tsc() + 1000 * ms;
		const uint64_t written[] = { 0, 1, own + 10000 * ms, NEVER };

		/* After the start of the guest, which resets the page. */
		ASSERT_EQ(0, begin_write(&self->irq, written[i]));
		self->run->tdx.l2_tsc_deadline.deadline = own;
		self->run->tdx.l2_tsc_deadline.update = 1;
		ASSERT_EQ(EXIT_VMCALL, run_until(&self->irq));
		EXPECT_EQ(own, field(&self->irq))
		{
			TH_LOG("case %zu", i);
		}
		go_on(&self->irq, irq_guest_spin);
		vtl_alarm_ms(20000);
		EXPECT_EQ(EXIT_TIMER, run_until(&self->irq));
		/* The TDX module may end a run slightly early. */
		EXPECT_LE(own, irq_tsc() + EARLIEST_MS * ms);
		EXPECT_EQ(i == 1 ? 0 : written[i], self->timer->deadline);
	}
}

TEST_F(timer, userspaces_deadline_does_not_take_the_guests)
{
	const uint64_t ms = self->ticks_per_ms;
	size_t i;

	/* Userspace's later than the guest's, and earlier. */
	for (i = 0; i < 2; i++) {
		uint64_t deadline = irq_tsc() + 500 * ms, own;

		self->irq.data->taken[VECTOR] = 0;
		ASSERT_EQ(EXIT_VMCALL, write_deadline(&self->irq, deadline));
		own = i ? irq_tsc() + 1000 : deadline + 100000 * ms;
		self->run->tdx.l2_tsc_deadline.deadline = own;
		self->run->tdx.l2_tsc_deadline.update = 1;
		go_on(&self->irq, irq_guest_spin);
		do {
			vtl_alarm_ms(200);
			run_until(&self->irq);
		} while (irq_tsc() < deadline + 500 * ms);
		EXPECT_EQ(1, self->irq.data->taken[VECTOR]);
		EXPECT_EQ(0, self->timer->deadline);
		EXPECT_EQ(i ? NEVER : own, field(&self->irq));
	}
}

/* Written by MSHV_TDCALL, the field is userspace's, and the kernel forgets its own. */
TEST_F(timer, what_userspace_has_disarmed_by_itself_stays_disarmed)
{
	uint64_t own = irq_tsc() + 100 * self->ticks_per_ms;
	uint64_t deadline = own + 100000 * self->ticks_per_ms;

	self->run->tdx.l2_tsc_deadline.deadline = own;
	self->run->tdx.l2_tsc_deadline.update = 1;
	self->run->cancel = 1;
	EXPECT_EQ(-EINTR, vtl_enter(&self->irq.guest));
	self->run->cancel = 0;
	ASSERT_EQ(0,
		  vtl_guest_write_field(&self->irq.guest, FIELD_TSC_DEADLINE(1),
					NEVER, NEVER));
	ASSERT_EQ(EXIT_VMCALL, write_deadline(&self->irq, deadline));
	EXPECT_EQ(deadline, field(&self->irq));
}

/* The timer of a Linux: each tick is a write, a halt, and an interrupt. */
TEST_F(timer, a_guest_ticks_without_an_exit_to_userspace)
{
	volatile struct mshv_tdx_l2_enter_guest_state *state =
		&self->run->tdx.l2_enter_guest_state;
	const uint64_t ticks[] = { 2 * self->ticks_per_ms, 1 };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(ticks); i++) {
		uint64_t writes = handled(&self->irq, EXIT_WRMSR);

		ASSERT_EQ(0, irq_guest_start(&self->irq, irq_guest_tick));
		self->run->offload_flags = MSHV_VTL_OFFLOAD_INTR_INJECT;
		self->irq.data->taken[VECTOR] = 0;
		state->gpr[RBX] = 100;
		state->gpr[RDI] = ticks[i];
		ASSERT_EQ(EXIT_VMCALL, run_until(&self->irq));
		EXPECT_EQ(100, self->irq.data->taken[VECTOR]);
		EXPECT_EQ(writes + 100, handled(&self->irq, EXIT_WRMSR));
		EXPECT_EQ(0, self->timer->deadline);
	}
}

/* However often the timer expires, its paravisor gets its thread back. */
TEST_F(timer, a_guest_whose_timer_always_expires_can_be_stopped)
{
	unsigned int i;

	ASSERT_EQ(0, irq_guest_start(&self->irq, irq_guest_late));
	self->run->offload_flags = MSHV_VTL_OFFLOAD_INTR_INJECT;
	for (i = 0; i < 5; i++) {
		uint32_t taken = self->irq.data->taken[VECTOR];

		vtl_alarm_ms(100);
		ASSERT_EQ(-EINTR, run_until(&self->irq));
		EXPECT_NE(taken, self->irq.data->taken[VECTOR]);
	}
}

TEST_HARNESS_MAIN
