// SPDX-License-Identifier: GPL-2.0
/*
 * What comes between two VTLs from outside: a kick right before the entry that follows a
 * switch, an event that VTL0's exit has cut off, and garbage where a paravisor should have
 * put VTL1's state.
 */
#include <pthread.h>
#include <string.h>
#include <sys/ioctl.h>

#include "audit_log.h"
#include "irq_guest.h"
#include "pair_fixture.h"

#define VECTOR 0x51
#define OFFLOAD (MSHV_VTL_OFFLOAD_INTR_INJECT | MSHV_VTL_OFFLOAD_X2APIC)
#define BOTH (MSHV_VTL_SWITCH_CALL | MSHV_VTL_SWITCH_RETURN)
#define VMCS_ENTRY_INTERRUPT_INFO VMCS32(0x4016)
#define VECTORING_VALID (1U << 31)
#define ENTRY_FAILURE (1U << 31)

static volatile int stop_kicking;

static void *kick_always(void *argument)
{
	struct vtl_pair *pair = argument;

	while (!stop_kicking)
		vtl_kick(&pair->guest, 0);
	return NULL;
}

/*
 * Counts first entries after a switch that a pending interrupt has prevented. The next
 * entry is of the same VM, and all entries after a switch are of the other one.
 */
static unsigned int prevented(struct __test_metadata *_metadata,
			      struct audit_log *log)
{
	const volatile struct mshv_vtl_audit_record *record;
	unsigned int count = 0, vm = 1;
	bool was_prevented = false;

	while ((record = audit_next(log))) {
		const bool is_switch = record->entry_reason == EXIT_VMCALL + 1;

		EXPECT_EQ(is_switch ? 3 - vm : vm, record->vm);
		EXPECT_FALSE(is_switch && was_prevented);
		vm = record->vm;
		was_prevented = !(record->flags & MSHV_VTL_AUDIT_HAS_RUN);
		count += is_switch && was_prevented;
	}
	EXPECT_EQ(1, vm);
	return count;
}

TEST_F(pair, a_kick_before_the_first_entry_of_the_target_loses_nothing)
{
	unsigned int found = 0, runs;
	struct audit_log log;
	pthread_t kicker;

	START(pair_call, pair_return_fast);
	ASSERT_EQ(0, audit_open(&log, self->pair.guest.fd, 0));
	stop_kicking = 0;
	ASSERT_EQ(0, vtl_thread_on(&kicker, 1, kick_always, &self->pair));
	/* Few calls, so that the ring has them all. */
	for (runs = 0; runs < 2000 && found < 20; runs++) {
		audit_skip(&log);
		self->state->rip = pair_address(&self->pair, pair_call);
		self->state->gpr[RBX] = 5;
		self->pair.data[0]->turns = 0;
		ASSERT_EQ(0, vtl_run(&self->pair.guest));
		ASSERT_EQ(EXIT_HLT, vtl_exit_reason(&self->pair.guest));
		ASSERT_EQ(5, self->pair.data[0]->turns);
		found += prevented(_metadata, &log);
	}
	stop_kicking = 1;
	pthread_join(kicker, NULL);
	TH_LOG("%u entries after a switch were prevented, in %u runs", found,
	       runs);
	EXPECT_LT(0, found);
	audit_close(&log);
}

