// SPDX-License-Identifier: GPL-2.0
/*
 * Accesses of a guest at VTL0 to addresses without memory at VTL2: a device,
 * which userspace emulates. Each one is reported, with address and kind, and is
 * carried out once.
 */
#include "vtl_harness.h"
#include "vtl_util.h"

/* Below the APIC and the firmware: nothing has memory there. */
#define HOLE 0xfd000000ULL
#define APIC 0xfee00000ULL
#define APIC_ICR 0x300
#define SHARED (1ULL << 47)

/* movl to or from (%ebx) */
#define INSTRUCTION_SIZE 2

/* Where the page tables of long mode go, and what they map. */
#define TABLES (4 * VTL_PAGE_SIZE)
#define WINDOW (512ULL << 30)

FIXTURE(mmio)
{
	struct vtl_guest guest;
};

FIXTURE_SETUP(mmio)
{
	uint64_t base, size;

	if (!vtl_memory(&base, &size))
		SKIP(return, "no vtl0_mem= on the kernel command line");
	ASSERT_EQ(0, vtl_guest_open(&self->guest, 0))
	{
		TH_LOG("%s", self->guest.why);
	}
}

FIXTURE_TEARDOWN(mmio)
{
	vtl_guest_close(&self->guest);
}

#define STATE self->guest.run->tdx.l2_enter_guest_state
#define INFO self->guest.run->tdx.exit_info

#define LOAD(name) ASSERT_EQ(0, vtl_guest_load(&self->guest, name, name##_end))

#define WRITE(id, value)                                                    \
	ASSERT_EQ(0, vtl_guest_write_field(&self->guest, VMCS64(id), value, \
					   ~0ULL))

/* The access at the start of the guest exits, and nothing of it has happened. */
#define ASSERT_MMIO(address, access)                                          \
	do {                                                                  \
		ASSERT_EQ(0, vtl_run(&self->guest));                          \
		ASSERT_EQ(EXIT_EPT_VIOLATION, vtl_exit_reason(&self->guest)); \
		EXPECT_EQ(TDX_L2_EXIT_HOST_ROUTED_ASYNC, INFO.rax >> 32);     \
		EXPECT_EQ(address, INFO.r8);                                  \
		EXPECT_EQ(access, INFO.rcx & 7);                              \
		EXPECT_EQ(0, INFO.r10 & 0x80000000);                          \
		EXPECT_EQ(self->guest.base, STATE.rip);                       \
	} while (0)

#define ASSERT_HALTS()                                              \
	do {                                                        \
		ASSERT_EQ(0, vtl_run(&self->guest));                \
		ASSERT_EQ(EXIT_HLT, vtl_exit_reason(&self->guest)); \
	} while (0)

TEST_F(mmio, a_store_to_a_hole_is_the_devices)
{
	LOAD(vtl_guest_store);
	STATE.gpr[RBX] = HOLE + 0x123;
	STATE.gpr[RAX] = 0xdecade;
	ASSERT_MMIO(HOLE + 0x123, RIGHT_WRITE);
	EXPECT_EQ(0xdecade, STATE.gpr[RAX]);
	STATE.rip += INSTRUCTION_SIZE;
	ASSERT_HALTS();
}

TEST_F(mmio, a_load_from_a_hole_gets_what_the_device_says)
{
	LOAD(vtl_guest_read);
	STATE.gpr[RBX] = HOLE + 0xff8;
	ASSERT_MMIO(HOLE + 0xff8, RIGHT_READ);
	STATE.gpr[RAX] = 0xbead5;
	STATE.rip += INSTRUCTION_SIZE;
	ASSERT_HALTS();
	EXPECT_EQ(0xbead5, STATE.gpr[RAX]);
}

TEST_F(mmio, an_access_that_nobody_answers_comes_again)
{
	LOAD(vtl_guest_read);
	STATE.gpr[RBX] = HOLE;
	ASSERT_MMIO(HOLE, RIGHT_READ);
	ASSERT_MMIO(HOLE, RIGHT_READ);
	/* Elsewhere there is memory by now. */
	STATE.gpr[RBX] = self->guest.base;
	ASSERT_HALTS();
}

