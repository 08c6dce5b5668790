// SPDX-License-Identifier: GPL-2.0
/*
 * Switches between VTL0 and VTL1 together with events from outside: interrupts for
 * the VTL that does not run, halts, deadlines, requests to invalidate, kicks.
 */
#include <pthread.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "irq_guest.h"
#include "pair_fixture.h"

#define VECTOR 0x41
/* Its exit is one that userspace sees. */
#define SEEN 0x42
/* Long enough for some switches on a busy machine. */
#define FAR_TICKS 200000000
#define OFFLOAD (MSHV_VTL_OFFLOAD_INTR_INJECT | MSHV_VTL_OFFLOAD_X2APIC)
#define BOTH (MSHV_VTL_SWITCH_CALL | MSHV_VTL_SWITCH_RETURN)

/* VTL0 is parked at @vtl0 and receives interrupts, VTL1 runs @vtl1. */
#define START_VTL1(vtl0, vtl1)                           \
	do {                                             \
		START(vtl0, vtl1);                       \
		ASSERT_EQ(0, pair_deliver(&self->pair)); \
		pair_exchange(&self->pair);              \
		self->run->offload_flags = OFFLOAD;      \
	} while (0)

#define EXPECT_EXIT(vm, reason)                                        \
	do {                                                           \
		ASSERT_EQ(0, vtl_run(&self->pair.guest));              \
		EXPECT_EQ(reason, vtl_exit_reason(&self->pair.guest)); \
		EXPECT_EQ(vm, pair_vm(&self->pair));                   \
	} while (0)

static volatile uint8_t *vina(struct vtl_pair *pair)
{
	return pair->assist + ASSIST_VINA;
}

TEST_F(pair, without_proxy_an_interrupt_for_vtl0_ends_the_run_of_vtl1)
{
	START_VTL1(pair_sti, pair_return_fast);
	irq_proxy(self->run, VECTOR);
	EXPECT_EQ(-EINTR, vtl_enter(&self->pair.guest));
	EXPECT_EQ(2, pair_vm(&self->pair));
	EXPECT_FALSE(irq_is_requested(self->pair.vapic, VECTOR));
	EXPECT_EQ(1, self->run->scan_proxy_irr);
	EXPECT_EQ(0, self->page->parked[0].rvi);
}

TEST_F(pair, with_proxy_vtl0_takes_it_after_the_return)
{
	const struct mshv_vtl_stats before = pair_stats(&self->pair);

	START_VTL1(pair_sti, pair_return_fast);
	self->page->enable = BOTH | MSHV_VTL_SWITCH_PROXY;
	irq_proxy(self->run, VECTOR);
	EXPECT_EXIT(1, EXIT_HLT);
	EXPECT_EQ(1, self->pair.data[0]->taken);
	EXPECT_EQ(0, self->pair.data[1]->taken);
	EXPECT_EQ(0, self->run->scan_proxy_irr);
	EXPECT_EQ(1, pair_stats(&self->pair).vtl_proxied - before.vtl_proxied);
}

/* Merged into VTL0's APIC, and visible to userspace if VTL1 does not return. */
TEST_F(pair, what_was_taken_is_in_the_apic_page_and_the_parked_rvi)
{
	START_VTL1(pair_sti, pair_halt);
	self->page->enable = BOTH | MSHV_VTL_SWITCH_PROXY;
	irq_proxy(self->run, VECTOR);
	EXPECT_EXIT(2, EXIT_HLT);
	EXPECT_TRUE(irq_is_requested(self->pair.vapic, VECTOR));
	EXPECT_EQ(VECTOR, self->page->parked[0].rvi);
	EXPECT_EQ(0, self->state->rvi);
	EXPECT_EQ(OFFLOAD, self->run->offload_flags);
}

TEST_F(pair, a_vector_that_userspace_wants_to_see_ends_the_run)
{
	START_VTL1(pair_sti, pair_return_fast);
	self->page->enable = BOTH | MSHV_VTL_SWITCH_PROXY;
	self->run->proxy_irr_exit_mask[VECTOR / 32] = 1U << VECTOR % 32;
	irq_proxy(self->run, VECTOR);
	EXPECT_EQ(-EINTR, vtl_enter(&self->pair.guest));
	EXPECT_EQ(2, pair_vm(&self->pair));
	EXPECT_FALSE(irq_is_requested(self->pair.vapic, VECTOR));
}

