// SPDX-License-Identifier: GPL-2.0
/*
 * VTLs that call each other while somebody changes what a switch needs: the words
 * that userspace enables switches with, VTL1's VP assist page, the rights of VTL0,
 * and whether the run shall go on at all.
 */
#include <pthread.h>
#include <unistd.h>

#include "pair_fixture.h"

#define TURNS 3000
#define BOTH (MSHV_VTL_SWITCH_CALL | MSHV_VTL_SWITCH_RETURN)
#define HIGH (1ULL << 63)

/* What another thread does while the VTLs run. */
struct neighbour {
	struct vtl_pair *pair;
	uint64_t turns;
	volatile int is_over;
};

/* Waits until VTL0 has called since then. */
static void wait_for_calls(const struct neighbour *neighbour)
{
	while (neighbour->pair->data[0]->turns < neighbour->turns + 10)
		usleep(1000);
}

static void *kick_soon(void *argument)
{
	struct neighbour *neighbour = argument;

	wait_for_calls(neighbour);
	vtl_kick(&neighbour->pair->guest, MSHV_KICK_CANCEL);
	return NULL;
}

/* A cancellation without a kick ends a run all the same that makes calls. */
static void *cancel_soon(void *argument)
{
	struct neighbour *neighbour = argument;

	wait_for_calls(neighbour);
	neighbour->pair->guest.run->cancel = 1;
	return NULL;
}

TEST_F(pair, each_way_to_cancel_ends_endless_calls)
{
	static void *(*const ways[])(void *) = { kick_soon, cancel_soon };
	struct neighbour neighbour = { .pair = &self->pair };
	pthread_t thread;
	int round;

	START(pair_call, pair_return_fast);
	self->state->gpr[RBX] = 0;
	vtl_catch_alarms();
	for (round = 0; round < 10; round++) {
		ASSERT_EQ(0, vtl_thread_on(&thread, 1, ways[round % 2],
					   &neighbour));
		vtl_alarm_ms(20000);
		ASSERT_EQ(-EINTR, vtl_enter(&self->pair.guest));
		pthread_join(thread, NULL);
		EXPECT_EQ(1, self->run->cancel);
		self->run->cancel = 0;
		EXPECT_EQ(self->page->active_vm, pair_vm(&self->pair));
		neighbour.turns = self->pair.data[0]->turns;
	}
	vtl_alarm_ms(0);
}

static void *spoil_enable(void *argument)
{
	struct neighbour *neighbour = argument;

	while (!neighbour->pair->data[0]->turns)
		;
	neighbour->pair->page->enable = 1U << 31 | BOTH;
	return NULL;
}

/* Bits that there are not enable nothing; what follows is told exactly. */
TEST_F(pair, a_wrong_enable_in_mid_run_disables_and_the_next_run_refuses)
{
	struct neighbour neighbour = { .pair = &self->pair };
	pthread_t thread;
	unsigned int vm;

	START(pair_call, pair_return_fast);
	self->state->gpr[RBX] = 100 * TURNS;
	ASSERT_EQ(0, vtl_thread_on(&thread, 1, spoil_enable, &neighbour));
	ASSERT_EQ(0, vtl_run(&self->pair.guest));
	pthread_join(thread, NULL);
	vm = pair_vm(&self->pair);
	EXPECT_EQ(EXIT_VMCALL, vtl_exit_reason(&self->pair.guest));
	EXPECT_EQ(MSHV_VTL_LEFT_DISABLED, self->page->left);
	EXPECT_EQ(vm == 1 ? CODE_CALL : CODE_RETURN, self->state->gpr[RCX]);
	EXPECT_LT(self->pair.data[0]->turns, 100 * TURNS);
	EXPECT_EQ(-EINVAL, vtl_enter(&self->pair.guest));
	/* The call or return is carried out after all. */
	self->page->enable = BOTH;
	self->state->gpr[RBX] = 1;
	ASSERT_EQ(0, vtl_run(&self->pair.guest));
	EXPECT_EQ(EXIT_HLT, vtl_exit_reason(&self->pair.guest));
	EXPECT_EQ(1, pair_vm(&self->pair));
}

