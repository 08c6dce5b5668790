// SPDX-License-Identifier: GPL-2.0
/*
 * State of the processor that both VTLs share: each finds what the other has left.
 */
#include <string.h>
#include <sys/ioctl.h>

#include "pair_fixture.h"
#include "patterns.h"

/* Registers that both VTLs share; offsets as in lib/vtl_pair_state.S. */
struct all_registers {
	uint8_t ymm[8][32];
	uint64_t x87[8]; /* the mantissas, also known as MMX registers */
	uint64_t dr[4];
	uint64_t dr6;
	uint32_t pkru, xcr0;
	uint64_t cr2;
};

_Static_assert(offsetof(struct all_registers, dr) == 0x140, "as in the guest");
_Static_assert(offsetof(struct all_registers, pkru) == 0x168,
	       "as in the guest");
_Static_assert(offsetof(struct all_registers, cr2) == 0x170, "as in the guest");

/* What a VTL finds and what it loads, in its memory after struct pair_data. */
struct lists {
	struct all_registers found, own;
};

static volatile void *memory_after_data(struct vtl_pair *pair, int vm)
{
	return (volatile uint8_t *)pair->data[vm - 1] + 0x400;
}

static int set_register(struct vtl_pair *pair, uint32_t name, uint64_t value)
{
	struct mshv_register one = { .name = name, .value = { value } };
	struct mshv_vp_registers request = { .count = 1,
					     .registers = (uintptr_t)&one };

	return ioctl(pair->guest.fd, MSHV_SET_VP_REGISTERS, &request);
}

/* CR4.OSFXSR, OSXSAVE and PKE in both VMs, and AVX. */
static int turn_on(struct vtl_pair *pair)
{
	int vm;

	for (vm = 1; vm <= 2; vm++)
		if (pair_write_field(pair, vm, VMCS64(0x6804), 0x440200,
				     0x440200))
			return -1;
	return set_register(pair, MSHV_REGISTER_XFEM, 7);
}

static void fill_own(struct all_registers *own, unsigned int seed)
{
	pattern_fill(own->ymm, sizeof(own->ymm), seed);
	pattern_fill(own->x87, sizeof(own->x87), seed + 3);
	own->dr[0] = 0xffff800000001000 + seed;
	own->dr[1] = 0x2000 + seed;
	own->dr[2] = 0x3000 + seed;
	own->dr[3] = 0x7fff00004000 + seed;
	own->dr6 = 0xffff0ff0 | (seed & 0xf);
	own->pkru = 0x01020304 * (seed & 0xf);
	own->xcr0 = 7;
	own->cr2 = 0xffff900012345000 + seed;
}

/* Runs both once, and compares what each has found with what the other had. */
static void share_once(struct __test_metadata *_metadata, struct vtl_pair *pair,
		       unsigned int seed)
{
	volatile struct mshv_tdx_l2_enter_guest_state *state =
		&pair->guest.run->tdx.l2_enter_guest_state;
	struct lists lists[2], now[2];
	volatile void *at[2];
	int vm;

	memset(lists, 0, sizeof(lists));
	for (vm = 1; vm <= 2; vm++) {
		fill_own(&lists[vm - 1].own, seed + 5 * vm);
		at[vm - 1] = memory_after_data(pair, vm);
		memcpy((void *)at[vm - 1], &lists[vm - 1], sizeof(lists[0]));
	}
	state->rip = pair_address(pair, pair_all_vtl0);
	state->gpr[RSI] = pair_gpa(pair, at[0]);
	state->gpr[RDI] = pair_gpa(pair, at[1]);
	state->gpr[R8] = state->gpr[RSI] + offsetof(struct lists, own);
	state->gpr[R8 + 1] = state->gpr[RDI] + offsetof(struct lists, own);
	ASSERT_EQ(0, vtl_run(&pair->guest));
	ASSERT_EQ(EXIT_HLT, vtl_exit_reason(&pair->guest));
	ASSERT_EQ(1, pair_vm(pair));
	for (vm = 1; vm <= 2; vm++) {
		const struct all_registers *found = &now[vm - 1].found;
		const struct all_registers *own = &lists[2 - vm].own;

		memcpy(&now[vm - 1], (void *)at[vm - 1], sizeof(now[0]));
		EXPECT_EQ(0, memcmp(found->ymm, own->ymm, sizeof(own->ymm)));
		EXPECT_EQ(0, memcmp(found->x87, own->x87, sizeof(own->x87)));
		EXPECT_EQ(0, memcmp(found->dr, own->dr, sizeof(own->dr)));
		EXPECT_EQ(own->dr6, found->dr6);
		EXPECT_EQ(own->pkru, found->pkru);
		EXPECT_EQ(own->xcr0, found->xcr0);
		EXPECT_EQ(own->cr2, found->cr2);
	}
	/* The run page has what VTL1 has left. */
	EXPECT_EQ(lists[1].own.cr2, pair->guest.run->tdx.vp_state.cr2);
}

TEST_F(pair, all_that_the_tlfs_calls_shared_is_shared)
{
	static const struct all_registers zero = { .dr6 = 0xffff0ff0 };
	unsigned int turn;

	if (!__builtin_cpu_supports("avx") || !__builtin_cpu_supports("pku"))
		SKIP(return, "no AVX or no protection keys");
	START(pair_all_vtl0, pair_all_vtl1);
	ASSERT_EQ(0, turn_on(&self->pair));
	for (turn = 0; turn < 3; turn++)
		share_once(_metadata, &self->pair, 0x21 + 0x10 * turn);
	/* As before: the VP outlives the test. */
	memcpy((void *)memory_after_data(&self->pair, 2) +
		       offsetof(struct lists, own),
	       &zero, sizeof(zero));
	self->state->rip = pair_address(&self->pair, pair_all_vtl0);
	EXPECT_EQ(0, vtl_run(&self->pair.guest));
	EXPECT_EQ(EXIT_HLT, vtl_exit_reason(&self->pair.guest));
	EXPECT_EQ(0, set_register(&self->pair, MSHV_REGISTER_XFEM, 1));
}

TEST_HARNESS_MAIN
