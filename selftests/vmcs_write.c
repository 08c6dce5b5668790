// SPDX-License-Identifier: GPL-2.0
/*
 * What userspace may write to the VMCS of a lower VTL, and what not because the
 * entry would fail in a way that the TDX module does not handle. A refused
 * entry is reported as a later TDX module would, and the next one works.
 */
#include "vtl_harness.h"
#include "vtl_util.h"

#define L2_VM_ENTRY_FAILED 0x80001103U

#define EVENT 0x4016
#define ERROR_CODE 0x4018
#define LENGTH 0x401a
#define THRESHOLD 0x401c
#define SECONDARY 0x401e
#define INTERRUPT_DELIVERY 0x200
#define GENERAL_PROTECTION 0x80000b0d
#define TPR 0x80

FIXTURE(vmcs)
{
	struct vtl_guest guest;
	volatile unsigned char *apic;
};

FIXTURE_SETUP(vmcs)
{
	uint64_t base, size;

	if (!vtl_memory(&base, &size))
		SKIP(return, "no vtl0_mem= on the kernel command line");
	ASSERT_EQ(0, vtl_guest_open(&self->guest, 0));
	ASSERT_EQ(0, vtl_guest_load(&self->guest, vtl_guest_registers,
				    vtl_guest_registers_end));
	self->apic = vtl_map_page(self->guest.fd, MSHV_VTL_MMAP_VAPIC_PAGE, 0);
	ASSERT_NE(MAP_FAILED, (void *)self->apic);
}

static uint32_t write_bits(struct vtl_guest *guest, uint64_t id, uint64_t value,
			   uint64_t mask)
{
	struct mshv_tdcall call = {
		.rax = TDG_VP_WR, .rdx = id, .r8 = value, .r9 = mask
	};

	return vtl_tdcall(guest->fd, &call) ? 1 : vtl_status(&call);
}

static uint32_t write_field(struct vtl_guest *guest, unsigned int code,
			    uint64_t value)
{
	return write_bits(guest, VMCS32(code), value, ~0ULL);
}

/* What the start state leaves alone. */
FIXTURE_TEARDOWN(vmcs)
{
	self->apic[TPR] = 0;
	EXPECT_EQ(0, write_field(&self->guest, EVENT, 0));
	EXPECT_EQ(0, write_field(&self->guest, ERROR_CODE, 0));
	EXPECT_EQ(0, write_field(&self->guest, LENGTH, 0));
	EXPECT_EQ(0, write_field(&self->guest, THRESHOLD, 0));
	EXPECT_EQ(0, write_bits(&self->guest, VMCS32(SECONDARY),
				INTERRUPT_DELIVERY, INTERRUPT_DELIVERY));
	munmap((void *)self->apic, VTL_PAGE_SIZE);
	vtl_guest_close(&self->guest);
}

#define EXPECT_TAKEN(code, value) \
	EXPECT_EQ(TDX_SUCCESS, write_field(&self->guest, code, value))
#define EXPECT_REFUSED(code, value) \
	EXPECT_EQ(TDX_OPERAND_INVALID, write_field(&self->guest, code, value))

#define EXPECT_RUNS()                                               \
	do {                                                        \
		EXPECT_EQ(0, vtl_run(&self->guest));                \
		EXPECT_EQ(EXIT_HLT, vtl_exit_reason(&self->guest)); \
		vtl_guest_start(&self->guest);                      \
	} while (0)

#define EXPECT_NOT_ENTERED()                                              \
	do {                                                              \
		EXPECT_EQ(-EIO, vtl_enter(&self->guest));                 \
		EXPECT_EQ(L2_VM_ENTRY_FAILED,                             \
			  self->guest.run->tdx.exit_info.rax >> 32);      \
		EXPECT_EQ(self->guest.base,                               \
			  self->guest.run->tdx.l2_enter_guest_state.rip); \
	} while (0)

TEST_F(vmcs, values_that_no_entry_survives_are_refused)
{
	static const struct {
		unsigned int code;
		uint64_t value;
	} bad[] = {
		{ 0x400a, 5 },
		{ 0x400a, ~0ULL },
		{ EVENT, 0x80000100 },
		{ EVENT, 0x80000203 },
		{ EVENT, 0x80000320 },
		{ EVENT, 0x80000830 },
		{ EVENT, 0x80001306 },
		/* A pending monitor trap, which the processor would take. */
		{ EVENT, 0x80000700 },
		{ ERROR_CODE, 0x10000 },
		{ LENGTH, 16 },
		{ THRESHOLD, 16 },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(bad); i++)
		EXPECT_REFUSED(bad[i].code, bad[i].value)
		{
			TH_LOG("%x := %llx", bad[i].code,
			       (unsigned long long)bad[i].value);
		}
	EXPECT_RUNS();
}