TEST_F(mmio, the_apic_page_is_a_device_like_others)
{
	LOAD(vtl_guest_store);
	STATE.gpr[RBX] = APIC + APIC_ICR;
	ASSERT_MMIO(APIC + APIC_ICR, RIGHT_WRITE);
	LOAD(vtl_guest_read);
	STATE.gpr[RBX] = APIC + APIC_ICR;
	ASSERT_MMIO(APIC + APIC_ICR, RIGHT_READ);
}

TEST_F(mmio, offload_keeps_none_of_it)
{
	LOAD(vtl_guest_store);
	STATE.gpr[RBX] = HOLE;
	self->guest.run->offload_flags = MSHV_VTL_OFFLOAD_INTR_INJECT |
					 MSHV_VTL_OFFLOAD_X2APIC;
	ASSERT_MMIO(HOLE, RIGHT_WRITE);
}

/*
 * Long mode, with an identity mapping of the guest's GiB and one large page of
 * `gpa` at WINDOW.
 */
static int make_tables(const struct vtl_guest *guest, uint64_t gpa)
{
	const uint64_t present = 3, large = 0x80, tables = guest->base + TABLES;
	volatile uint64_t *table = vtl_map_low(tables, 5 * VTL_PAGE_SIZE);
	uint64_t gib = guest->base >> 30, i;

	if (table == MAP_FAILED)
		return -1;
	for (i = 0; i < 5 * 512; i++)
		table[i] = 0;
	table[0] = (tables + VTL_PAGE_SIZE) | present;
	table[1] = (tables + 2 * VTL_PAGE_SIZE) | present;
	table[512 + gib] = (tables + 3 * VTL_PAGE_SIZE) | present;
	table[2 * 512] = (tables + 4 * VTL_PAGE_SIZE) | present;
	for (i = 0; i < 512; i++)
		table[3 * 512 + i] = gib << 30 | i << 21 | large | present;
	table[4 * 512] = gpa | large | present;
	munmap((void *)table, 5 * VTL_PAGE_SIZE);
	return 0;
}

/* What the start state does not have of long mode. */
#define START_IN_LONG_MODE(gpa)                                               \
	do {                                                                  \
		ASSERT_EQ(0, make_tables(&self->guest, gpa));                 \
		WRITE(0x6802, self->guest.base + TABLES);                     \
		WRITE(0x6804, 0x2660);                                        \
		WRITE(0x6800, 0x80000031);                                    \
		WRITE(0x2806, 0xd00);                                         \
		ASSERT_EQ(0,                                                  \
			  vtl_guest_write_field(&self->guest, VMCS32(0x4012), \
						0x200, 0x200));               \
		ASSERT_EQ(0,                                                  \
			  vtl_guest_write_field(&self->guest, VMCS32(0x4816), \
						0xa09b, 0xffffffff));         \
	} while (0)

/* It makes no difference if the guest may use shared memory (L2_CTLS). */
TEST_F(mmio, an_access_by_the_shared_alias_keeps_its_bit)
{
	const uint64_t gpa = SHARED | (HOLE & -VTL_LARGE_SIZE);
	uint64_t controls;

	for (controls = 0; controls < 2; controls++) {
		LOAD(vtl_guest_store);
		START_IN_LONG_MODE(gpa);
		ASSERT_EQ(0,
			  vtl_guest_write_field(&self->guest, FIELD_L2_CTLS(1),
						controls, 7));
		STATE.gpr[RBX] = WINDOW + 0x5678;
		ASSERT_MMIO(gpa + 0x5678, RIGHT_WRITE);
		STATE.rip += INSTRUCTION_SIZE;
		ASSERT_HALTS();

		LOAD(vtl_guest_read);
		START_IN_LONG_MODE(gpa);
		STATE.gpr[RBX] = WINDOW + 0x5678;
		ASSERT_MMIO(gpa + 0x5678, RIGHT_READ);
	}
}

TEST_HARNESS_MAIN