TEST_F(pair, a_vtl0_that_waits_for_userspace_takes_none)
{
	START_VTL1(pair_sti, pair_halt);
	self->page->enable = BOTH | MSHV_VTL_SWITCH_PROXY;
	self->page->parked[0].halt = MSHV_VTL_HALT_OTHER;
	irq_proxy(self->run, VECTOR);
	EXPECT_EQ(-EINTR, vtl_enter(&self->pair.guest));
	EXPECT_FALSE(irq_is_requested(self->pair.vapic, VECTOR));
	EXPECT_EQ(MSHV_VTL_HALT_OTHER, self->page->parked[0].halt);
}

/* VINA: VTL1 is notified, once, of an interrupt that VTL0 could accept. */
TEST_F(pair, vtl1_is_told_of_an_interrupt_that_vtl0_could_take)
{
	static const struct {
		uint64_t rflags;
		uint8_t tpr, asserted;
		int result;
	} cases[] = {
		{ 0x202, 0, 0, -EINTR },
		{ 0x202, 0, 1, 0 },
		{ 0x002, 0, 0, 0 },
		{ 0x202, 0x40, 0, 0 },
	};
	uint32_t left;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		START_VTL1(pair_sti, pair_halt);
		self->page->enable = BOTH | MSHV_VTL_SWITCH_PROXY |
				     MSHV_VTL_SWITCH_VINA;
		self->page->parked[0].rflags = cases[i].rflags;
		self->pair.vapic[0x80] = cases[i].tpr;
		*vina(&self->pair) = cases[i].asserted;
		irq_proxy(self->run, VECTOR);
		EXPECT_EQ(cases[i].result, vtl_enter(&self->pair.guest))
		{
			TH_LOG("case %zu", i);
		}
		/* Posted in any case, and notified once. */
		EXPECT_TRUE(irq_is_requested(self->pair.vapic, VECTOR));
		EXPECT_EQ(VECTOR, self->page->parked[0].rvi);
		EXPECT_EQ(cases[i].asserted, *vina(&self->pair));
		EXPECT_EQ(2, pair_vm(&self->pair));
		/* What tells this EINTR from others. */
		left = self->page->left;
		EXPECT_EQ(cases[i].result != 0, left == MSHV_VTL_LEFT_NOTICE);
	}
}

/* What arrived with it ends the run, but would not be looked at again. */
TEST_F(pair, vtl1_is_told_of_it_when_another_one_is_for_userspace)
{
	int asserted;

	for (asserted = 0; asserted < 2; asserted++) {
		START_VTL1(pair_sti, pair_halt);
		self->page->enable = BOTH | MSHV_VTL_SWITCH_PROXY |
				     MSHV_VTL_SWITCH_VINA;
		self->page->parked[0].rflags = 0x202;
		*vina(&self->pair) = asserted;
		self->run->proxy_irr_exit_mask[SEEN / 32] = 1U << SEEN % 32;
		irq_proxy(self->run, VECTOR);
		irq_proxy(self->run, SEEN);
		EXPECT_EQ(-EINTR, vtl_enter(&self->pair.guest));
		EXPECT_EQ(2, pair_vm(&self->pair));
		EXPECT_TRUE(irq_is_requested(self->pair.vapic, VECTOR));
		EXPECT_EQ(VECTOR, self->page->parked[0].rvi);
		EXPECT_EQ(1U << SEEN % 32, self->run->proxy_irr[SEEN / 32]);
		EXPECT_EQ(asserted ? 0 : MSHV_VTL_LEFT_NOTICE,
			  self->page->left);
		self->run->proxy_irr[SEEN / 32] = 0;
		self->run->scan_proxy_irr = 0;
		self->run->proxy_irr_exit_mask[SEEN / 32] = 0;
	}
}

/* STI blocks the interrupt until VMCALL was executed. */
TEST_F(pair, a_call_that_vtl1_has_to_be_told_more_about_is_left)
{
	int asserted;

	for (asserted = 0; asserted < 2; asserted++) {
		START(pair_sti_call, pair_halt);
		ASSERT_EQ(0, pair_deliver(&self->pair));
		self->page->enable = BOTH | MSHV_VTL_SWITCH_VINA;
		*vina(&self->pair) = asserted;
		self->pair.vapic[0x200 + VECTOR / 32 * 16 + VECTOR % 32 / 8] =
			1 << VECTOR % 8;
		self->state->rvi = VECTOR;
		EXPECT_EXIT(asserted ? 2U : 1U,
			    asserted ? EXIT_HLT : EXIT_VMCALL);
		EXPECT_EQ(asserted ? 0 : MSHV_VTL_LEFT_NOTICE,
			  self->page->left);
		EXPECT_EQ(0, self->pair.data[0]->taken);
	}
}