TEST_F(vmcs, parts_of_what_counts_as_a_whole_are_refused)
{
	static const unsigned int whole[] = { 0x400a, EVENT, ERROR_CODE, LENGTH,
					      THRESHOLD };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(whole); i++) {
		uint64_t id = VMCS32(whole[i]);

		EXPECT_EQ(TDX_OPERAND_INVALID,
			  write_bits(&self->guest, id, 0, 0xff));
		EXPECT_EQ(TDX_OPERAND_INVALID,
			  write_bits(&self->guest, id | 1, 0, ~0ULL));
		EXPECT_EQ(TDX_SUCCESS,
			  write_bits(&self->guest, id, 0, 0xffffffff));
	}
}

TEST_F(vmcs, fields_that_nobody_needs_are_refused)
{
	/* HLAT, PLE, exit information. */
	static const uint64_t others[] = { VMCS16(0x0006), VMCS64(0x2034),
					   VMCS64(0x2040), VMCS32(0x4020),
					   VMCS32(0x4408), VMCS64(0x6400) };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(others); i++)
		EXPECT_EQ(TDX_OPERAND_INVALID,
			  write_bits(&self->guest, others[i], 0, ~0ULL));
}

TEST_F(vmcs, bits_of_controls_that_stay_may_be_named)
{
	uint64_t primary = 0;

	ASSERT_EQ(0, vtl_read_field(self->guest.fd, TDG_VP_RD, VMCS32(0x4002),
				    &primary));
	EXPECT_TAKEN(0x4002, primary);
	EXPECT_TAKEN(0x4002, primary ^ 4);
	EXPECT_TAKEN(0x4002, primary);
	/* TPR shadow, monitor trap flag. */
	EXPECT_REFUSED(0x4002, primary ^ 1 << 21);
	EXPECT_REFUSED(0x4002, primary ^ 1 << 27);
}

TEST_F(vmcs, an_error_code_in_real_mode_is_not_entered_with)
{
	EXPECT_TAKEN(EVENT, GENERAL_PROTECTION);
	EXPECT_EQ(TDX_SUCCESS,
		  write_bits(&self->guest, VMCS64(0x6800), 0x30, ~0ULL));
	EXPECT_NOT_ENTERED();
	EXPECT_NOT_ENTERED();
	EXPECT_TAKEN(EVENT, 0);
	EXPECT_EQ(TDX_SUCCESS,
		  write_bits(&self->guest, VMCS64(0x6800), 0x31, ~0ULL));
	EXPECT_RUNS();
}

TEST_F(vmcs, a_threshold_above_the_task_priority_is_not_entered_with)
{
	EXPECT_TAKEN(THRESHOLD, 3);
	/* The processor delivers: the threshold means nothing. */
	EXPECT_RUNS();
	EXPECT_EQ(TDX_SUCCESS, write_bits(&self->guest, VMCS32(SECONDARY), 0,
					  INTERRUPT_DELIVERY));
	EXPECT_NOT_ENTERED();
	self->apic[TPR] = 0x30;
	EXPECT_RUNS();
	/* No write of a field, and yet another answer. */
	self->apic[TPR] = 0x2f;
	EXPECT_NOT_ENTERED();
	self->apic[TPR] = 0x40;
	EXPECT_RUNS();
	EXPECT_TAKEN(THRESHOLD, 0);
	self->apic[TPR] = 0;
	EXPECT_RUNS();
}

/* VM 2's page is memory of the lower VTL here: the kernel can't look. */
TEST_F(vmcs, without_a_task_priority_to_look_at_a_threshold_is_not_entered_with)
{
	uint64_t count = 0;

	vtl_read_field(self->guest.fd, TDG_VM_RD, FIELD_NUM_L2_VMS, &count);
	if (count < 2)
		SKIP(return, "the TD has no VM 2");
	ASSERT_EQ(0, vtl_guest_use_vm(&self->guest, 2));
	ASSERT_EQ(0, vtl_guest_start(&self->guest));
	ASSERT_EQ(0, vtl_guest_give_apic_page(&self->guest));
	ASSERT_EQ(0, vtl_guest_write_field(&self->guest, VMCS32(SECONDARY), 0,
					   INTERRUPT_DELIVERY));
	EXPECT_RUNS();
	ASSERT_EQ(0, vtl_guest_write_field(&self->guest, VMCS32(THRESHOLD), 1,
					   ~0ULL));
	EXPECT_NOT_ENTERED();
	ASSERT_EQ(0, vtl_guest_write_field(&self->guest, VMCS32(THRESHOLD), 0,
					   ~0ULL));
	EXPECT_RUNS();
	ASSERT_EQ(0, vtl_guest_write_field(&self->guest, VMCS32(SECONDARY),
					   INTERRUPT_DELIVERY,
					   INTERRUPT_DELIVERY));
}

TEST_HARNESS_MAIN
