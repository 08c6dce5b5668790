// SPDX-License-Identifier: GPL-2.0
/* A virtual processor belongs to one thread at a time. */
#include <pthread.h>

#include "vtl_harness.h"
#include "vtl_util.h"

FIXTURE(busy)
{
	struct vtl_guest guest;
};

FIXTURE_SETUP(busy)
{
	uint64_t base, size;

	if (!vtl_memory(&base, &size))
		SKIP(return, "no vtl0_mem= on the kernel command line");
	ASSERT_EQ(0, vtl_guest_open(&self->guest, 0))
	{
		TH_LOG("%s", self->guest.why);
	}
	ASSERT_EQ(0, vtl_guest_load(&self->guest, vtl_guest_spin,
				    vtl_guest_spin_end))
	{
		TH_LOG("%s", self->guest.why);
	}
}

FIXTURE_TEARDOWN(busy)
{
	vtl_guest_close(&self->guest);
}

struct runner {
	struct vtl_guest *guest;
	int result;
};

static void *run(void *argument)
{
	struct runner *runner = argument;

	/* The creator's affinity is inherited: the same CPU. */
	runner->result = vtl_enter(runner->guest);
	return NULL;
}

TEST_F(busy, a_second_thread_is_refused_while_the_first_is_inside)
{
	struct runner first = { .guest = &self->guest, .result = 1 };
	int own = vtl_open(DEV_MSHV_VTL);
	struct vtl_guest other = self->guest;
	pthread_t thread;

	ASSERT_LE(0, own);
	ASSERT_EQ(0, pthread_create(&thread, NULL, run, &first));
	usleep(200 * 1000);
	EXPECT_EQ(-EBUSY, vtl_enter(&self->guest));
	/* Nor through another file. */
	other.fd = own;
	EXPECT_EQ(-EBUSY, vtl_enter(&other));
	self->guest.run->cancel = 1;
	pthread_join(thread, NULL);
	EXPECT_EQ(-EINTR, first.result);
	close(own);
}

TEST_F(busy, it_is_free_again_afterwards)
{
	struct runner first = { .guest = &self->guest, .result = 1 };
	pthread_t thread;

	ASSERT_EQ(0, pthread_create(&thread, NULL, run, &first));
	usleep(100 * 1000);
	self->guest.run->cancel = 1;
	pthread_join(thread, NULL);
	self->guest.run->cancel = 0;
	ASSERT_EQ(0, vtl_guest_load(&self->guest, vtl_guest_registers,
				    vtl_guest_registers_end));
	ASSERT_EQ(0, vtl_run(&self->guest));
	EXPECT_EQ(EXIT_HLT, vtl_exit_reason(&self->guest));
}

TEST_F(busy, another_processor_is_not_affected)
{
	struct runner first = { .guest = &self->guest, .result = 1 };
	struct vtl_guest other;
	pthread_t thread;

	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		SKIP(return, "needs a second CPU");
	ASSERT_EQ(0, pthread_create(&thread, NULL, run, &first));
	usleep(100 * 1000);
	/* Same guest code, on the next virtual processor. */
	ASSERT_EQ(0, vtl_guest_open(&other, 1))
	{
		TH_LOG("%s", other.why);
	}
	ASSERT_EQ(0, vtl_guest_start(&other))
	{
		TH_LOG("%s", other.why);
	}
	other.run->cancel = 1;
	EXPECT_EQ(-EINTR, vtl_enter(&other));
	EXPECT_EQ(1, first.result);
	self->guest.run->cancel = 1;
	pthread_join(thread, NULL);
	EXPECT_EQ(-EINTR, first.result);
	vtl_guest_close(&other);
}

TEST_HARNESS_MAIN
