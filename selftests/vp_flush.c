// SPDX-License-Identifier: GPL-2.0
/*
 * WBINVD and WBNOINVD of a guest: userspace requests the flush in the run page,
 * and the kernel asks the host for it, once. The host counts.
 */
#include "debug_port.h"
#include "vtl_harness.h"
#include "vtl_util.h"

#define WRITE_BACKS(answer) ((answer) >> 4)
#define INVALIDATIONS(answer) ((answer) & 0xf)

FIXTURE(flush)
{
	struct vtl_guest guest;
};

FIXTURE_SETUP(flush)
{
	uint64_t base, size;

	if (!vtl_memory(&base, &size))
		SKIP(return, "no vtl0_mem= on the kernel command line");
	if (debug_port(ACTION_FLUSHES, 0) == ANSWER_NONE)
		SKIP(return, "no debug port to ask the host by");
	ASSERT_EQ(0, vtl_guest_open(&self->guest, 0));
	ASSERT_EQ(0, vtl_guest_load(&self->guest, vtl_guest_registers,
				    vtl_guest_registers_end));
	/* Discards what the kernel itself has requested. */
	debug_port(ACTION_FLUSHES, 0);
}

FIXTURE_TEARDOWN(flush)
{
	vtl_guest_close(&self->guest);
}

#define FLAGS self->guest.run->tdx.vp_state.flags

TEST_F(flush, wbinvd_is_done_once_and_the_guest_goes_on)
{
	FLAGS = MSHV_TDX_VP_WBINVD;
	ASSERT_EQ(0, vtl_run(&self->guest));
	EXPECT_EQ(EXIT_HLT, vtl_exit_reason(&self->guest));
	EXPECT_EQ(0, FLAGS);
	EXPECT_EQ(1, debug_port(ACTION_FLUSHES, 0));

	vtl_step_over(&self->guest);
	self->guest.run->cancel = 1;
	EXPECT_EQ(-EINTR, vtl_enter(&self->guest));
	EXPECT_EQ(0, debug_port(ACTION_FLUSHES, 0));
}

TEST_F(flush, wbnoinvd_keeps_the_lines)
{
	int answer;

	FLAGS = MSHV_TDX_VP_WBNOINVD;
	ASSERT_EQ(0, vtl_run(&self->guest));
	answer = debug_port(ACTION_FLUSHES, 0);
	EXPECT_EQ(1, WRITE_BACKS(answer));
	EXPECT_EQ(0, INVALIDATIONS(answer));
	EXPECT_EQ(0, FLAGS);
}

TEST_F(flush, both_are_done_by_the_stronger_one)
{
	FLAGS = MSHV_TDX_VP_WBINVD | MSHV_TDX_VP_WBNOINVD;
	ASSERT_EQ(0, vtl_run(&self->guest));
	EXPECT_EQ(1, debug_port(ACTION_FLUSHES, 0));
	EXPECT_EQ(0, FLAGS);
}

TEST_F(flush, a_halted_guest_has_it_done_as_well)
{
	FLAGS = MSHV_TDX_VP_WBINVD;
	self->guest.run->flags = MSHV_VTL_RUN_HALTED;
	self->guest.run->tdx.l2_tsc_deadline.deadline = 1;
	self->guest.run->tdx.l2_tsc_deadline.update = 1;
	ASSERT_EQ(0, vtl_enter(&self->guest));
	EXPECT_EQ(1, debug_port(ACTION_FLUSHES, 0));
	EXPECT_EQ(0, FLAGS);
}

TEST_F(flush, other_flags_are_refused_and_nothing_is_flushed)
{
	FLAGS = MSHV_TDX_VP_WBINVD | 4;
	EXPECT_EQ(-EINVAL, vtl_enter(&self->guest));
	EXPECT_EQ(MSHV_TDX_VP_WBINVD | 4, FLAGS);
	EXPECT_EQ(0, debug_port(ACTION_FLUSHES, 0));
	FLAGS = 0;
}

TEST_HARNESS_MAIN
