// SPDX-License-Identifier: GPL-2.0
/*
 * Halts and proxied interrupts that the kernel handles by itself: HLT, guest
 * idle, proxy_irr.
 */
#include <errno.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vtl_harness.h"
#include "irq_guest.h"

#define VECTOR 0x51
#define MSR_GUEST_IDLE 0x400000f0

FIXTURE(offload)
{
	struct irq_guest irq;
	volatile struct mshv_vtl_run *run;
	volatile struct mshv_tdx_l2_enter_guest_state *state;
};

FIXTURE_SETUP(offload)
{
	uint64_t base, size;

	ASSERT_EQ(0, vtl_catch_alarms());
	if (!vtl_memory(&base, &size))
		SKIP(return, "no vtl0_mem= on the kernel command line");
	ASSERT_EQ(0, irq_guest_open(&self->irq, 0))
	{
		TH_LOG("%s", self->irq.guest.why);
	}
	self->run = self->irq.guest.run;
	self->state = &self->run->tdx.l2_enter_guest_state;
}

FIXTURE_TEARDOWN(offload)
{
	irq_guest_close(&self->irq);
}

#define START(entry)                                                     \
	do {                                                             \
		ASSERT_EQ(0, irq_guest_start(&self->irq, entry))         \
		{                                                        \
			TH_LOG("%s", self->irq.guest.why);               \
		}                                                        \
		self->run->offload_flags = MSHV_VTL_OFFLOAD_INTR_INJECT; \
	} while (0)

/* Requests VECTOR 200 ms from now, on any CPU. */
static void *ask_later(void *argument)
{
	struct irq_guest *irq = argument;

	usleep(200 * 1000);
	irq_proxy(irq->guest.run, VECTOR);
	irq_kick(irq, 0);
	return NULL;
}

static int enter_and_ask(struct irq_guest *irq)
{
	pthread_t thread;
	int result;

	if (vtl_thread_anywhere(&thread, ask_later, irq))
		return 1;
	result = vtl_enter(&irq->guest);
	pthread_join(thread, NULL);
	return result;
}

static uint64_t handled(struct irq_guest *irq, unsigned int kind)
{
	struct mshv_vtl_stats stats = { .head.size = sizeof(stats) };

	if (ioctl(irq->guest.fd, MSHV_VTL_STATS, &stats))
		return ~0ULL;
	return stats.exits[kind].handled;
}

TEST_F(offload, without_leave_userspace_sees_the_halt)
{
	START(irq_guest_halt);
	self->run->offload_flags = 0;
	ASSERT_EQ(0, vtl_run(&self->irq.guest));
	EXPECT_EQ(EXIT_HLT, vtl_exit_reason(&self->irq.guest));
	EXPECT_EQ(irq_guest_address(&self->irq, irq_guest_halt) + 1,
		  self->state->rip);
	EXPECT_EQ(0, self->run->offload_flags);
}

TEST_F(offload, a_halt_with_an_interrupt_pending_is_none)
{
	uint64_t before;

	START(irq_guest_halt);
	before = handled(&self->irq, EXIT_HLT);
	irq_proxy(self->run, VECTOR);
	ASSERT_EQ(0, vtl_run(&self->irq.guest));
	EXPECT_EQ(EXIT_VMCALL, vtl_exit_reason(&self->irq.guest));
	EXPECT_EQ(1, self->irq.data->taken[VECTOR]);
	EXPECT_EQ(before + 1, handled(&self->irq, EXIT_HLT));
	EXPECT_EQ(MSHV_VTL_OFFLOAD_INTR_INJECT, self->run->offload_flags);
	EXPECT_EQ(0, self->run->flags);
	EXPECT_EQ(0, self->run->scan_proxy_irr);
	EXPECT_EQ(0, self->run->proxy_irr[VECTOR / 32]);
	EXPECT_EQ(0, self->state->rvi);
	EXPECT_EQ(0, self->state->svi);
}

/*
 * An APIC records the trigger mode when it accepts an interrupt; these are
 * edge-triggered.
 */
TEST_F(offload, a_proxied_interrupt_is_no_level_any_more)
{
	volatile uint32_t *tmr = (volatile uint32_t *)(self->irq.vapic + 0x180);
	uint32_t bit = 1U << VECTOR % 32;

	START(irq_guest_halt);
	tmr[4 * (VECTOR / 32)] = bit | bit << 1;
	irq_proxy(self->run, VECTOR);
	ASSERT_EQ(0, vtl_run(&self->irq.guest));
	EXPECT_EQ(1, self->irq.data->taken[VECTOR]);
	/* That of another vector is what it was. */
	EXPECT_EQ(bit << 1, tmr[4 * (VECTOR / 32)]);
	tmr[4 * (VECTOR / 32)] = 0;
}

