// SPDX-License-Identifier: GPL-2.0
/*
 * State of the processor across VTL calls and returns by the kernel: what each VTL has in
 * its VMCS, and which MSRs are VTL2's.
 */
#include <string.h>
#include <unistd.h>

#include "pair_fixture.h"

/* What the processor takes from the VMCS of a VTL. */
struct tables {
	uint64_t cr3, fs_word, gs_word;
	uint8_t idtr[16], gdtr[16];
	uint64_t tr, ds;
};

static volatile void *memory_after_data(struct vtl_pair *pair, int vm)
{
	return (volatile uint8_t *)pair->data[vm - 1] + 0x400;
}

/* Those of a VM that the test gives the other one different values. */
static const struct {
	uint64_t id, mask;
} fields[] = {
	{ VMCS64(0x6802), ~0ULL }, /* CR3 */
	{ VMCS64(0x6818), ~0ULL }, /* base of the IDT */
	{ VMCS32(0x4812), 0xffffffff }, /* limits of IDT and GDT */
	{ VMCS32(0x4810), 0xffffffff },
	{ VMCS64(0x680e), ~0ULL }, /* bases of FS, GS, TR */
	{ VMCS64(0x6810), ~0ULL },
	{ VMCS64(0x6814), ~0ULL },
	{ VMCS16(0x080e), 0xffff }, /* selectors of TR and DS */
	{ VMCS16(0x0806), 0xffff },
	{ VMCS64(0x6804), ~0ULL }, /* CR4 and its shadow */
	{ VMCS64(0x6006), ~0ULL },
};

static int read_fields(struct vtl_pair *pair, int vm, uint64_t *values)
{
	struct vtl_guest guest = pair->guest;
	size_t i;

	guest.vm = vm;
	for (i = 0; i < ARRAY_SIZE(fields); i++)
		if (vtl_read_field(guest.fd, TDG_VP_RD,
				   vtl_guest_field(&guest, fields[i].id),
				   &values[i]))
			return -1;
	return 0;
}

/* Both have them already in CR3 and the IDT. */
static int set_fields(struct vtl_pair *pair, int vm)
{
	const uint64_t own = pair_gpa(pair, pair->data[vm - 1]);
	const uint64_t other = pair_gpa(pair, pair->data[2 - vm]);

	return pair_write_field(pair, vm, VMCS32(0x4812), 0xfff - vm,
				0xffffffff) ||
	       pair_write_field(pair, vm, VMCS32(0x4810), 23 + 8 * vm,
				0xffffffff) ||
	       pair_write_field(pair, vm, VMCS64(0x680e), own, ~0ULL) ||
	       pair_write_field(pair, vm, VMCS64(0x6810), other, ~0ULL) ||
	       pair_write_field(pair, vm, VMCS64(0x6814), own + 0x100, ~0ULL) ||
	       pair_write_field(pair, vm, VMCS16(0x080e), 0x18 + 8 * vm,
				0xffff) ||
	       pair_write_field(pair, vm, VMCS16(0x0806), 0x20 + 8 * vm,
				0xffff) ||
	       pair_write_field(pair, vm, VMCS64(0x6804), (vm - 1) << 2,
				1 << 2) ||
	       pair_write_field(pair, vm, VMCS64(0x6006), 0x620 + 4 * (vm - 1),
				~0ULL);
}

