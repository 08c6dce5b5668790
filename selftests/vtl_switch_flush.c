// SPDX-License-Identifier: GPL-2.0
/*
 * VTLs of two VPs that call each other at the same time, while the test takes rights away
 * from one of the VTLs, and has other work to do on both CPUs.
 */
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>

#include "two_vps.h"

#define REVOCATIONS 20

/* Page of 2 MiB that each VTL may write to, next to that of the VTLs. */
static volatile uint64_t *open_word(struct vtl_pair *pair, int vm,
				    uint64_t *gpa)
{
	volatile uint64_t *word;

	*gpa = (pair->memory & -VTL_LARGE_SIZE) + VTL_LARGE_SIZE;
	if (vtl_accept(pair->guest.fd, *gpa, VTL_LARGE_SIZE) ||
	    vtl_set_rights_of(pair->guest.fd, vm, *gpa, VTL_LARGE_SIZE,
			      RIGHTS_ALL))
		return NULL;
	word = vtl_map_low(*gpa, VTL_PAGE_SIZE);
	return word == MAP_FAILED ? NULL : word;
}

/* Has the VPs forget what VM @vm had, and waits. */
static int revoke_right(struct runner *vps, int vm, uint64_t gpa)
{
	uint64_t mask = (1 << VPS) - 1;
	struct mshv_kick_cpus kick = { .len_bits = 64,
				       .cpu_mask = (uintptr_t)&mask,
				       .flags = MSHV_KICK_WAIT };
	int cpu;

	if (vtl_set_rights_of(vps[0].pair.guest.fd, vm, gpa, VTL_LARGE_SIZE,
			      RIGHT_READ))
		return -1;
	for (cpu = 0; cpu < VPS; cpu++)
		__atomic_fetch_add(&vps[cpu].pair.page->flush[vm], 1,
				   __ATOMIC_SEQ_CST);
	return ioctl(vps[0].pair.guest.fd, MSHV_KICK_CPUS, &kick);
}

/* Userspace has started VTL0, which has called. */
TEST_F(two, a_right_of_a_vtl1_that_userspace_takes_for_vtl0_is_gone)
{
	struct runner *vp = &self->vps[1];
	volatile uint64_t *word;
	uint64_t gpa, seen;
	int round;

	for (round = 0; round < 5; round++) {
		word = open_word(&vp->pair, 2, &gpa);
		ASSERT_NE(NULL, (void *)word);
		ASSERT_EQ(0, start(vp, pair_vmcall, pair_store_spin));
		vp->pair.guest.run->tdx.l2_enter_guest_state.gpr[RCX] =
			CODE_CALL;
		vp->pair.guest.run->tdx.l2_enter_guest_state.gpr[RDI] = gpa;
		*word = 0;
		ASSERT_EQ(0, begin(vp));
		while (!*word)
			;
		ASSERT_EQ(0, revoke_right(self->vps, 2, gpa));
		seen = *word;
		usleep(20000);
		EXPECT_EQ(seen, *word);
		pthread_join(vp->thread, NULL);
		EXPECT_EQ(0, vp->result);
		EXPECT_EQ(EXIT_EPT_VIOLATION, vtl_exit_reason(&vp->pair.guest));
		EXPECT_EQ(2, pair_vm(&vp->pair));
		EXPECT_EQ(vp->pair.page->flush[2], vp->pair.page->flushed[2]);
		munmap((void *)word, VTL_PAGE_SIZE);
	}
}

TEST_F(two, no_right_of_vtl0_outlives_a_flush_while_two_vps_call)
{
	volatile uint64_t *word;
	uint64_t gpa, seen[VPS];
	int round, cpu;

	for (round = 0; round < REVOCATIONS; round++) {
		word = open_word(&self->vps[0].pair, 1, &gpa);
		ASSERT_NE(NULL, (void *)word);
		for (cpu = 0; cpu < VPS; cpu++) {
			struct runner *vp = &self->vps[cpu];

			ASSERT_EQ(0,
				  start(vp, pair_store_call, pair_return_fast));
			vp->pair.guest.run->tdx.l2_enter_guest_state.gpr[RDI] =
				gpa + 64 * cpu;
			word[8 * cpu] = 0;
			ASSERT_EQ(0, begin(vp));
		}
		ASSERT_EQ(0, vtl_pin(round % VPS));
		while (word[0] < 2 || word[8] < 2)
			;
		usleep(100 * round);
		ASSERT_EQ(0, revoke_right(self->vps, 1, gpa));
		for (cpu = 0; cpu < VPS; cpu++)
			seen[cpu] = word[8 * cpu];
		usleep(5000);
		for (cpu = 0; cpu < VPS; cpu++) {
			struct runner *vp = &self->vps[cpu];

			EXPECT_EQ(seen[cpu], word[8 * cpu]);
			pthread_join(vp->thread, NULL);
			EXPECT_EQ(0, vp->result);
			EXPECT_EQ(EXIT_EPT_VIOLATION,
				  vtl_exit_reason(&vp->pair.guest));
			EXPECT_EQ(1, pair_vm(&vp->pair));
		}
		munmap((void *)word, VTL_PAGE_SIZE);
	}
}

static double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec + now.tv_nsec * 1e-9;
}

static void *nap(void *argument)
{
	int *naps = argument;

	for (; *naps; --*naps)
		usleep(1000);
	return NULL;
}

/* On each CPU another task of VTL2 runs, and both VPs can be stopped. */
TEST_F(two, a_storm_of_calls_on_all_vps_leaves_vtl2_responsive)
{
	int cpu, naps[VPS] = { 50, 50 };
	pthread_t nappers[VPS];
	uint64_t turns[VPS];
	double begun;

	for (cpu = 0; cpu < VPS; cpu++) {
		ASSERT_EQ(0, start(&self->vps[cpu], pair_call_forever,
				   pair_return_fast));
		ASSERT_EQ(0, begin(&self->vps[cpu]));
	}
	for (cpu = 0; cpu < VPS; cpu++) {
		wait_for_turns(&self->vps[cpu], 10);
		turns[cpu] = self->vps[cpu].pair.data[0]->turns;
	}
	begun = seconds();
	for (cpu = 0; cpu < VPS; cpu++)
		ASSERT_EQ(0,
			  vtl_thread_on(&nappers[cpu], cpu, nap, &naps[cpu]));
	for (cpu = 0; cpu < VPS; cpu++)
		pthread_join(nappers[cpu], NULL);
	/* A nap of a millisecond takes some on a slow machine, and no second. */
	EXPECT_GT(20, seconds() - begun);
	for (cpu = 0; cpu < VPS; cpu++) {
		EXPECT_LT(turns[cpu], self->vps[cpu].pair.data[0]->turns);
		EXPECT_FALSE(self->vps[cpu].is_over);
	}
	begun = seconds();
	for (cpu = 0; cpu < VPS; cpu++)
		stop(&self->vps[cpu]);
	EXPECT_GT(20, seconds() - begun);
	EXPECT_EQ(NULL, vtl_kernel_complaint());
}

TEST_HARNESS_MAIN
