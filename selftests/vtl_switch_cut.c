// SPDX-License-Identifier: GPL-2.0
/*
 * Runs that end before the entry for which the kernel has already prepared: after a
 * switch, or after a request to invalidate was seen. Nothing of it may be lost.
 */
#include <pthread.h>
#include <string.h>
#include <sys/ioctl.h>

#include "audit_log.h"
#include "irq_guest.h"
#include "pair_fixture.h"

#define VECTOR 0x41
#define DONE (MSHV_VTL_AUDIT_HAS_RUN | MSHV_VTL_AUDIT_INVALIDATED)

#define EXPECT_EXIT(vm, reason)                                        \
	do {                                                           \
		ASSERT_EQ(0, vtl_run(&self->pair.guest));              \
		EXPECT_EQ(reason, vtl_exit_reason(&self->pair.guest)); \
		EXPECT_EQ(vm, pair_vm(&self->pair));                   \
	} while (0)

/* Puts VM @vm at a HLT again, with nothing requested in the run page. */
#define AGAIN(vm)                                                        \
	do {                                                             \
		self->state->rip = pair_address(&self->pair, pair_halt); \
		self->run->tdx.entry_rcx = (uint64_t)vm                  \
					   << MSHV_TDX_ENTRY_VM_SHIFT;   \
	} while (0)

/* Number of entries of VM @vm that have invalidated, of those not counted yet. */
static unsigned int invalidations(struct audit_log *log, unsigned int vm)
{
	const volatile struct mshv_vtl_audit_record *record;
	unsigned int count = 0;

	while ((record = audit_next(log)))
		count += record->vm == vm && (record->flags & DONE) == DONE;
	return count;
}

/* An interrupt for userspace: the run ends right before its first entry. */
static int cut_off(struct vtl_pair *pair)
{
	int result;

	pair->guest.run->offload_flags = 0;
	irq_proxy(pair->guest.run, VECTOR);
	result = vtl_enter(&pair->guest);
	pair->guest.run->proxy_irr[VECTOR / 32] = 0;
	pair->guest.run->scan_proxy_irr = 0;
	return result;
}

/* The paravisor enters VTL1 because of what has ended the run, then VTL0. */
TEST_F(pair, a_flush_that_no_entry_has_done_survives_a_switch_by_userspace)
{
	struct audit_log log;
	uint64_t flushes;

	START(pair_halt, pair_halt);
	/* Does what an earlier test has left. */
	EXPECT_EXIT(1, EXIT_HLT);
	ASSERT_EQ(0, audit_open(&log, self->pair.guest.fd, 0));
	flushes = pair_stats(&self->pair).vtl_flushes;
	AGAIN(1);
	self->page->flush[1]++;
	EXPECT_EQ(-EINTR, cut_off(&self->pair));
	EXPECT_NE(self->page->flush[1], self->page->flushed[1]);
	EXPECT_EQ(flushes, pair_stats(&self->pair).vtl_flushes);
	pair_exchange(&self->pair);
	pair_exchange(&self->pair);
	EXPECT_EXIT(1, EXIT_HLT);
	EXPECT_EQ(1, invalidations(&log, 1));
	EXPECT_EQ(self->page->flush[1], self->page->flushed[1]);
	EXPECT_EQ(flushes + 1, pair_stats(&self->pair).vtl_flushes);
	/* Once. */
	AGAIN(1);
	EXPECT_EXIT(1, EXIT_HLT);
	EXPECT_EQ(0, invalidations(&log, 1));
	audit_close(&log);
}

