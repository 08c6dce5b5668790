// SPDX-License-Identifier: GPL-2.0
/*
 * What the kernel leaves to userspace although it may handle interrupts: the end
 * of those that are level-triggered, and events that an exit has cut off.
 */
#include <errno.h>
#include <signal.h>
#include <sys/time.h>
#include <unistd.h>

#include "vtl_harness.h"
#include "irq_guest.h"

#define VECTOR 0x51
#define EXIT_VIRTUALIZED_EOI 45
#define VMCS_EOI_EXIT(vector) VMCS64(0x201c + 2 * ((vector) / 64))
#define VMCS_ENTRY_INTERRUPT_INFO VMCS32(0x4016)
#define VECTORING_VALID (1U << 31)

static void on_alarm(int signal)
{
	(void)signal;
}

FIXTURE(left)
{
	struct irq_guest irq;
	volatile struct mshv_vtl_run *run;
};

FIXTURE_SETUP(left)
{
	struct sigaction action = { .sa_handler = on_alarm };
	uint64_t base, size;

	sigaction(SIGALRM, &action, NULL);
	if (!vtl_memory(&base, &size))
		SKIP(return, "no vtl0_mem= on the kernel command line");
	ASSERT_LE(2 * VTL_LARGE_SIZE, size);
	ASSERT_EQ(0, irq_guest_open(&self->irq, 0))
	{
		TH_LOG("%s", self->irq.guest.why);
	}
	self->run = self->irq.guest.run;
	ASSERT_EQ(0, irq_guest_start(&self->irq, irq_guest_halt));
	self->run->offload_flags = MSHV_VTL_OFFLOAD_INTR_INJECT |
				   MSHV_VTL_OFFLOAD_X2APIC;
}

FIXTURE_TEARDOWN(left)
{
	struct itimerval never = {};

	setitimer(ITIMER_REAL, &never, NULL);
	vtl_guest_write_field(&self->irq.guest, VMCS_ENTRY_INTERRUPT_INFO, 0,
			      0xffffffff);
	irq_guest_close(&self->irq);
}

TEST_F(left, the_end_of_a_level_triggered_interrupt_is_seen)
{
	ASSERT_EQ(0,
		  vtl_guest_write_field(&self->irq.guest, VMCS_EOI_EXIT(VECTOR),
					1ULL << VECTOR % 64, ~0ULL));
	irq_proxy(self->run, VECTOR);
	irq_proxy(self->run, VECTOR + 1);
	ASSERT_EQ(0, vtl_run(&self->irq.guest));
	EXPECT_EQ(EXIT_VIRTUALIZED_EOI, vtl_exit_reason(&self->irq.guest));
	EXPECT_EQ(VECTOR, self->run->tdx.exit_info.rcx & 0xff);
	EXPECT_EQ(1, self->irq.data->taken[VECTOR]);
	EXPECT_EQ(1, self->irq.data->taken[VECTOR + 1]);
	/* RIP is after the write already. */
	ASSERT_EQ(0, vtl_run(&self->irq.guest));
	EXPECT_EQ(EXIT_VMCALL, vtl_exit_reason(&self->irq.guest));
	EXPECT_EQ(1, self->irq.data->taken[VECTOR]);
}

/* The guest may not write to its stack, so no interrupt can be delivered. */
TEST_F(left, an_event_cut_off_is_seen_and_can_be_delivered_again)
{
	struct itimerval soon = { .it_value = { 5, 0 } };
	uint64_t stack = self->irq.guest.base + VTL_LARGE_SIZE;
	uint32_t vectoring;

	ASSERT_EQ(0, vtl_accept(self->irq.guest.fd, stack, VTL_LARGE_SIZE));
	ASSERT_EQ(0,
		  vtl_set_rights(self->irq.guest.fd, stack, VTL_LARGE_SIZE, 0));
	self->run->tdx.entry_rcx |= 1;
	self->run->tdx.l2_enter_guest_state.gpr[RSP] = stack + VTL_PAGE_SIZE;
	irq_proxy(self->run, VECTOR);
	setitimer(ITIMER_REAL, &soon, NULL);
	ASSERT_EQ(0, vtl_run(&self->irq.guest));
	EXPECT_EQ(EXIT_EPT_VIOLATION, vtl_exit_reason(&self->irq.guest));
	vectoring = self->run->tdx.exit_info.r10;
	EXPECT_EQ(VECTORING_VALID | VECTOR, vectoring);
	EXPECT_EQ(0, self->irq.data->taken[VECTOR]);

	ASSERT_EQ(0, vtl_set_rights(self->irq.guest.fd, stack, VTL_LARGE_SIZE,
				    RIGHTS_ALL));
	ASSERT_EQ(0, vtl_guest_write_field(&self->irq.guest,
					   VMCS_ENTRY_INTERRUPT_INFO, vectoring,
					   0xffffffff));
	self->run->tdx.entry_rcx |= 1;
	ASSERT_EQ(0, vtl_run(&self->irq.guest));
	EXPECT_EQ(EXIT_VMCALL, vtl_exit_reason(&self->irq.guest));
	EXPECT_EQ(1, self->irq.data->taken[VECTOR]);
	EXPECT_EQ(0, self->run->tdx.l2_enter_guest_state.svi);
	EXPECT_EQ(1ULL << MSHV_TDX_ENTRY_VM_SHIFT, self->run->tdx.entry_rcx);
	ASSERT_EQ(0,
		  vtl_set_rights(self->irq.guest.fd, stack, VTL_LARGE_SIZE, 0));
}

TEST_HARNESS_MAIN
