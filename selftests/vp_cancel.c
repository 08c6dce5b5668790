// SPDX-License-Identifier: GPL-2.0
/* The cancel flag of the run page: EINTR, and no wake-up is lost. */
#include <pthread.h>

#include "vtl_harness.h"
#include "vtl_util.h"

FIXTURE(cancel)
{
	struct vtl_guest guest;
};

FIXTURE_SETUP(cancel)
{
	uint64_t base, size;

	if (!vtl_memory(&base, &size))
		SKIP(return, "no vtl0_mem= on the kernel command line");
	ASSERT_EQ(0, vtl_guest_open(&self->guest, 0))
	{
		TH_LOG("%s", self->guest.why);
	}
}

FIXTURE_TEARDOWN(cancel)
{
	vtl_guest_close(&self->guest);
}

#define LOAD(name)                                                            \
	do {                                                                  \
		const char *_why = self->guest.why;                           \
		int _result = vtl_guest_load(&self->guest, name, name##_end); \
		ASSERT_EQ(0, _result)                                         \
		{                                                             \
			TH_LOG("%s", _why);                                   \
		}                                                             \
	} while (0)

TEST_F(cancel, set_before_the_run_it_keeps_the_guest_out)
{
	uint64_t rip;

	LOAD(vtl_guest_registers);
	rip = self->guest.run->tdx.l2_enter_guest_state.rip;
	self->guest.run->cancel = 1;
	EXPECT_EQ(-EINTR, vtl_enter(&self->guest));
	EXPECT_EQ(rip, self->guest.run->tdx.l2_enter_guest_state.rip);
	/* The kernel does not clear it. */
	EXPECT_EQ(1, self->guest.run->cancel);
	EXPECT_EQ(-EINTR, vtl_enter(&self->guest));
}

TEST_F(cancel, cleared_it_is_forgotten)
{
	LOAD(vtl_guest_registers);
	self->guest.run->cancel = 1;
	EXPECT_EQ(-EINTR, vtl_enter(&self->guest));
	self->guest.run->cancel = 0;
	ASSERT_EQ(0, vtl_run(&self->guest));
	EXPECT_EQ(EXIT_HLT, vtl_exit_reason(&self->guest));
}

TEST_F(cancel, a_cancelled_run_keeps_its_flush_request)
{
	LOAD(vtl_guest_registers);
	self->guest.run->cancel = 1;
	EXPECT_EQ(-EINTR, vtl_enter(&self->guest));
	EXPECT_EQ(1, self->guest.run->tdx.entry_rcx & MSHV_TDX_ENTRY_INVD_MASK);
}

static void *cancel_soon(void *argument)
{
	struct vtl_guest *guest = argument;

	usleep(100 * 1000);
	guest->run->cancel = 1;
	return NULL;
}

TEST_F(cancel, set_by_another_thread_it_stops_a_spinning_guest)
{
	pthread_t thread;
	int round;

	LOAD(vtl_guest_spin);
	for (round = 0; round < 3; round++) {
		uint64_t before =
			self->guest.run->tdx.l2_enter_guest_state.gpr[RAX];

		ASSERT_EQ(0, vtl_thread_anywhere(&thread, cancel_soon,
						 &self->guest));
		EXPECT_EQ(-EINTR, vtl_enter(&self->guest));
		pthread_join(thread, NULL);
		EXPECT_EQ(1, self->guest.run->cancel);
		/* It ran, and its state was saved. */
		EXPECT_NE(before,
			  self->guest.run->tdx.l2_enter_guest_state.gpr[RAX]);
		self->guest.run->cancel = 0;
	}
}

TEST_HARNESS_MAIN