/* Between STI and CLI there is no other instruction than HLT. */
TEST_F(offload, the_shadow_of_sti_ends_with_the_halt)
{
	START(irq_guest_halt_once);
	irq_proxy(self->run, VECTOR);
	vtl_alarm_ms(2000);
	ASSERT_EQ(0, vtl_run(&self->irq.guest));
	vtl_alarm_ms(0);
	EXPECT_EQ(EXIT_VMCALL, vtl_exit_reason(&self->irq.guest));
	EXPECT_EQ(1, self->irq.data->taken[VECTOR]);
}

/* Checks the scheduler's counters: time would depend on the host's load. */
TEST_F(offload, a_halt_sleeps_until_an_interrupt)
{
	pthread_t thread;
	long sleeps;

	START(irq_guest_halt);
	vtl_alarm_ms(5000);
	ASSERT_EQ(0, vtl_thread_anywhere(&thread, ask_later, &self->irq));
	sleeps = vtl_times_slept();
	ASSERT_EQ(0, vtl_enter(&self->irq.guest));
	sleeps = vtl_times_slept() - sleeps;
	vtl_alarm_ms(0);
	pthread_join(thread, NULL);
	EXPECT_EQ(EXIT_VMCALL, vtl_exit_reason(&self->irq.guest));
	EXPECT_EQ(1, self->irq.data->taken[VECTOR]);
	EXPECT_LE(1, sleeps);
	EXPECT_GE(10, sleeps);
}

TEST_F(offload, a_run_is_interrupted_for_an_interrupt)
{
	START(irq_guest_spin);
	vtl_alarm_ms(1000);
	EXPECT_EQ(-EINTR, enter_and_ask(&self->irq));
	EXPECT_EQ(1, self->irq.data->taken[VECTOR]);
	EXPECT_EQ(0, self->run->scan_proxy_irr);
}

TEST_F(offload, userspace_learns_of_the_halt_and_may_resume_it)
{
	START(irq_guest_halt);
	vtl_alarm_ms(200);
	ASSERT_EQ(-EINTR, vtl_enter(&self->irq.guest));
	EXPECT_EQ(MSHV_VTL_RUN_HALTED, self->run->flags);
	EXPECT_EQ(MSHV_VTL_OFFLOAD_INTR_INJECT | MSHV_VTL_HALT_HLT,
		  self->run->offload_flags);
	EXPECT_EQ(irq_guest_address(&self->irq, irq_guest_halt) + 2,
		  self->state->rip);
	EXPECT_EQ(TDX_L2_EXIT_PENDING_INTERRUPT,
		  self->run->tdx.exit_info.rax >> 32);
	vtl_alarm_ms(5000);
	ASSERT_EQ(0, enter_and_ask(&self->irq));
	vtl_alarm_ms(0);
	EXPECT_EQ(EXIT_VMCALL, vtl_exit_reason(&self->irq.guest));
	EXPECT_EQ(1, self->irq.data->taken[VECTOR]);
	EXPECT_EQ(MSHV_VTL_OFFLOAD_INTR_INJECT, self->run->offload_flags);
	EXPECT_EQ(0, self->run->flags);
}

TEST_F(offload, a_halt_with_interrupts_off_is_userspaces)
{
	START(irq_guest_halt_cli);
	irq_proxy(self->run, VECTOR);
	ASSERT_EQ(0, vtl_run(&self->irq.guest));
	EXPECT_EQ(EXIT_HLT, vtl_exit_reason(&self->irq.guest));
	EXPECT_EQ(0, self->irq.data->taken[VECTOR]);
	EXPECT_TRUE(irq_is_requested(self->irq.vapic, VECTOR));
}

TEST_F(offload, a_single_step_is_userspaces)
{
	START(irq_guest_halt);
	self->state->rip = irq_guest_address(&self->irq, irq_guest_halt) + 1;
	self->state->rflags = 2 | RFLAGS_IF | RFLAGS_TF;
	ASSERT_EQ(0, vtl_run(&self->irq.guest));
	EXPECT_EQ(EXIT_HLT, vtl_exit_reason(&self->irq.guest));
}