TEST_F(pair, a_return_takes_the_notice_back_if_that_is_wanted)
{
	int i;

	for (i = 0; i < 2; i++) {
		START_VTL1(pair_halt, pair_return_fast);
		self->page->enable = BOTH | MSHV_VTL_SWITCH_VINA |
				     (i ? MSHV_VTL_SWITCH_VINA_AUTO_RESET : 0);
		*vina(&self->pair) = 1;
		EXPECT_EXIT(1, EXIT_HLT);
		EXPECT_EQ(i ? 0 : 1, *vina(&self->pair));
	}
}

/* VTL0 was halted when userspace entered VTL1: it stays halted. */
TEST_F(pair, a_halt_of_vtl0_survives_vtl1)
{
	unsigned int tries = 0;

	START_VTL1(pair_sti_hlt, pair_return_fast);
	/* RIP is after its HLT. */
	self->page->parked[0].rip = pair_address(&self->pair, pair_sti_hlt) + 2;
	self->page->parked[0].rflags = 0x202;
	self->page->parked[0].halt = MSHV_VTL_HALT_HLT;
	/*
	 * Halted: the deadline ends it. On a busy machine it may come before
	 * VTL1 has returned.
	 */
	do {
		self->run->tdx.l2_tsc_deadline.deadline = irq_tsc() + FAR_TICKS;
		self->run->tdx.l2_tsc_deadline.update = 1;
		ASSERT_EQ(0, vtl_run(&self->pair.guest));
		ASSERT_EQ(EXIT_TIMER, vtl_exit_reason(&self->pair.guest));
	} while (pair_vm(&self->pair) == 2 && ++tries < 100);
	EXPECT_EQ(1, pair_vm(&self->pair));
	EXPECT_EQ(MSHV_VTL_RUN_HALTED, self->run->flags);
	EXPECT_EQ(OFFLOAD | MSHV_VTL_HALT_HLT, self->run->offload_flags);
	EXPECT_EQ(0, self->pair.data[0]->taken);
	/* An interrupt ends it. */
	irq_proxy(self->run, VECTOR);
	EXPECT_EXIT(1, EXIT_HLT);
	EXPECT_EQ(1, self->pair.data[0]->taken);
	EXPECT_EQ(0, self->run->flags);
	EXPECT_EQ(OFFLOAD, self->run->offload_flags);
}

TEST_F(pair, an_interrupt_that_came_meanwhile_ends_the_halt_at_the_return)
{
	START_VTL1(pair_sti_hlt, pair_return_fast);
	self->page->parked[0].rip = pair_address(&self->pair, pair_sti_hlt) + 2;
	self->page->parked[0].rflags = 0x202;
	self->page->parked[0].halt = MSHV_VTL_HALT_HLT;
	self->page->enable = BOTH | MSHV_VTL_SWITCH_PROXY;
	irq_proxy(self->run, VECTOR);
	EXPECT_EXIT(1, EXIT_HLT);
	EXPECT_EQ(1, self->pair.data[0]->taken);
	EXPECT_EQ(0, self->run->flags);
}

TEST_F(pair, vtl1_halts_in_userspace)
{
	START_VTL1(pair_halt, pair_sti_hlt);
	EXPECT_EXIT(2, EXIT_HLT);
	EXPECT_EQ(0, self->run->flags);
	EXPECT_EQ(OFFLOAD, self->run->offload_flags);
}

/*
 * One deadline, set while VTL0 is in the run page, expires in VTL1; and the other way
 * round. Neither VTL exits there by itself.
 */
TEST_F(pair, a_deadline_comes_in_whichever_vtl_runs)
{
	int i;

	for (i = 0; i < 2; i++) {
		START(i ? pair_spin : pair_call,
		      i ? pair_return_fast : pair_spin);
		self->state->gpr[RBX] = 1;
		if (i)
			pair_exchange(&self->pair);
		self->run->tdx.l2_tsc_deadline.deadline = irq_tsc() + FAR_TICKS;
		self->run->tdx.l2_tsc_deadline.update = 1;
		EXPECT_EXIT(i ? 1U : 2U, EXIT_TIMER);
		EXPECT_EQ(0, self->run->tdx.l2_tsc_deadline.update);
	}
}