/* Each way to name VM 1 anew, and several runs that are cut off. */
TEST_F(pair, a_flush_survives_any_number_of_runs_without_an_entry)
{
	struct audit_log log;
	unsigned int i, cuts;

	START(pair_halt, pair_halt);
	EXPECT_EXIT(1, EXIT_HLT);
	ASSERT_EQ(0, audit_open(&log, self->pair.guest.fd, 0));
	for (i = 0; i < 6; i++) {
		self->page->flush[1]++;
		for (cuts = 0; cuts <= i; cuts++) {
			AGAIN(1);
			EXPECT_EQ(-EINTR, cut_off(&self->pair));
		}
		AGAIN(1);
		EXPECT_EXIT(1, EXIT_HLT);
		EXPECT_EQ(1, invalidations(&log, 1))
		{
			TH_LOG("round %u", i);
		}
	}
	audit_close(&log);
}

/* The next guest's numbers are new requests, even if they are those of the last one. */
TEST_F(pair, after_a_reset_each_vm_invalidates_whatever_the_counters_were)
{
	struct mshv_vtl_head head = { .size = sizeof(head) };
	struct audit_log log;
	unsigned int vm;

	START(pair_halt, pair_halt);
	EXPECT_EXIT(1, EXIT_HLT);
	AGAIN(1);
	self->page->flush[1] = 1;
	EXPECT_EXIT(1, EXIT_HLT);
	ASSERT_EQ(0, ioctl(self->pair.guest.fd, MSHV_VTL_RESET, &head));
	START(pair_halt, pair_halt);
	ASSERT_EQ(0, audit_open(&log, self->pair.guest.fd, 0));
	self->page->flush[1] = 1;
	for (vm = 1; vm <= 2; vm++) {
		AGAIN(vm);
		EXPECT_EXIT(vm, EXIT_HLT);
		EXPECT_EQ(1, invalidations(&log, vm));
		AGAIN(vm);
		EXPECT_EXIT(vm, EXIT_HLT);
		EXPECT_EQ(0, invalidations(&log, vm));
		pair_exchange(&self->pair);
	}
	EXPECT_EQ(1, self->page->flushed[1]);
	audit_close(&log);
}

/*
 * VTL1 returns in the kernel to a VTL0 that is halted, so that the run ends before
 * VTL0 is entered.
 */
TEST_F(pair, the_record_of_a_switch_comes_with_the_next_entry_of_any_run)
{
	const volatile struct mshv_vtl_audit_record *record;
	struct mshv_vtl_stats before, after;
	unsigned int vm = 2, switches = 0, tries = 0;
	struct audit_log log;

	ASSERT_EQ(0, vtl_catch_alarms());
	START(pair_sti_hlt, pair_return_fast);
	ASSERT_EQ(0, pair_deliver(&self->pair));
	pair_exchange(&self->pair);
	self->run->offload_flags = MSHV_VTL_OFFLOAD_INTR_INJECT;
	self->page->parked[0].rip = pair_address(&self->pair, pair_sti_hlt) + 2;
	self->page->parked[0].rflags = 0x202;
	self->page->parked[0].halt = MSHV_VTL_HALT_HLT;
	ASSERT_EQ(0, audit_open(&log, self->pair.guest.fd, 0));
	before = pair_stats(&self->pair);
	do {
		vtl_alarm_ms(100);
		ASSERT_EQ(-EINTR, vtl_enter(&self->pair.guest));
	} while (pair_vm(&self->pair) == 2 && ++tries < 100);
	vtl_alarm_ms(0);
	ASSERT_EQ(1, pair_vm(&self->pair));
	irq_proxy(self->run, VECTOR);
	EXPECT_EXIT(1, EXIT_HLT);
	after = pair_stats(&self->pair);
	while ((record = audit_next(&log))) {
		const bool is_switch = record->entry_reason == EXIT_VMCALL + 1;

		EXPECT_EQ(record->vm != vm, is_switch);
		vm = record->vm;
		switches += is_switch;
	}
	EXPECT_EQ(1, vm);
	EXPECT_EQ(1, switches);
	EXPECT_EQ(1, after.vtl_fast_returns - before.vtl_fast_returns);
	EXPECT_EQ(1, after.exits[EXIT_VMCALL].handled -
			     before.exits[EXIT_VMCALL].handled);
	audit_close(&log);
}

