// SPDX-License-Identifier: GPL-2.0
/*
 * Rights of the lower VTL that are revoked: each processor has to flush, and
 * one that does not can still use them. Hardware may drop a translation
 * earlier; the emulator does not.
 */
#include "vtl_harness.h"
#include "vtl_util.h"

#define INVALIDATE 1ULL
#define CPUS 2

FIXTURE(rights)
{
	struct vtl_guest guests[CPUS];
	uint64_t gpa;
	volatile uint32_t *page;
};

FIXTURE_SETUP(rights)
{
	uint64_t base, size;
	int cpu;

	if (!vtl_memory(&base, &size) || size < 4 * VTL_LARGE_SIZE)
		SKIP(return,
			   "no vtl0_mem= of 8 MiB or more on the kernel command line");
	if (vtl_pin(1))
		SKIP(return, "no second CPU");
	self->gpa = base + 2 * VTL_LARGE_SIZE;
	for (cpu = 0; cpu < CPUS; cpu++) {
		struct vtl_guest *guest = &self->guests[cpu];

		ASSERT_EQ(0, vtl_guest_open(guest, cpu))
		{
			TH_LOG("%s", guest->why);
		}
		ASSERT_EQ(0, vtl_guest_load(guest, vtl_guest_store,
					    vtl_guest_store_end))
		{
			TH_LOG("%s", guest->why);
		}
	}
	ASSERT_EQ(0, vtl_accept(self->guests[0].fd, self->gpa, VTL_LARGE_SIZE));
	self->page = vtl_map_low(self->gpa, VTL_LARGE_SIZE);
	ASSERT_NE(MAP_FAILED, (void *)self->page);
}

FIXTURE_TEARDOWN(rights)
{
	int cpu;

	munmap((void *)self->page, VTL_LARGE_SIZE);
	for (cpu = 0; cpu < CPUS; cpu++)
		vtl_guest_close(&self->guests[cpu]);
}

/* Lets the guest of a CPU store a value; returns why it left. */
static unsigned int store(struct vtl_guest *guest, uint64_t gpa, uint32_t value,
			  uint64_t invalidate)
{
	volatile struct mshv_vtl_run *run = guest->run;

	vtl_pin(guest->cpu);
	run->tdx.l2_enter_guest_state.rip = guest->base;
	run->tdx.l2_enter_guest_state.gpr[RAX] = value;
	run->tdx.l2_enter_guest_state.gpr[RBX] = gpa;
	run->tdx.entry_rcx |= invalidate;
	return vtl_run(guest) ? ~0U : vtl_exit_reason(guest);
}

static int set_rights(struct vtl_guest *guest, uint64_t gpa,
		      unsigned int rights)
{
	vtl_pin(guest->cpu);
	return vtl_set_rights(guest->fd, gpa, VTL_LARGE_SIZE, rights);
}

TEST_F(rights, a_cpu_that_forgets_the_flush_still_writes)
{
	struct vtl_guest *first = &self->guests[0], *other = &self->guests[1];

	ASSERT_EQ(0, set_rights(first, self->gpa, RIGHTS_ALL));
	ASSERT_EQ(EXIT_HLT, store(first, self->gpa, 1, INVALIDATE));
	ASSERT_EQ(EXIT_HLT, store(other, self->gpa, 2, INVALIDATE));
	EXPECT_EQ(2, *self->page);
	ASSERT_EQ(0, set_rights(first, self->gpa, RIGHT_READ));
	EXPECT_EQ(EXIT_EPT_VIOLATION, store(first, self->gpa, 3, INVALIDATE));
	EXPECT_EQ(2, *self->page);

	EXPECT_EQ(EXIT_HLT, store(other, self->gpa, 4, 0));
	EXPECT_EQ(4, *self->page);
	EXPECT_EQ(EXIT_EPT_VIOLATION, store(other, self->gpa, 5, INVALIDATE));
	EXPECT_EQ(4, *self->page);
}

TEST_F(rights, a_right_that_every_cpu_flushes_is_gone)
{
	int cpu;

	ASSERT_EQ(0, set_rights(&self->guests[0], self->gpa, RIGHTS_ALL));
	for (cpu = 0; cpu < CPUS; cpu++)
		ASSERT_EQ(EXIT_HLT,
			  store(&self->guests[cpu], self->gpa, 1, INVALIDATE));
	ASSERT_EQ(0, set_rights(&self->guests[0], self->gpa, 0));
	for (cpu = 0; cpu < CPUS; cpu++)
		EXPECT_EQ(EXIT_EPT_VIOLATION,
			  store(&self->guests[cpu], self->gpa, 2, INVALIDATE));
	EXPECT_EQ(1, *self->page);
	/* A violation ends what its CPU held, flush or not. */
	for (cpu = 0; cpu < CPUS; cpu++)
		EXPECT_EQ(EXIT_EPT_VIOLATION,
			  store(&self->guests[cpu], self->gpa, 3, 0));
}

TEST_HARNESS_MAIN
