// SPDX-License-Identifier: GPL-2.0
/*
 * Shared MSRs in the run page: the processor's width counts, not VTL2's paging, and
 * what the processor itself had at an exit is never refused at the next entry. With
 * no5lvl on VTL2's command line, VTL2 has four levels on a processor with five.
 */
#include <string.h>

#include "vtl_harness.h"
#include "vtl_util.h"

/* What the guest works on: see vtl_guest_msrs. */
struct msr_row {
	uint32_t index, reserved;
	uint64_t found, own;
};

static const uint32_t msrs[] = { 0xc0000082, 0xc0000102 };

#define NUM_MSRS ARRAY_SIZE(msrs)
/* Addresses of 57 bits that have no 48. */
#define LOW_57 0x0080000012345000ULL
#define HIGH_57 0xff7fffff12345000ULL
/* Not a valid address, but QEMU's processor accepts it. */
#define NONE 0x0123456789abcdefULL

FIXTURE(given)
{
	struct vtl_guest guest;
	volatile struct msr_row *rows;
};

static int let_through(struct vtl_guest *guest, bool is_free)
{
	size_t i;

	for (i = 0; i < 2 * NUM_MSRS; i++)
		if (vtl_guest_write_field(guest,
					  FIELD_MSR_BITMAP(MSR_BITMAP_WORD(
						  msrs[i / 2], i % 2)),
					  is_free ? 0 : ~0ULL,
					  1ULL << msrs[i / 2] % 64))
			return -1;
	return 0;
}

/* Lets the guest write @lstar and @gs_base; returns the exit's reason or -errno. */
static int run_with(struct vtl_guest *guest, volatile struct msr_row *rows,
		    uint64_t lstar, uint64_t gs_base)
{
	volatile struct mshv_vtl_run *run = guest->run;
	uint64_t state[2] = { run->tdx.vp_state.msr_lstar,
			      run->tdx.vp_state.msr_kernel_gs_base };
	uint64_t gpa = guest->base + (1 + guest->cpu) * VTL_PAGE_SIZE;
	int result;

	if (vtl_guest_load(guest, vtl_guest_msrs, vtl_guest_msrs_end))
		return -EIO;
	run->tdx.vp_state.msr_lstar = state[0];
	run->tdx.vp_state.msr_kernel_gs_base = state[1];
	memset((void *)rows, 0, NUM_MSRS * sizeof(*rows));
	rows[0].index = msrs[0];
	rows[0].own = lstar;
	rows[1].index = msrs[1];
	rows[1].own = gs_base;
	run->tdx.l2_enter_guest_state.gpr[RBX] = gpa;
	run->tdx.l2_enter_guest_state.gpr[RBP] = gpa + NUM_MSRS * sizeof(*rows);
	run->tdx.l2_enter_guest_state.gpr[RSI] = 1;
	result = vtl_run(guest);
	return result ? result : (int)vtl_exit_reason(guest);
}

FIXTURE_SETUP(given)
{
	uint64_t base, size;

	if (!vtl_memory(&base, &size))
		SKIP(return, "no vtl0_mem= on the kernel command line");
	ASSERT_EQ(0, vtl_guest_open(&self->guest, 0))
	{
		TH_LOG("%s", self->guest.why);
	}
	self->rows = vtl_map_low(base + VTL_PAGE_SIZE, VTL_PAGE_SIZE);
	ASSERT_NE(MAP_FAILED, (void *)self->rows);
	ASSERT_EQ(0, let_through(&self->guest, true));
}

/* As before: the VP outlives the test. */
FIXTURE_TEARDOWN(given)
{
	self->guest.run->tdx.vp_state.msr_lstar = 0;
	self->guest.run->tdx.vp_state.msr_kernel_gs_base = 0;
	EXPECT_EQ(EXIT_HLT, run_with(&self->guest, self->rows, 0, 0));
	EXPECT_EQ(0, let_through(&self->guest, false));
	vtl_guest_close(&self->guest);
}

TEST_F(given, addresses_of_57_bits_can_be_entered_again)
{
	volatile struct mshv_vtl_run *run = self->guest.run;
	int reason = run_with(&self->guest, self->rows, LOW_57, HIGH_57);

	if (reason == EXIT_TRIPLE_FAULT)
		SKIP(return, "this processor has 48 bits");
	ASSERT_EQ(EXIT_HLT, reason);
	EXPECT_EQ(LOW_57, run->tdx.vp_state.msr_lstar);
	EXPECT_EQ(HIGH_57, run->tdx.vp_state.msr_kernel_gs_base);
	ASSERT_EQ(EXIT_HLT, run_with(&self->guest, self->rows, LOW_57, 0));
	EXPECT_EQ(LOW_57, self->rows[0].found);
	EXPECT_EQ(HIGH_57, self->rows[1].found);
}

/* Userspace may set them, as it may any value that the guest could write. */
TEST_F(given, userspace_sets_what_the_processor_takes)
{
	volatile struct mshv_vtl_run *run = self->guest.run;
	int reason = run_with(&self->guest, self->rows, LOW_57, 0);

	if (reason == EXIT_TRIPLE_FAULT)
		SKIP(return, "this processor has 48 bits");
	ASSERT_EQ(EXIT_HLT, reason);
	run->tdx.vp_state.msr_lstar = HIGH_57;
	run->tdx.vp_state.msr_kernel_gs_base = LOW_57;
	ASSERT_EQ(EXIT_HLT, run_with(&self->guest, self->rows, 0, 0));
	EXPECT_EQ(HIGH_57, self->rows[0].found);
	EXPECT_EQ(LOW_57, self->rows[1].found);
	run->tdx.vp_state.msr_lstar = NONE;
	EXPECT_EQ(-EINVAL, vtl_enter(&self->guest));
	run->tdx.vp_state.msr_lstar = 0;
	run->tdx.vp_state.msr_kernel_gs_base = NONE;
	EXPECT_EQ(-EINVAL, vtl_enter(&self->guest));
}

TEST_F(given, what_the_processor_gave_is_taken_back)
{
	volatile struct mshv_vtl_run *run = self->guest.run;
	int reason = run_with(&self->guest, self->rows, NONE, 0);

	if (reason == EXIT_TRIPLE_FAULT)
		SKIP(return, "this processor refuses what is no address");
	ASSERT_EQ(EXIT_HLT, reason);
	ASSERT_EQ(NONE, run->tdx.vp_state.msr_lstar);
	ASSERT_EQ(EXIT_HLT, run_with(&self->guest, self->rows, NONE, 0));
	EXPECT_EQ(NONE, self->rows[0].found);
	/*
	 * Not another value, nor the same in another register, nor for another
	 * VM.
	 */
	run->tdx.vp_state.msr_lstar = NONE + 1;
	EXPECT_EQ(-EINVAL, vtl_enter(&self->guest));
	run->tdx.vp_state.msr_lstar = 0;
	run->tdx.vp_state.msr_kernel_gs_base = NONE;
	EXPECT_EQ(-EINVAL, vtl_enter(&self->guest));
	run->tdx.vp_state.msr_kernel_gs_base = 0;
	run->tdx.vp_state.msr_lstar = NONE;
	run->tdx.entry_rcx = 2ULL << MSHV_TDX_ENTRY_VM_SHIFT;
	EXPECT_EQ(-EINVAL, vtl_enter(&self->guest));
	run->tdx.entry_rcx = 1ULL << MSHV_TDX_ENTRY_VM_SHIFT;
	EXPECT_EQ(EXIT_HLT, run_with(&self->guest, self->rows, 0, 0));
}

TEST_HARNESS_MAIN