TEST_F(offload, priority_holds_an_interrupt_back_until_it_is_lowered)
{
	START(irq_guest_halt);
	self->irq.vapic[0x80] = 0x5f;
	irq_proxy(self->run, VECTOR);
	vtl_alarm_ms(200);
	ASSERT_EQ(-EINTR, vtl_enter(&self->irq.guest));
	EXPECT_EQ(0, self->irq.data->taken[VECTOR]);
	EXPECT_TRUE(irq_is_requested(self->irq.vapic, VECTOR));
	EXPECT_EQ(VECTOR, self->state->rvi);
	EXPECT_EQ(MSHV_VTL_OFFLOAD_INTR_INJECT | MSHV_VTL_HALT_HLT,
		  self->run->offload_flags);
	self->irq.vapic[0x80] = 0x4f;
	ASSERT_EQ(0, vtl_run(&self->irq.guest));
	EXPECT_EQ(EXIT_VMCALL, vtl_exit_reason(&self->irq.guest));
	EXPECT_EQ(1, self->irq.data->taken[VECTOR]);
}

TEST_F(offload, what_userspace_wants_to_see_stays)
{
	START(irq_guest_halt);
	self->run->proxy_irr_exit_mask[VECTOR / 32] = 1U << VECTOR % 32;
	irq_proxy(self->run, VECTOR);
	irq_proxy(self->run, VECTOR + 1);
	irq_proxy(self->run, 15);
	ASSERT_EQ(-EINTR, vtl_enter(&self->irq.guest));
	EXPECT_EQ(1, self->run->scan_proxy_irr);
	EXPECT_EQ(1U << VECTOR % 32, self->run->proxy_irr[VECTOR / 32]);
	EXPECT_EQ(1U << 15, self->run->proxy_irr[0]);
	EXPECT_FALSE(irq_is_requested(self->irq.vapic, VECTOR));
	EXPECT_TRUE(irq_is_requested(self->irq.vapic, VECTOR + 1));
	EXPECT_EQ(VECTOR + 1, self->state->rvi);
	/* Another vector was not blocked there. */
	EXPECT_EQ(0, self->irq.data->taken[VECTOR + 1]);
}

TEST_F(offload, a_halt_of_userspace_is_not_ended_by_an_interrupt)
{
	START(irq_guest_halt);
	self->run->offload_flags |= MSHV_VTL_HALT_OTHER | MSHV_VTL_HALT_HLT;
	self->run->flags = MSHV_VTL_RUN_HALTED;
	self->state->rflags = 2 | RFLAGS_IF;
	irq_proxy(self->run, VECTOR);
	vtl_alarm_ms(200);
	EXPECT_EQ(-EINTR, vtl_enter(&self->irq.guest));
	EXPECT_EQ(MSHV_VTL_RUN_HALTED, self->run->flags);
	EXPECT_TRUE(irq_is_requested(self->irq.vapic, VECTOR));
	EXPECT_EQ(0, self->irq.data->taken[VECTOR]);
}

/*
 * Ends userspace's own reason for a halt, and kicks. Returns the milliseconds until the
 * interrupt was taken; then the guest halts again, and the run is cancelled.
 */
static void *end_other(void *argument)
{
	struct irq_guest *irq = argument;
	uint64_t begin;

	usleep(100 * 1000);
	begin = vtl_now_ms();
	__atomic_fetch_and(&irq->guest.run->offload_flags,
			   (uint8_t)~MSHV_VTL_HALT_OTHER, __ATOMIC_SEQ_CST);
	irq_kick(irq, 0);
	while (!irq->data->taken[VECTOR])
		usleep(1000);
	begin = vtl_now_ms() - begin;
	irq_kick(irq, MSHV_KICK_CANCEL);
	return (void *)begin;
}

/*
 * The interrupt has been posted already. A sleeping thread looks by itself after a
 * second; on a busy machine the kick may be as slow, but not each time.
 */
TEST_F(offload, an_interrupt_ends_a_halt_once_userspace_has_no_reason_for_it)
{
	pthread_t thread;
	void *ms = (void *)1000;
	int turn;

	for (turn = 0; turn < 5 && (long)ms >= 500; turn++) {
		START(irq_guest_halt);
		self->run->offload_flags |= MSHV_VTL_HALT_OTHER |
					    MSHV_VTL_HALT_HLT;
		self->run->flags = MSHV_VTL_RUN_HALTED;
		self->state->rflags = 2 | RFLAGS_IF;
		self->irq.data->taken[VECTOR] = 0;
		irq_proxy(self->run, VECTOR);
		ASSERT_EQ(0, vtl_thread_on(&thread, 1, end_other, &self->irq));
		vtl_alarm_ms(20000);
		EXPECT_EQ(-EINTR, vtl_enter(&self->irq.guest));
		pthread_join(thread, &ms);
		self->run->cancel = 0;
		EXPECT_EQ(1, self->irq.data->taken[VECTOR]);
	}
	vtl_alarm_ms(0);
	EXPECT_GT(500, (long)ms);
}

