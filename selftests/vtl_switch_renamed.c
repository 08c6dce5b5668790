// SPDX-License-Identifier: GPL-2.0
/*
 * Another thread writes to entry_rcx of the run page while the kernel switches: another VM,
 * none, or nonsense. No register of one VTL is used for the other.
 */
#include <pthread.h>
#include <string.h>

#include "pair_fixture.h"

/* Values of MSRs. */
#define VTL0S 0x10000
#define VTL1S 0x20000
#define OF_VM(vm) ((uint64_t)(vm) << MSHV_TDX_ENTRY_VM_SHIFT)

struct renaming {
	struct vtl_pair *pair;
	uint64_t word;
};

/* While VTL1 runs, which counts its turns in VTL0's word, as RBP is shared. */
static void *rename_vm(void *argument)
{
	struct renaming *renaming = argument;

	while (!renaming->pair->data[0]->turns)
		;
	renaming->pair->guest.run->tdx.entry_rcx = renaming->word;
	vtl_kick(&renaming->pair->guest, 0);
	return NULL;
}

/* In VTL1, after a call by the kernel: no register of one VTL is used for another VM. */
TEST_F(pair, a_run_page_that_names_another_vm_in_mid_run_is_einval)
{
	static const uint64_t words[] = {
		OF_VM(1), OF_VM(1) | 1,		 OF_VM(3),     OF_VM(0), ~0ULL,
		0,	  OF_VM(2) | 1ULL << 63, OF_VM(2) | 4,
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(words); i++) {
		struct renaming renaming = { &self->pair, words[i] };
		pthread_t thread;
		uint64_t rsp;

		START(pair_vmcall, pair_spin);
		rsp = self->state->gpr[RSP];
		self->run->tdx.vp_state.msr_kernel_gs_base = VTL0S;
		self->run->tdx.vp_state.msr_lstar = VTL0S + 1;
		self->page->parked[1].msr_kernel_gs_base = VTL1S;
		self->page->parked[1].msr_lstar = VTL1S + 1;
		self->state->gpr[RAX] = 0;
		self->state->gpr[RCX] = CODE_CALL;
		ASSERT_EQ(0, vtl_thread_on(&thread, 1, rename_vm, &renaming));
		EXPECT_EQ(-EINVAL, vtl_enter(&self->pair.guest))
		{
			TH_LOG("%zu", i);
		}
		pthread_join(thread, NULL);
		EXPECT_EQ(words[i], self->run->tdx.entry_rcx);
		EXPECT_EQ(2, self->page->active_vm);
		EXPECT_EQ(pair_address(&self->pair, pair_vmcall) + 3,
			  self->page->parked[0].rip);
		EXPECT_EQ(rsp, self->page->parked[0].rsp);
		EXPECT_EQ(VTL0S, self->page->parked[0].msr_kernel_gs_base);
		EXPECT_EQ(VTL0S + 1, self->page->parked[0].msr_lstar);
		EXPECT_EQ(TDX_L2_EXIT_PENDING_INTERRUPT,
			  self->run->tdx.exit_info.rax >> 32);
		/* VTL1 goes on, and returns. */
		self->run->tdx.entry_rcx = OF_VM(2);
		self->state->rip = pair_address(&self->pair, pair_return_fast);
		ASSERT_EQ(0, vtl_run(&self->pair.guest));
		EXPECT_EQ(EXIT_HLT, vtl_exit_reason(&self->pair.guest));
		EXPECT_EQ(1, pair_vm(&self->pair));
		EXPECT_EQ(rsp, self->state->gpr[RSP]);
		EXPECT_EQ(VTL0S, self->run->tdx.vp_state.msr_kernel_gs_base);
		EXPECT_EQ(VTL0S + 1, self->run->tdx.vp_state.msr_lstar);
		EXPECT_EQ(VTL1S, self->page->parked[1].msr_kernel_gs_base);
		EXPECT_EQ(VTL1S + 1, self->page->parked[1].msr_lstar);
	}
}

/* Writes of the other thread. */
enum writes { FORBIDDEN, ALLOWED, UNDER_WAY };

struct writer {
	struct vtl_pair *pair;
	enum writes writes;
	volatile int is_over;
	volatile uint64_t from; /* turns */
};

/* Waits until the other thread is not writing. */
static void change(struct writer *writer, enum writes from, enum writes to)
{
	enum writes expected;

	do
		expected = from;
	while (!__atomic_compare_exchange_n(&writer->writes, &expected, to, 0,
					    __ATOMIC_SEQ_CST,
					    __ATOMIC_SEQ_CST));
}

/* Only in a run that has begun, because VTL0 has made a turn since. */
static void *rename_at_random(void *argument)
{
	static const uint64_t words[] = { OF_VM(1), OF_VM(2), OF_VM(3),
					  OF_VM(1) | 1, ~0ULL };
	struct writer *writer = argument;
	unsigned int turn = 0;
	enum writes expected;

	while (!writer->is_over) {
		expected = ALLOWED;
		if (!__atomic_compare_exchange_n(&writer->writes, &expected,
						 UNDER_WAY, 0, __ATOMIC_SEQ_CST,
						 __ATOMIC_SEQ_CST))
			continue;
		if (writer->pair->data[0]->turns > writer->from)
			writer->pair->guest.run->tdx.entry_rcx =
				words[turn++ % ARRAY_SIZE(words)];
		__atomic_store_n(&writer->writes, ALLOWED, __ATOMIC_SEQ_CST);
	}
	return NULL;
}

/* At any moment of a switch: it is EINVAL, or ignored, and no turn is lost. */
TEST_F(pair, a_word_that_changes_during_a_switch_mixes_nothing)
{
	struct writer writer = { .pair = &self->pair };
	unsigned int refused = 0, runs;
	const unsigned int turns = 10000;
	pthread_t thread;
	int result;

	START(pair_call, pair_return_fast);
	self->state->gpr[RBX] = turns;
	ASSERT_EQ(0, vtl_thread_on(&thread, 1, rename_at_random, &writer));
	for (runs = 0; runs < 100000; runs++) {
		writer.from = self->pair.data[0]->turns;
		change(&writer, FORBIDDEN, ALLOWED);
		result = vtl_enter(&self->pair.guest);
		change(&writer, ALLOWED, FORBIDDEN);
		if (!result && vtl_exit_reason(&self->pair.guest) == EXIT_HLT)
			break;
		refused += result == -EINVAL;
		if (result != -EINVAL && result != -EINTR)
			ASSERT_EQ(0, self->run->tdx.exit_info.rax >> 48);
		ASSERT_LE(1, self->page->active_vm);
		ASSERT_GE(2, self->page->active_vm);
		self->run->tdx.entry_rcx = OF_VM(self->page->active_vm);
	}
	writer.is_over = 1;
	pthread_join(thread, NULL);
	TH_LOG("%u runs, %u of them refused", runs, refused);
	self->run->tdx.entry_rcx = OF_VM(self->page->active_vm);
	EXPECT_EQ(1, self->page->active_vm);
	EXPECT_EQ(turns, self->pair.data[0]->turns);
	EXPECT_EQ(0, self->state->gpr[RBX]);
	EXPECT_LT(0, refused);
}

TEST_HARNESS_MAIN