/* VTL1 is halted, so its entry does not follow the call until userspace ends the halt. */
TEST_F(pair, a_call_that_no_entry_followed_goes_on_in_vtl1)
{
	const volatile struct mshv_vtl_audit_record *record;
	const uint64_t before = pair_stats(&self->pair).vtl_calls;
	unsigned int entries = 0, tries = 0;
	struct audit_log log;

	ASSERT_EQ(0, vtl_catch_alarms());
	START(pair_vmcall, pair_halt);
	self->run->offload_flags = MSHV_VTL_OFFLOAD_INTR_INJECT;
	self->state->gpr[RAX] = 0;
	self->state->gpr[RCX] = CODE_CALL;
	self->page->parked[1].halt = MSHV_VTL_HALT_HLT;
	ASSERT_EQ(0, audit_open(&log, self->pair.guest.fd, 0));
	do {
		vtl_alarm_ms(200);
		ASSERT_EQ(-EINTR, vtl_enter(&self->pair.guest));
	} while (pair_vm(&self->pair) == 1 && ++tries < 100);
	vtl_alarm_ms(0);
	ASSERT_EQ(2, pair_vm(&self->pair));
	EXPECT_EQ(2, self->page->active_vm);
	EXPECT_EQ(MSHV_VTL_RUN_HALTED, self->run->flags);
	EXPECT_TRUE(self->run->offload_flags & MSHV_VTL_HALT_HLT);
	EXPECT_EQ(pair_address(&self->pair, pair_halt), self->state->rip);
	EXPECT_EQ(pair_address(&self->pair, pair_vmcall) + 3,
		  self->page->parked[0].rip);
	EXPECT_EQ(1, *(volatile uint32_t *)(self->pair.assist +
					    ASSIST_ENTRY_REASON));
	EXPECT_EQ(before + 1, pair_stats(&self->pair).vtl_calls);
	while ((record = audit_next(&log)))
		EXPECT_EQ(1, record->vm);
	self->run->flags = 0;
	self->run->offload_flags = MSHV_VTL_OFFLOAD_INTR_INJECT;
	EXPECT_EXIT(2, EXIT_HLT);
	while ((record = audit_next(&log))) {
		EXPECT_EQ(2, record->vm);
		/* An attempt that an interrupt has prevented has another one. */
		entries += record->entry_reason == EXIT_VMCALL + 1;
	}
	EXPECT_EQ(1, entries);
	audit_close(&log);
}

/* Makes the run page invalid when the guest has run for a while. */
static void *spoil(void *argument)
{
	struct vtl_pair *pair = argument;

	while (!pair->data[0]->turns)
		;
	pair->guest.run->flags = 1U << 7;
	vtl_kick(&pair->guest, 0);
	return NULL;
}

TEST_F(pair, einval_in_the_middle_of_a_run_tells_that_the_vtl_has_run)
{
	const uint64_t mark = 0x1234567800000000;
	pthread_t thread;

	/* Before the first entry: nothing has changed. */
	START(pair_spin, pair_halt);
	self->run->tdx.exit_info.rax = mark;
	self->run->flags = 1U << 7;
	EXPECT_EQ(-EINVAL, vtl_enter(&self->pair.guest));
	EXPECT_EQ(mark, self->run->tdx.exit_info.rax);
	self->run->flags = 0;
	ASSERT_EQ(0, vtl_thread_anywhere(&thread, spoil, &self->pair));
	EXPECT_EQ(-EINVAL, vtl_enter(&self->pair.guest));
	pthread_join(thread, NULL);
	self->run->flags = 0;
	EXPECT_EQ(TDX_L2_EXIT_PENDING_INTERRUPT,
		  self->run->tdx.exit_info.rax >> 32);
	EXPECT_LT(0, self->pair.data[0]->turns);
}

TEST_HARNESS_MAIN