/* Each executes with its own, which the test and the VTLs themselves read. */
TEST_F(pair, each_vtl_runs_with_what_its_vmcs_has)
{
	uint64_t before[2][ARRAY_SIZE(fields)], after[2][ARRAY_SIZE(fields)];
	struct tables seen;
	size_t i;
	int vm;

	START(pair_tables_vtl0, pair_tables_vtl1);
	for (vm = 1; vm <= 2; vm++) {
		ASSERT_EQ(0, set_fields(&self->pair, vm))
		{
			TH_LOG("%s", self->pair.guest.why);
		}
		ASSERT_EQ(0, read_fields(&self->pair, vm, before[vm - 1]));
		self->pair.data[vm - 1]->word = 0xd0d0 + vm;
	}
	for (i = 0; i < ARRAY_SIZE(fields); i++)
		EXPECT_NE(before[0][i], before[1][i]);
	self->state->gpr[RSI] =
		pair_gpa(&self->pair, memory_after_data(&self->pair, 1));
	self->state->gpr[RDI] =
		pair_gpa(&self->pair, memory_after_data(&self->pair, 2));
	self->state->gpr[RBX] = 50;
	ASSERT_EQ(0, vtl_run(&self->pair.guest));
	ASSERT_EQ(EXIT_HLT, vtl_exit_reason(&self->pair.guest));
	for (vm = 1; vm <= 2; vm++) {
		const uint64_t *own = before[vm - 1];

		ASSERT_EQ(0, read_fields(&self->pair, vm, after[vm - 1]));
		EXPECT_EQ(0, memcmp(own, after[vm - 1], sizeof(after[0])));
		memcpy(&seen, (void *)memory_after_data(&self->pair, vm),
		       sizeof(seen));
		EXPECT_EQ(own[0], seen.cr3);
		EXPECT_EQ(0, memcmp(&own[1], seen.idtr + 2, 8));
		EXPECT_EQ(0, memcmp(&own[2], seen.idtr, 2));
		EXPECT_EQ(0, memcmp(&own[3], seen.gdtr, 2));
		EXPECT_EQ(0xd0d0 + vm, seen.fs_word);
		EXPECT_EQ(0xd0d3 - vm, seen.gs_word);
		EXPECT_EQ(own[7], seen.tr & 0xffff);
		EXPECT_EQ(own[8], seen.ds & 0xffff);
	}
}

/* As pair_live_vtl0 has them. */
static const uint32_t msrs[] = { 0xc0000081, 0xc0000082, 0xc0000084, 0xc0000102,
				 0xc0000103 };

static const uint64_t values[][ARRAY_SIZE(msrs)] = {
	{ 0, 0, 0, 0, 0 },
	{ ~0ULL, ~0ULL, 0xffffffff, ~0ULL, 0xffffffff },
	{ 0x5555aaaa00000000, 0x7fffffffffff, 0x47fd5, 1, 1 },
	{ 0xaaaa555500000000, 0xffff800000000000, 0x8000, 0xffff800000000000,
	  0x80000000 },
};

/* Three sides: VTL0, VTL1, and VTL2 with what its kernel has set. */
TEST_F(pair, none_of_three_sides_has_the_msrs_of_another)
{
	volatile struct pair_data *vtl0 = self->pair.data[0];
	volatile struct pair_data *vtl1 = self->pair.data[1];
	uint64_t before[ARRAY_SIZE(msrs)], value;
	int fd = vtl_open_msrs(0);
	unsigned int i, turn;

	if (fd < 0)
		SKIP(return, "no MSR driver");
	for (i = 0; i < ARRAY_SIZE(msrs); i++)
		ASSERT_EQ(8, pread(fd, &before[i], 8, msrs[i]));
	START(pair_live_vtl0, pair_live_vtl1);
	ASSERT_EQ(0, pair_let_live_msrs_through(&self->pair));
	self->state->gpr[RSI] = pair_gpa(&self->pair, vtl0);
	self->state->gpr[RDI] = pair_gpa(&self->pair, vtl1);
	for (turn = 0; turn < 2 * ARRAY_SIZE(values); turn++) {
		const uint64_t *own = values[turn % ARRAY_SIZE(values)];
		const uint64_t *next = values[(turn + 1) % ARRAY_SIZE(values)];

		for (i = 0; i < ARRAY_SIZE(msrs); i++) {
			vtl0->to_load[i] = own[i];
			vtl1->to_load[i] = next[i];
		}
		self->state->rip = pair_address(&self->pair, pair_live_vtl0);
		ASSERT_EQ(0, vtl_run(&self->pair.guest));
		ASSERT_EQ(EXIT_HLT, vtl_exit_reason(&self->pair.guest));
		for (i = 0; i < ARRAY_SIZE(msrs); i++) {
			EXPECT_EQ(own[i], vtl0->loaded[i]);
			/* What it has left in the previous call. */
			EXPECT_EQ(turn ? own[i] : 0, vtl1->loaded[i]);
			ASSERT_EQ(8, pread(fd, &value, 8, msrs[i]));
			EXPECT_EQ(before[i], value)
			{
				TH_LOG("VTL2, MSR %x", msrs[i]);
			}
		}
	}
	close(fd);
}

TEST_HARNESS_MAIN
