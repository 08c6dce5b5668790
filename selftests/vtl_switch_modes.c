// SPDX-License-Identifier: GPL-2.0
/*
 * VTL calls from unusual places: at the ends of the address space, with a prefix, and
 * while STI or MOV SS block interrupts.
 */
#include <string.h>
#include <sys/mman.h>

#include "irq_guest.h"
#include "pair_fixture.h"

#define VECTOR 0x41
#define OFFLOAD (MSHV_VTL_OFFLOAD_INTR_INJECT | MSHV_VTL_OFFLOAD_X2APIC)
#define PRESENT_WRITABLE_LARGE 0x83
#define VMCALL_BYTES 3

/*
 * Maps the 2 MiB with the VTLs' memory also at the upper end of each half of VTL0's
 * address space: bits 38 to 21 are the same in both addresses.
 */
static void map_at_the_ends(struct vtl_pair *pair)
{
	const uint64_t tables = pair->memory + 0x8000;
	volatile uint64_t *own = (volatile uint64_t *)(pair->part + 0x8000);

	own[255] = (tables + 0x1000) | 3;
	own[511] = (tables + 0x1000) | 3;
	own[512 + 511] = (tables + 0x2000) | 3;
	own[1024 + 511] = (pair->memory & -VTL_LARGE_SIZE) |
			  PRESENT_WRITABLE_LARGE;
}

/* RIP after it would not be canonical, or would be zero. */
TEST_F(pair, a_call_at_an_end_of_the_address_space_is_userspaces)
{
	static const uint64_t ends[] = { 0x800000000000, 0 };
	volatile uint8_t *page;
	unsigned int i, before;

	START(pair_vmcall, pair_halt);
	page = vtl_map_low((self->pair.memory & -VTL_LARGE_SIZE) +
				   VTL_LARGE_SIZE - VTL_PAGE_SIZE,
			   VTL_PAGE_SIZE);
	ASSERT_NE(MAP_FAILED, (void *)page);
	for (i = 0; i < 2 * ARRAY_SIZE(ends); i++) {
		/* At the end, and a byte before it. */
		const uint64_t rip = ends[i / 2] - VMCALL_BYTES - i % 2;

		START(pair_vmcall, pair_halt);
		map_at_the_ends(&self->pair);
		memcpy((void *)(page + rip % VTL_PAGE_SIZE), "\x0f\x01\xc1", 3);
		self->state->rip = rip;
		self->state->gpr[RAX] = 0;
		self->state->gpr[RCX] = CODE_CALL;
		before = pair_stats(&self->pair).vtl_calls;
		ASSERT_EQ(0, vtl_run(&self->pair.guest));
		EXPECT_EQ(i % 2 ? EXIT_HLT : EXIT_VMCALL,
			  vtl_exit_reason(&self->pair.guest));
		EXPECT_EQ(i % 2 ? 2 : 1, pair_vm(&self->pair));
		EXPECT_EQ(i % 2 ? 0 : MSHV_VTL_LEFT_MODE, self->page->left);
		EXPECT_EQ(before + i % 2, pair_stats(&self->pair).vtl_calls);
		EXPECT_EQ(rip + i % 2 * VMCALL_BYTES,
			  i % 2 ? self->page->parked[0].rip : self->state->rip);
	}
	munmap((void *)page, VTL_PAGE_SIZE);
}

TEST_F(pair, a_call_with_a_prefix_is_userspaces)
{
	START(pair_long_call, pair_halt);
	ASSERT_EQ(0, vtl_run(&self->pair.guest));
	EXPECT_EQ(EXIT_VMCALL, vtl_exit_reason(&self->pair.guest));
	EXPECT_EQ(4, self->run->tdx.exit_info.r11 >> 32);
	EXPECT_EQ(1, pair_vm(&self->pair));
	EXPECT_EQ(MSHV_VTL_LEFT_MODE, self->page->left);
	EXPECT_EQ(pair_address(&self->pair, pair_long_call) + 7,
		  self->state->rip);
}

/*
 * The call is made in spite of the pending interrupt, which waits for VTL0: it is
 * taken once, after the return.
 */
TEST_F(pair, a_call_while_interrupts_are_blocked_is_made)
{
	static const struct {
		const unsigned char *vtl0;
		unsigned int at;
	} cases[] = { { pair_sti_call, 8 }, { pair_mov_ss_call, 12 } };
	unsigned int i;

	ASSERT_EQ(0, vtl_catch_alarms());
	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		START(cases[i].vtl0, pair_wait);
		ASSERT_EQ(0, pair_deliver(&self->pair));
		self->run->offload_flags = OFFLOAD;
		self->page->enable = MSHV_VTL_SWITCH_CALL |
				     MSHV_VTL_SWITCH_RETURN |
				     MSHV_VTL_SWITCH_PROXY;
		/* An interrupt that only the last STI lets in. */
		if (!i)
			irq_proxy(self->run, VECTOR);
		do {
			vtl_alarm_every_ms(200);
			ASSERT_EQ(-EINTR, vtl_enter(&self->pair.guest));
		} while (pair_vm(&self->pair) == 1);
		EXPECT_EQ(0, self->pair.data[0]->taken);
		EXPECT_EQ(pair_address(&self->pair, cases[i].vtl0) +
				  cases[i].at + VMCALL_BYTES,
			  self->page->parked[0].rip);
		if (i)
			irq_proxy(self->run, VECTOR);
		self->pair.data[0]->word = 1;
		vtl_alarm_every_ms(0);
		ASSERT_EQ(0, vtl_run(&self->pair.guest));
		EXPECT_EQ(EXIT_HLT, vtl_exit_reason(&self->pair.guest));
		EXPECT_EQ(1, pair_vm(&self->pair));
		/* CLI follows STI and the call at once, see pair_sti_call. */
		EXPECT_EQ(i, self->pair.data[0]->taken);
		EXPECT_EQ(i ? 0 : VECTOR, self->state->rvi);
	}
}

TEST_HARNESS_MAIN