#define BUSY_TURNS 400
#define BUSY_VECTOR 0x71
#define BUSY_ROUNDS 40

/* Sets a flag shortly before the guest halts, and ends the halt. */
static void *set_flag(void *argument)
{
	struct irq_guest *irq = argument;
	volatile struct mshv_vtl_run *run = irq->guest.run;

	while (irq->data->taken[BUSY_VECTOR] < BUSY_TURNS - 20)
		;
	__atomic_fetch_or(&run->offload_flags, MSHV_VTL_HALT_OTHER,
			  __ATOMIC_SEQ_CST);
	while (!run->flags)
		usleep(100);
	irq_kick(irq, MSHV_KICK_CANCEL);
	return NULL;
}

/* The kernel has answered many exits since it last left the lower VTL. */
TEST_F(offload, a_flag_that_another_thread_sets_outlives_a_halt)
{
	pthread_t thread;
	int round;

	for (round = 0; round < BUSY_ROUNDS; round++) {
		START(irq_guest_busy);
		self->run->offload_flags |= MSHV_VTL_OFFLOAD_X2APIC;
		self->run->flags = 0;
		self->state->gpr[RBX] = BUSY_TURNS;
		self->irq.data->taken[BUSY_VECTOR] = 0;
		ASSERT_EQ(0, vtl_thread_on(&thread, 1, set_flag, &self->irq));
		vtl_alarm_ms(20000);
		ASSERT_EQ(-EINTR, vtl_enter(&self->irq.guest));
		pthread_join(thread, NULL);
		self->run->cancel = 0;
		EXPECT_EQ(BUSY_TURNS, self->irq.data->taken[BUSY_VECTOR]);
		ASSERT_EQ(MSHV_VTL_OFFLOAD_INTR_INJECT |
				  MSHV_VTL_OFFLOAD_X2APIC |
				  MSHV_VTL_HALT_OTHER | MSHV_VTL_HALT_HLT,
			  self->run->offload_flags);
	}
	vtl_alarm_ms(0);
}

TEST_F(offload, guest_idle_halts_even_with_interrupts_off)
{
	START(irq_guest_rdmsr);
	self->state->gpr[RCX] = MSR_GUEST_IDLE;
	self->state->gpr[RAX] = 0x11;
	self->state->gpr[RDX] = 0x22;
	vtl_alarm_ms(200);
	ASSERT_EQ(-EINTR, vtl_enter(&self->irq.guest));
	EXPECT_EQ(MSHV_VTL_RUN_HALTED, self->run->flags);
	EXPECT_EQ(MSHV_VTL_OFFLOAD_INTR_INJECT | MSHV_VTL_HALT_IDLE,
		  self->run->offload_flags);
	irq_proxy(self->run, VECTOR);
	ASSERT_EQ(0, vtl_run(&self->irq.guest));
	EXPECT_EQ(EXIT_VMCALL, vtl_exit_reason(&self->irq.guest));
	EXPECT_EQ(0, self->state->gpr[RAX]);
	EXPECT_EQ(0, self->state->gpr[RDX]);
	/* Interrupts are disabled, so it is still pending. */
	EXPECT_EQ(0, self->irq.data->taken[VECTOR]);
	EXPECT_TRUE(irq_is_requested(self->irq.vapic, VECTOR));
	EXPECT_EQ(MSHV_VTL_OFFLOAD_INTR_INJECT, self->run->offload_flags);
}

TEST_F(offload, another_msr_is_userspaces)
{
	START(irq_guest_rdmsr);
	self->state->gpr[RCX] = MSR_GUEST_IDLE + 1;
	ASSERT_EQ(0, vtl_run(&self->irq.guest));
	EXPECT_EQ(EXIT_RDMSR, vtl_exit_reason(&self->irq.guest));
}

TEST_F(offload, another_vm_is_userspaces)
{
	START(irq_guest_halt);
	self->run->tdx.entry_rcx = 2ULL << MSHV_TDX_ENTRY_VM_SHIFT;
	irq_proxy(self->run, VECTOR);
	EXPECT_EQ(-EINTR, vtl_enter(&self->irq.guest));
	EXPECT_EQ(1, self->run->scan_proxy_irr);
	EXPECT_FALSE(irq_is_requested(self->irq.vapic, VECTOR));
}

TEST_HARNESS_MAIN
