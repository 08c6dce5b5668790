// SPDX-License-Identifier: GPL-2.0
/*
 * Each reserved bit of each operand is refused, alone, and changes nothing. What the
 * reference ABI leaves undefined is something else: see request_padding.c.
 */
#include <sys/ioctl.h>

#include "vtl_harness.h"
#include "vtl_util.h"

FIXTURE(reserved)
{
	int mshv, vtl;
};

FIXTURE_SETUP(reserved)
{
	self->mshv = vtl_open(DEV_MSHV);
	self->vtl = vtl_create();
	ASSERT_LE(0, self->mshv);
	ASSERT_LE(0, self->vtl);
	ASSERT_EQ(0, vtl_pin(0));
}

FIXTURE_TEARDOWN(reserved)
{
	close(self->vtl);
	close(self->mshv);
}

static int call(int fd, unsigned long command, void *operand)
{
	return ioctl(fd, command, operand) ? -errno : 0;
}

#define EXPECT_CALL(expected, fd, command, operand)                   \
	do {                                                          \
		int _answer = call(fd, command, operand);             \
		EXPECT_EQ(expected, _answer)                          \
		{                                                     \
			TH_LOG("%s, %s, bit %u", #command, #fd, bit); \
		}                                                     \
	} while (0)

TEST_F(reserved, selector_of_facts)
{
	unsigned int bit;

	for (bit = 0; bit < 32; bit++) {
		struct mshv_vtl_info info = { .head = {
						      .size = sizeof(info),
						      .selector = 1U << bit,
					      } };

		EXPECT_CALL(-EINVAL, self->mshv, MSHV_VTL_INFO, &info);
	}
}

TEST_F(reserved, length_of_a_register_list)
{
	struct mshv_register entry = { .name = MSHV_REGISTER_DR0 };
	unsigned int bit;

	for (bit = 0; bit < 32; bit++) {
		struct mshv_vp_registers list = {
			.count = 1U << bit,
			.registers = (uintptr_t)&entry,
		};

		/* More than a list can have. */
		if (list.count > MSHV_VP_MAX_REGISTERS) {
			EXPECT_CALL(-EINVAL, self->vtl, MSHV_GET_VP_REGISTERS,
				    &list);
			EXPECT_CALL(-EINVAL, self->vtl, MSHV_SET_VP_REGISTERS,
				    &list);
		}
	}
}

TEST_F(reserved, flags_of_an_xsave_question)
{
	unsigned int bit;

	for (bit = 0; bit < 32; bit++) {
		struct mshv_vtl_xsave ask = { .flags = 1U << bit };

		EXPECT_CALL(-EINVAL, self->vtl, MSHV_VTL_XSAVE_GET, &ask);
	}
}

TEST_F(reserved, what_to_do_with_a_redirected_interrupt)
{
	unsigned int bit;

	for (bit = 0; bit < 8; bit++) {
		/* A mapping on no processor; nothing, so nothing to take back. */
		struct mshv_map_device_intr map = {
			.vector = 0x41,
			.apic_id = ~0U,
			.create_mapping = 1 << bit,
		};

		EXPECT_CALL(bit == 0 ? -ENXIO : -EINVAL, self->vtl,
			    MSHV_MAP_REDIRECTED_DEVICE_INTERRUPT, &map);
	}
}

TEST_F(reserved, flags_of_a_kick)
{
	unsigned int bit;

	for (bit = 0; bit < 64; bit++) {
		struct mshv_kick_cpus kick = { .flags = 1ULL << bit };

		EXPECT_CALL(bit < 2 ? 0 : -EINVAL, self->vtl, MSHV_KICK_CPUS,
			    &kick);
	}
}

TEST_F(reserved, page_frames_to_register)
{
	uint64_t base, size;
	unsigned int bit;

	if (!vtl_memory(&base, &size))
		SKIP(return, "no vtl0_mem= on the kernel command line");
	for (bit = 35; bit < 64; bit++) {
		uint64_t first = base / VTL_PAGE_SIZE, other = 1ULL << bit;
		struct mshv_vtl_ram_disposition range = {
			.start_pfn = first | other,
			.last_pfn = first + 512,
		};

		if (bit != 51)
			EXPECT_CALL(-EINVAL, self->vtl, MSHV_ADD_VTL0_MEMORY,
				    &range);
		range.start_pfn = first;
		range.last_pfn |= other;
		EXPECT_CALL(-EINVAL, self->vtl, MSHV_ADD_VTL0_MEMORY, &range);
	}
}

/* Of RAX only number and version count, and few versions there are. */
TEST_F(reserved, leaf_of_a_tdcall)
{
	unsigned int bit;

	for (bit = 16; bit < 64; bit++) {
		struct mshv_tdcall request = { .rax = TDG_SYS_RD | 1ULL << bit,
					       .rdx = FIELD_TDX_FEATURES0 };

		EXPECT_CALL(0, self->vtl, MSHV_TDCALL, &request);
		EXPECT_EQ(TDX_OPERAND_INVALID, vtl_status(&request));
	}
}

/* Of a field's id: what would name more than one element. */
TEST_F(reserved, field_of_a_tdcall)
{
	unsigned int bit;

	for (bit = 24; bit < 63; bit++) {
		struct mshv_tdcall request = {
			.rax = TDG_VP_RD, .rdx = VMCS_GUEST_CR3 | 1ULL << bit
		};

		/* Size, context and increment are ignored; bit 56 on: class. */
		if (bit == 32 || bit == 33 || (bit >= 50 && bit <= 54) ||
		    (bit >= 56 && bit <= 61))
			continue;
		EXPECT_CALL(0, self->vtl, MSHV_TDCALL, &request);
		EXPECT_EQ(TDX_OPERAND_INVALID, vtl_status(&request))
		{
			TH_LOG("bit %u", bit);
		}
	}
}

FIXTURE(run)
{
	struct vtl_guest guest;
};

FIXTURE_SETUP(run)
{
	uint64_t base, size;

	if (!vtl_memory(&base, &size))
		SKIP(return, "no vtl0_mem= on the kernel command line");
	ASSERT_EQ(0, vtl_guest_open(&self->guest, 0))
	{
		TH_LOG("%s", self->guest.why);
	}
	ASSERT_EQ(0, vtl_guest_load(&self->guest, vtl_guest_registers,
				    vtl_guest_registers_end));
}

FIXTURE_TEARDOWN(run)
{
	vtl_guest_close(&self->guest);
}

#define EXPECT_REFUSED()                               \
	do {                                           \
		int _answer = vtl_enter(&self->guest); \
		EXPECT_EQ(-EINVAL, _answer)            \
		{                                      \
			TH_LOG("bit %u", bit);         \
		}                                      \
	} while (0)

TEST_F(run, each_reserved_bit_of_the_run_page)
{
	volatile struct mshv_vtl_run *run = self->guest.run;
	uint64_t rip = run->tdx.l2_enter_guest_state.rip;
	uint64_t entry = run->tdx.entry_rcx;
	unsigned int bit;

	for (bit = 0; bit < 64; bit++) {
		/* Translations to invalidate, and the VM. */
		if (bit < 2 || bit == 52 || bit == 53)
			continue;
		run->tdx.entry_rcx = entry | 1ULL << bit;
		EXPECT_REFUSED();
		EXPECT_EQ(entry | 1ULL << bit, run->tdx.entry_rcx);
	}
	/* No VM. */
	run->tdx.entry_rcx = 0;
	EXPECT_REFUSED();
	run->tdx.entry_rcx = entry;
	for (bit = 1; bit < 32; bit++) {
		run->flags = 1U << bit;
		EXPECT_REFUSED();
	}
	run->flags = 0;
	for (bit = 2; bit < 64; bit++) {
		run->tdx.vp_state.flags = 1ULL << bit;
		EXPECT_REFUSED();
	}
	run->tdx.vp_state.flags = 0;
	/* The guest has not run. After all that it does. */
	EXPECT_EQ(rip, run->tdx.l2_enter_guest_state.rip);
	ASSERT_EQ(0, vtl_run(&self->guest));
	EXPECT_EQ(EXIT_HLT, vtl_exit_reason(&self->guest));
}

TEST_F(run, high_halves_that_a_register_does_not_have)
{
	volatile struct mshv_tdx_vp_state *state =
		&self->guest.run->tdx.vp_state;
	unsigned int bit;

	for (bit = 32; bit < 64; bit++) {
		state->msr_sfmask = 1ULL << bit;
		EXPECT_REFUSED();
		state->msr_sfmask = 0;
		state->msr_tsc_aux = 1ULL << bit;
		EXPECT_REFUSED();
		state->msr_tsc_aux = 0;
	}
	/* Not canonical. */
	for (bit = 57; bit < 64; bit++) {
		state->msr_lstar = 1ULL << bit;
		EXPECT_REFUSED();
		state->msr_lstar = 0;
		state->msr_kernel_gs_base = 1ULL << bit;
		EXPECT_REFUSED();
		state->msr_kernel_gs_base = 0;
	}
	ASSERT_EQ(0, vtl_run(&self->guest));
}

TEST_HARNESS_MAIN