TEST_F(pair, a_deadline_that_is_over_is_taken_back_in_both)
{
	uint64_t field;
	int vm, runs = 0;

	START(pair_call, pair_spin);
	self->state->gpr[RBX] = 1;
	self->run->tdx.l2_tsc_deadline.deadline = irq_tsc() + 1000;
	self->run->tdx.l2_tsc_deadline.update = 1;
	/* Not immediately: see Documentation/abi.rst. */
	do {
		ASSERT_EQ(0, vtl_run(&self->pair.guest));
		ASSERT_EQ(EXIT_TIMER, vtl_exit_reason(&self->pair.guest));
		self->pair.guest.vm = pair_vm(&self->pair);
		ASSERT_EQ(0,
			  vtl_read_field(self->pair.guest.fd, TDG_VP_RD,
					 vtl_guest_field(&self->pair.guest,
							 FIELD_TSC_DEADLINE(1)),
					 &field));
	} while (field != ~0ULL && ++runs < 1000000);
	for (vm = 1; vm <= 2; vm++) {
		self->pair.guest.vm = vm;
		ASSERT_EQ(0,
			  vtl_read_field(self->pair.guest.fd, TDG_VP_RD,
					 vtl_guest_field(&self->pair.guest,
							 FIELD_TSC_DEADLINE(1)),
					 &field));
		EXPECT_EQ(~0ULL, field);
	}
	self->pair.guest.vm = 1;
}

/* Each change makes one entry of that VM invalidate. */
TEST_F(pair, a_flush_counter_makes_one_entry_of_its_vm_invalidate)
{
	struct mshv_vtl_stats before, after;

	START(pair_call, pair_return_fast);
	self->state->gpr[RBX] = 5;
	/* Clears what an earlier test has left. */
	EXPECT_EXIT(1, EXIT_HLT);
	START(pair_call, pair_return_fast);
	self->state->gpr[RBX] = 5;
	self->run->tdx.entry_rcx &= ~3ULL;
	self->page->flush[1] = self->page->flushed[1];
	self->page->flush[2] = 77;
	before = pair_stats(&self->pair);
	EXPECT_EXIT(1, EXIT_HLT);
	after = pair_stats(&self->pair);
	/* START zeroes the counters: for VM 1 nothing changes. */
	EXPECT_EQ(1, after.vtl_flushes - before.vtl_flushes);
	EXPECT_EQ(77, self->page->flushed[2]);
	self->page->flush[1] = 5;
	self->page->flush[2] = 78;
	self->state->rip = pair_address(&self->pair, pair_call);
	self->state->gpr[RBX] = 3;
	EXPECT_EXIT(1, EXIT_HLT);
	before = after;
	after = pair_stats(&self->pair);
	EXPECT_EQ(2, after.vtl_flushes - before.vtl_flushes);
	EXPECT_EQ(5, self->page->flushed[1]);
	EXPECT_EQ(78, self->page->flushed[2]);
	/* VM 3 is not entered. */
	self->page->flush[3] = 1;
	self->state->rip = pair_address(&self->pair, pair_call);
	self->state->gpr[RBX] = 3;
	EXPECT_EXIT(1, EXIT_HLT);
	EXPECT_EQ(after.vtl_flushes, pair_stats(&self->pair).vtl_flushes);
}

/*
 * VTL1 removes VTL0's right to write: the return enters VTL0 with its translations
 * invalidated, so that its next write is an EPT violation. A whole 2 MiB page, because
 * a part would leave it split.
 */
TEST_F(pair, a_right_that_vtl1_has_taken_is_gone_at_the_return)
{
	volatile uint64_t *word;
	uint64_t gpa;

	START(pair_store, pair_vmcall);
	gpa = self->pair.guest.base + VTL_LARGE_SIZE;
	if (self->pair.guest.size < 2 * VTL_LARGE_SIZE)
		SKIP(return, "needs 4 MiB of VTL0's memory");
	ASSERT_EQ(0, vtl_accept(self->pair.guest.fd, gpa, VTL_LARGE_SIZE));
	ASSERT_EQ(0, vtl_set_rights(self->pair.guest.fd, gpa, VTL_LARGE_SIZE,
				    RIGHTS_ALL));
	word = vtl_map_low(gpa, VTL_PAGE_SIZE);
	ASSERT_NE(MAP_FAILED, (void *)word);
	*word = 1;
	self->state->gpr[7] = gpa; /* RDI */
	EXPECT_EXIT(1, EXIT_HLT);
	EXPECT_EQ(2, *word);
	pair_exchange(&self->pair);
	ASSERT_EQ(0, vtl_set_rights(self->pair.guest.fd, gpa, VTL_LARGE_SIZE,
				    RIGHT_READ | RIGHT_EXECUTE));
	self->page->flush[1]++;
	self->page->parked[0].rip = pair_address(&self->pair, pair_store);
	self->state->gpr[RAX] = 1;
	self->state->gpr[RCX] = CODE_RETURN;
	ASSERT_EQ(0, vtl_run(&self->pair.guest));
	EXPECT_EQ(EXIT_EPT_VIOLATION,
		  vtl_exit_reason(&self->pair.guest) & 0xffff);
	EXPECT_EQ(1, pair_vm(&self->pair));
	EXPECT_EQ(2, *word);
	ASSERT_EQ(0, vtl_set_rights(self->pair.guest.fd, gpa, VTL_LARGE_SIZE,
				    RIGHTS_ALL));
	munmap((void *)word, VTL_PAGE_SIZE);
}

