// SPDX-License-Identifier: GPL-2.0
/*
 * Runs that end before the entry for which the kernel has already prepared: after a
 * switch, or after a request to invalidate was seen. Nothing of it may be lost.
 */
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
#define AGAIN(vm)                                                          \
	do {                                                               \
		self->state->rip = pair_address(&self->pair, pair_halt);   \
		self->run->tdx.entry_rcx = (uint64_t)vm                    \
					   << MSHV_TDX_ENTRY_VM_SHIFT;     \
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

TEST_HARNESS_MAIN