static void *write_assist(void *argument)
{
	static const uint64_t words[2][2] = {
		{ HIGH | 0xa, HIGH | 0xaa },
		{ HIGH | 0xb, HIGH | 0xbb },
	};
	struct neighbour *neighbour = argument;
	volatile uint8_t *assist = neighbour->pair->assist;
	unsigned int turn;

	for (turn = 0; !neighbour->is_over; turn++) {
		*(volatile uint64_t *)(assist + ASSIST_RAX) =
			words[turn & 1][0];
		*(volatile uint64_t *)(assist + ASSIST_RCX) =
			words[turn & 1][1];
		assist[ASSIST_VINA] = turn & 1 ? 1 : 0xff;
		*(volatile uint32_t *)(assist + ASSIST_ENTRY_REASON) = ~0U;
	}
	return NULL;
}

/* As VTL0 could, if VTL1 gave it the right to. */
TEST_F(pair, a_page_that_changes_all_the_time_harms_nobody_but_vtl0)
{
	const uint64_t before = pair_stats(&self->pair).vtl_returns;
	struct neighbour neighbour = { .pair = &self->pair };
	pthread_t thread;

	START(pair_call, pair_return);
	self->page->enable = BOTH | MSHV_VTL_SWITCH_VINA |
			     MSHV_VTL_SWITCH_VINA_AUTO_RESET;
	self->state->gpr[RBX] = TURNS;
	ASSERT_EQ(0, vtl_thread_on(&thread, 1, write_assist, &neighbour));
	ASSERT_EQ(0, vtl_run(&self->pair.guest));
	neighbour.is_over = 1;
	pthread_join(thread, NULL);
	EXPECT_EQ(EXIT_HLT, vtl_exit_reason(&self->pair.guest));
	EXPECT_EQ(1, pair_vm(&self->pair));
	EXPECT_EQ(TURNS, self->pair.data[0]->turns);
	EXPECT_EQ(before + TURNS, pair_stats(&self->pair).vtl_returns);
	EXPECT_TRUE(self->state->gpr[RAX] == (HIGH | 0xa) ||
		    self->state->gpr[RAX] == (HIGH | 0xb));
	EXPECT_TRUE(self->state->gpr[RCX] == (HIGH | 0xaa) ||
		    self->state->gpr[RCX] == (HIGH | 0xbb));
	/* VTL1 is where its return has left it. */
	EXPECT_EQ(pair_address(&self->pair, pair_return) + 10,
		  self->page->parked[1].rip);
}

/* The exit is VTL0's, and VTL1 has returned. */
TEST_F(pair, a_vtl0_that_may_not_execute_its_page_exits_after_the_return)
{
	const uint64_t before = pair_stats(&self->pair).vtl_fast_returns;
	const uint64_t base = self->pair.memory & -VTL_LARGE_SIZE;
	const int fd = self->pair.guest.fd;

	START(pair_halt, pair_return_fast);
	pair_exchange(&self->pair);
	/* Its page tables lie there as well. */
	ASSERT_EQ(0, vtl_set_rights(fd, base, VTL_LARGE_SIZE,
				    RIGHT_READ | RIGHT_WRITE));
	self->page->flush[1]++;
	ASSERT_EQ(0, vtl_run(&self->pair.guest));
	EXPECT_EQ(EXIT_EPT_VIOLATION, vtl_exit_reason(&self->pair.guest));
	EXPECT_EQ(1, pair_vm(&self->pair));
	EXPECT_EQ(1, self->page->active_vm);
	EXPECT_EQ(pair_address(&self->pair, pair_halt), self->state->rip);
	EXPECT_EQ(1, self->state->gpr[RAX]);
	EXPECT_EQ(CODE_RETURN, self->state->gpr[RCX]);
	EXPECT_EQ(pair_address(&self->pair, pair_return_fast) + 13,
		  self->page->parked[1].rip);
	EXPECT_EQ(before + 1, pair_stats(&self->pair).vtl_fast_returns);
	EXPECT_EQ(0, self->page->left);
	ASSERT_EQ(0, vtl_set_rights(fd, base, VTL_LARGE_SIZE, RIGHTS_ALL));
	self->page->flush[1]++;
	ASSERT_EQ(0, vtl_run(&self->pair.guest));
	EXPECT_EQ(EXIT_HLT, vtl_exit_reason(&self->pair.guest));
}

TEST_HARNESS_MAIN