struct kicker {
	struct vtl_pair *pair;
	uint64_t flushes;
	volatile int stop;
};

/* Increments both counters and waits for the end of the stay, again and again. */
static void *flush_and_kick(void *argument)
{
	struct kicker *kicker = argument;

	while (!kicker->stop) {
		__atomic_fetch_add(&kicker->pair->page->flush[1], 1,
				   __ATOMIC_SEQ_CST);
		__atomic_fetch_add(&kicker->pair->page->flush[2], 1,
				   __ATOMIC_SEQ_CST);
		vtl_kick(&kicker->pair->guest, MSHV_KICK_WAIT);
		kicker->flushes++;
	}
	return NULL;
}

TEST_F(pair, no_flush_is_lost_between_calls_and_kicks)
{
	struct kicker kicker = { .pair = &self->pair };
	const unsigned int turns = 3000;
	pthread_t thread;

	START(pair_call, pair_return_fast);
	self->state->gpr[RBX] = turns;
	ASSERT_EQ(0, vtl_thread_anywhere(&thread, flush_and_kick, &kicker));
	EXPECT_EXIT(1, EXIT_HLT);
	kicker.stop = 1;
	pthread_join(thread, NULL);
	EXPECT_EQ(turns, self->pair.data[0]->turns);
	EXPECT_LT(0, kicker.flushes);
	/* One more call carries out the last requests. */
	self->state->rip = pair_address(&self->pair, pair_call);
	self->state->gpr[RBX] = 1;
	EXPECT_EXIT(1, EXIT_HLT);
	EXPECT_EQ(self->page->flush[1], self->page->flushed[1]);
	EXPECT_EQ(self->page->flush[2], self->page->flushed[2]);
}

/* Requested by the low bits of entry_rcx, for the VM that it names at that moment. */
TEST_F(pair, a_request_in_the_run_page_is_done_for_the_vm_it_names)
{
	START(pair_call, pair_halt);
	self->state->gpr[RBX] = 1;
	self->run->tdx.entry_rcx |= 1;
	EXPECT_EXIT(2, EXIT_HLT);
	EXPECT_EQ(2ULL << MSHV_TDX_ENTRY_VM_SHIFT, self->run->tdx.entry_rcx);
}

static void *ask_for_interrupts(void *argument)
{
	struct kicker *kicker = argument;
	const unsigned int want = 200;
	unsigned int i;

	for (i = 0; i < want && !kicker->stop; i++) {
		irq_proxy(kicker->pair->guest.run, VECTOR);
		/* The next one after this one was handled. */
		while (!kicker->stop && kicker->pair->data[0]->taken <= i)
			;
		kicker->flushes++;
	}
	return NULL;
}

/* Interrupts for VTL0 during endless calls: none is lost or delivered twice. */
TEST_F(pair, interrupts_for_vtl0_get_through_a_storm_of_calls)
{
	struct kicker asker = { .pair = &self->pair };
	pthread_t thread;

	START(pair_call_sti, pair_return_fast);
	ASSERT_EQ(0, pair_deliver(&self->pair));
	self->run->offload_flags = OFFLOAD;
	self->page->enable = BOTH | MSHV_VTL_SWITCH_PROXY;
	ASSERT_EQ(0, vtl_thread_anywhere(&thread, ask_for_interrupts, &asker));
	while (self->pair.data[0]->taken < 200) {
		self->state->gpr[RBX] = 1;
		EXPECT_EXIT(1, EXIT_HLT);
		self->state->rip = pair_address(&self->pair, pair_call_sti);
	}
	asker.stop = 1;
	pthread_join(thread, NULL);
	EXPECT_EQ(200, self->pair.data[0]->taken);
	EXPECT_EQ(0, self->pair.data[1]->taken);
}

TEST_HARNESS_MAIN