/* VTL0 may not write to its stack, so that no interrupt can be delivered. */
TEST_F(pair, an_event_that_was_cut_off_waits_while_vtl1_handles_the_intercept)
{
	const uint64_t stack =
		(self->pair.memory & -VTL_LARGE_SIZE) + VTL_LARGE_SIZE;
	const int fd = self->pair.guest.fd;
	uint32_t vectoring;

	if (self->pair.guest.size < 2 * VTL_LARGE_SIZE)
		SKIP(return, "needs 4 MiB of VTL0's memory");
	ASSERT_EQ(0, vtl_accept(fd, stack, VTL_LARGE_SIZE));
	ASSERT_EQ(0, vtl_set_rights(fd, stack, VTL_LARGE_SIZE, 0));
	START(pair_sti, pair_return_fast);
	ASSERT_EQ(0, pair_deliver(&self->pair));
	self->run->offload_flags = OFFLOAD;
	self->state->gpr[RSP] = stack + VTL_PAGE_SIZE;
	irq_proxy(self->run, VECTOR);
	ASSERT_EQ(0, vtl_run(&self->pair.guest));
	ASSERT_EQ(EXIT_EPT_VIOLATION, vtl_exit_reason(&self->pair.guest));
	vectoring = self->run->tdx.exit_info.r10;
	EXPECT_EQ(VECTORING_VALID | VECTOR, vectoring);
	/* VTL1 is told of the violation. Its return must not come before the event. */
	pair_exchange(&self->pair);
	self->page->enable = MSHV_VTL_SWITCH_CALL | MSHV_VTL_SWITCH_PROXY;
	ASSERT_EQ(0, vtl_run(&self->pair.guest));
	EXPECT_EQ(EXIT_VMCALL, vtl_exit_reason(&self->pair.guest));
	EXPECT_EQ(2, pair_vm(&self->pair));
	EXPECT_EQ(MSHV_VTL_LEFT_DISABLED, self->page->left);
	EXPECT_EQ(stack + VTL_PAGE_SIZE, self->page->parked[0].rsp);
	EXPECT_EQ(0, self->pair.data[0]->taken);
	/* The return by userspace, with the event. */
	ASSERT_EQ(0, vtl_set_rights(fd, stack, VTL_LARGE_SIZE, RIGHTS_ALL));
	ASSERT_EQ(0, pair_write_field(&self->pair, 1, VMCS_ENTRY_INTERRUPT_INFO,
				      vectoring, 0xffffffff));
	vtl_step_over(&self->pair.guest);
	pair_exchange(&self->pair);
	self->page->flush[1]++;
	self->page->enable = 0;
	ASSERT_EQ(0, vtl_run(&self->pair.guest));
	EXPECT_EQ(EXIT_HLT, vtl_exit_reason(&self->pair.guest));
	EXPECT_EQ(1, pair_vm(&self->pair));
	EXPECT_EQ(1, self->pair.data[0]->taken);
	EXPECT_EQ(0, self->state->svi);
	/* Once. */
	self->page->enable = BOTH;
	self->state->rip = pair_address(&self->pair, pair_call_sti);
	self->state->gpr[RBX] = 1;
	ASSERT_EQ(0, vtl_run(&self->pair.guest));
	EXPECT_EQ(EXIT_HLT, vtl_exit_reason(&self->pair.guest));
	EXPECT_EQ(1, self->pair.data[0]->taken);
	ASSERT_EQ(0, vtl_set_rights(fd, stack, VTL_LARGE_SIZE, 0));
}

/* What the processor does not load: VTL1's entry fails, and VTL0 is as it was. */
TEST_F(pair, parked_registers_that_can_not_be_loaded_fail_vtl1s_entry)
{
	static const struct {
		uint64_t rip, rflags;
	} cases[] = {
		{ 1ULL << 60, 2 },
		{ 0, 2 | 1ULL << 40 },
		{ 0, 2 | 1 << 17 },
		{ 0, 0 },
	};
	volatile struct mshv_vtl_parked *vtl1 = &self->page->parked[1];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		START(pair_vmcall, pair_return_fast);
		self->state->gpr[RCX] = CODE_CALL;
		vtl1->rip |= cases[i].rip;
		vtl1->rflags = cases[i].rflags;
		ASSERT_EQ(0, vtl_run(&self->pair.guest));
		EXPECT_TRUE(vtl_exit_reason(&self->pair.guest) & ENTRY_FAILURE)
		{
			TH_LOG("%zu: exit %x", i,
			       vtl_exit_reason(&self->pair.guest));
		}
		EXPECT_EQ(2, pair_vm(&self->pair));
		EXPECT_EQ(0, self->page->left);
		EXPECT_EQ(pair_address(&self->pair, pair_vmcall) + 3,
			  self->page->parked[0].rip);
		/* The paravisor corrects it. */
		self->state->rip = pair_address(&self->pair, pair_return_fast);
		self->state->rflags = 2;
		ASSERT_EQ(0, vtl_run(&self->pair.guest));
		EXPECT_EQ(EXIT_HLT, vtl_exit_reason(&self->pair.guest));
		EXPECT_EQ(1, pair_vm(&self->pair));
	}
}

TEST_HARNESS_MAIN
