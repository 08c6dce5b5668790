// SPDX-License-Identifier: GPL-2.0
/*
 * Which hypercalls are allowed at all: a file that has declared every call
 * can't make the host access this kernel.
 */
#include <errno.h>

#include "vtl_harness.h"
#include "hvcall.h"
#include "vtl_util.h"

FIXTURE(policy)
{
	int fd;
	struct mshv_vtl_hvcall call;
};

FIXTURE_SETUP(policy)
{
	self->fd = vtl_open(DEV_MSHV_HVCALL);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, hvcall_allow(self->fd, 64));
	self->call.status = 0x5555555555555555;
}

FIXTURE_TEARDOWN(policy)
{
	close(self->fd);
}

static int give_text(int fd, uint64_t text, unsigned int count)
{
	uint64_t input[2 + 64] = { ~0ULL, 3 };
	struct mshv_vtl_hvcall call = { 0 };
	unsigned int i;

	for (i = 0; i < count; i++)
		input[2 + i] = text / VTL_PAGE_SIZE + i;
	return hvcall(&call, fd, MODIFY_HOST_VISIBILITY | REPS(count), input,
		      sizeof(input), NULL, 0);
}

/* Of this kernel the host gets nothing: not its text, whatever the call is. */
TEST_F(policy, memory_of_this_kernel_is_in_no_operand)
{
	struct visibility pages = { .partition = ~0ULL };
	struct register_call input = SELF;
	uint64_t device[2] = { 0, 8 };
	uint64_t text, ram, base, size, output[8];
	unsigned int i;

	ASSERT_TRUE(vtl_kernel_text(&text));
	ASSERT_TRUE(vtl_system_ram(&ram));
	ASSERT_TRUE(vtl_memory(&base, &size));
	for (i = 0; i < 4; i++) {
		/* Alone, and after a page that may be shared. */
		pages.pages[0] = i & 1 ? (base + size) / VTL_PAGE_SIZE - 1 :
					 text / VTL_PAGE_SIZE;
		pages.pages[1] = i & 1 ? ram / VTL_PAGE_SIZE :
					 text / VTL_PAGE_SIZE + 1;
		pages.visibility = i & 2 ? 3 : 0;
		EXPECT_EQ(-1, hvcall(&self->call, self->fd,
				     MODIFY_HOST_VISIBILITY | REPS(2), &pages,
				     32, NULL, 0));
		EXPECT_EQ(EPERM, errno);
	}
	/* 64 pages of kernel text, all of which the host would convert. */
	EXPECT_EQ(-1, give_text(self->fd, text, 64));
	EXPECT_EQ(EPERM, errno);
	for (i = 0; i < 2; i++) {
		input.vtl = VTL0;
		input.set[0].name = i ? SIFP : SIPP;
		input.set[0].value[0] = (i ? text : ram) | 1;
		EXPECT_EQ(-1, hvcall(&self->call, self->fd,
				     SET_VP_REGISTERS | REPS(1), &input, 48,
				     NULL, 0));
		EXPECT_EQ(EPERM, errno);
		device[0] = i ? text : ram;
		EXPECT_EQ(-1, hvcall(&self->call, self->fd,
				     i ? MMIO_READ : MMIO_WRITE, device,
				     sizeof(device), output, sizeof(output)));
		EXPECT_EQ(EPERM, errno);
	}
	EXPECT_EQ(0x5555555555555555, self->call.status);
}

/* This kernel's own SynIC, by the registers of its own VTL. */
TEST_F(policy, registers_of_vtl2_are_not_set)
{
	static const uint32_t names[] = { SINT2, SIFP, SIPP, 0x90001, 2 };
	struct register_call input = SELF;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(names); i++) {
		input.set[0].name = names[i];
		EXPECT_EQ(-1, hvcall(&self->call, self->fd,
				     SET_VP_REGISTERS | REPS(1), &input, 48,
				     NULL, 0));
		EXPECT_EQ(EPERM, errno);
	}
}

TEST_F(policy, listed_calls_that_the_policy_does_not_know_are_refused)
{
	EXPECT_EQ(-1, hvcall(&self->call, self->fd, MODIFY_VTL_PROTECTION, NULL,
			     0, NULL, 0));
	EXPECT_EQ(EPERM, errno);
}

TEST_F(policy, no_device_is_told_to_send_an_exception)
{
	uint64_t input[8] = { ~0ULL, 1 };

	for (input[5] = 0; input[5] < 32; input[5]++) {
		EXPECT_EQ(-1, hvcall(&self->call, self->fd,
				     RETARGET_DEVICE_INTERRUPT | 1 << 17, input,
				     sizeof(input), NULL, 0));
		EXPECT_EQ(EPERM, errno);
	}
}

TEST_HARNESS_MAIN
