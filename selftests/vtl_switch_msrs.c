// SPDX-License-Identifier: GPL-2.0
/*
 * MSRs that have no field in run page and switch page: the kernel keeps a value for
 * each VTL across a switch; and XSS. As vp_msrs, for an emulator with emu.extra_msrs=1.
 */
#include <inttypes.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vtl_harness.h"
#include "vtl_pair.h"

/* In the order of pair_kept_vtl0, with a value for each VTL. */
static const struct {
	uint32_t index;
	uint64_t own[2];
} msrs[] = {
	{ 0x48, { 1, 4 } }, /* SPEC_CTRL */
	{ 0xe1, { 0x1000, 0x54321000 } }, /* UMWAIT_CONTROL */
	{ 0x122, { 2, 1 } }, /* TSX_CTRL */
	{ 0x1c4, { 1 << 18, 0 } }, /* XFD */
	{ 0x1c5, { 0, 1 << 18 } }, /* XFD_ERR */
	{ 0x6a0, { 3, 0x7000123400000c01 } }, /* U_CET */
	{ 0x6a4, { 0xffff800000001000, 0xffff900000002008 } }, /* PL0_SSP */
	{ 0x6a5, { 0x1111111111110, 0x2222222222220 } }, /* PL1_SSP */
	{ 0x6a6, { 0x3333333333330, 0x4444444444440 } }, /* PL2_SSP */
	{ 0x6a7, { 0x7fff00001000, 0x7ffe00002008 } }, /* PL3_SSP */
};

/* After them, XSS: it has a field, and a VTL may only read it. */
#define MSR_XSS 0xda0
#define XSS_PLACE ARRAY_SIZE(msrs)
static const uint64_t xss[2] = { 3 << 11, 1 << 11 };

FIXTURE(kept)
{
	struct vtl_pair pair;
	int fd;
	uint64_t before[ARRAY_SIZE(msrs)];
};

/* Lets both VTLs access them without an exit, or removes that. */
static int let_through(struct vtl_pair *pair, bool is_free)
{
	unsigned int i;

	for (i = 0; i < 4 * ARRAY_SIZE(msrs); i++) {
		const uint32_t msr = msrs[i / 4].index;

		if (pair_write_field(
			    pair, 1 + i / 2 % 2,
			    FIELD_MSR_BITMAP(MSR_BITMAP_WORD(msr, i % 2)),
			    is_free ? 0 : ~0ULL, 1ULL << msr % 64))
			return -1;
	}
	for (i = 1; i <= 2; i++)
		if (pair_write_field(
			    pair, i,
			    FIELD_MSR_BITMAP(MSR_BITMAP_WORD(MSR_XSS, 0)),
			    is_free ? 0 : ~0ULL, 1ULL << MSR_XSS % 64))
			return -1;
	return 0;
}

FIXTURE_SETUP(kept)
{
	struct mshv_vtl_head head = { .size = sizeof(head) };
	uint64_t base, size;
	size_t i;

	if (!vtl_memory(&base, &size))
		SKIP(return, "no vtl0_mem= on the kernel command line");
	ASSERT_EQ(0, vtl_pin(0));
	self->fd = vtl_open_msrs(0);
	if (self->fd < 0)
		SKIP(return, "no MSR driver");
	for (i = 0; i < ARRAY_SIZE(msrs); i++)
		if (pread(self->fd, &self->before[i], 8, msrs[i].index) != 8)
			SKIP(return, "this processor has not all of the MSRs");
	ASSERT_EQ(0, pair_open(&self->pair, 0))
	{
		TH_LOG("%s", self->pair.guest.why);
	}
	ASSERT_EQ(0, ioctl(self->pair.guest.fd, MSHV_VTL_RESET, &head));
	ASSERT_EQ(0, pair_set_up(&self->pair, self->pair.assist));
	ASSERT_EQ(0, let_through(&self->pair, true));
}

static void set_lists(struct vtl_pair *pair, bool is_zero)
{
	size_t i;

	for (i = 0; i < 2 * ARRAY_SIZE(msrs); i++)
		pair->data[i % 2]->to_load[i / 2] =
			is_zero ? 0 : msrs[i / 2].own[i % 2];
}

/* Runs VTL0's part of pair_kept_vtl0 once, with a call in the middle. */
static int run_once(struct vtl_pair *pair)
{
	volatile struct mshv_tdx_l2_enter_guest_state *state =
		&pair->guest.run->tdx.l2_enter_guest_state;

	state->rip = pair_address(pair, pair_kept_vtl0);
	state->gpr[RSI] = pair_gpa(pair, pair->data[0]);
	state->gpr[RDI] = pair_gpa(pair, pair->data[1]);
	return vtl_run(&pair->guest) ||
	       vtl_exit_reason(&pair->guest) != EXIT_HLT || pair_vm(pair) != 1;
}

/* As before: VP and processor outlive the test. */
FIXTURE_TEARDOWN(kept)
{
	set_lists(&self->pair, true);
	EXPECT_EQ(0, run_once(&self->pair));
	EXPECT_EQ(0, let_through(&self->pair, false));
	pair_close(&self->pair);
	close(self->fd);
}

TEST_F(kept, each_vtl_finds_its_own_and_vtl2_has_what_it_had)
{
	uint64_t value, before_xss;
	unsigned int turn;
	size_t i;

	ASSERT_EQ(8, pread(self->fd, &before_xss, 8, MSR_XSS));
	ASSERT_EQ(0, pair_start(&self->pair, pair_kept_vtl0, pair_kept_vtl1));
	set_lists(&self->pair, false);
	self->pair.guest.run->tdx.vp_state.msr_xss = xss[0];
	self->pair.page->parked[1].msr_xss = xss[1];
	for (turn = 0; turn < 3; turn++) {
		ASSERT_EQ(0, run_once(&self->pair));
		for (i = 0; i < ARRAY_SIZE(msrs); i++) {
			/* After the call VTL0 reads what it loaded before. */
			EXPECT_EQ(msrs[i].own[0], self->pair.data[0]->loaded[i])
			{
				TH_LOG("VTL0, MSR %x", msrs[i].index);
			}
			/* VTL1 reads what it loaded in the previous call. */
			EXPECT_EQ(turn ? msrs[i].own[1] : 0,
				  self->pair.data[1]->loaded[i])
			{
				TH_LOG("VTL1, MSR %x", msrs[i].index);
			}
			ASSERT_EQ(8, pread(self->fd, &value, 8, msrs[i].index));
			EXPECT_EQ(self->before[i], value);
		}
		for (i = 0; i < 2; i++)
			EXPECT_EQ(xss[i],
				  self->pair.data[i]->loaded[XSS_PLACE]);
		EXPECT_EQ(xss[0], self->pair.guest.run->tdx.vp_state.msr_xss);
		EXPECT_EQ(xss[1], self->pair.page->parked[1].msr_xss);
		ASSERT_EQ(8, pread(self->fd, &value, 8, MSR_XSS));
		EXPECT_EQ(before_xss, value);
	}
}

TEST_HARNESS_MAIN
