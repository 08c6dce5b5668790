/* SPDX-License-Identifier: GPL-2.0 */
/* A pair of VTLs between which the kernel switches, for a test with the harness. */
#ifndef PAIR_FIXTURE_H
#define PAIR_FIXTURE_H

#include "vtl_harness.h"
#include "vtl_pair.h"

FIXTURE(pair)
{
	struct vtl_pair pair;
	volatile struct mshv_vtl_run *run;
	volatile struct mshv_vtl_switch_page *page;
	volatile struct mshv_tdx_l2_enter_guest_state *state;
};

FIXTURE_SETUP(pair)
{
	uint64_t base, size;

	if (!vtl_memory(&base, &size))
		SKIP(return, "no vtl0_mem= on the kernel command line");
	ASSERT_EQ(0, pair_open(&self->pair, 0))
	{
		TH_LOG("%s", self->pair.guest.why);
	}
	self->run = self->pair.guest.run;
	self->page = self->pair.page;
	self->state = &self->run->tdx.l2_enter_guest_state;
	ASSERT_EQ(0, pair_set_up(&self->pair, self->pair.assist));
}

FIXTURE_TEARDOWN(pair)
{
	pair_close(&self->pair);
}

#define START(vtl0, vtl1)                                          \
	do {                                                       \
		int _result = pair_start(&self->pair, vtl0, vtl1); \
		ASSERT_EQ(0, _result)                              \
		{                                                  \
			TH_LOG("%s", self->pair.guest.why);        \
		}                                                  \
	} while (0)

#endif /* PAIR_FIXTURE_H */
