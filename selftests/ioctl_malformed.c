// SPDX-License-Identifier: GPL-2.0
/*
 * Commands that are not quite right: unknown numbers, wrong sizes and
 * directions, pointers to nowhere. Each case is wrong in one way only.
 */
#include <sys/ioctl.h>

#include "kselftest_harness.h"
#include "vtl_util.h"

/* Enough for any operand; its end is the end of accessible memory. */
struct edge {
	unsigned char *page;
	unsigned char *end;
};

FIXTURE(malformed)
{
	int mshv, vtl, low;
	struct edge edge;
	unsigned char *read_only;
};

FIXTURE_SETUP(malformed)
{
	self->mshv = vtl_open(DEV_MSHV);
	self->vtl = vtl_create();
	self->low = vtl_open(DEV_MSHV_VTL_LOW);
	ASSERT_LE(0, self->mshv);
	ASSERT_LE(0, self->vtl);
	ASSERT_LE(0, self->low);
	self->edge.page = mmap(NULL, 2 * VTL_PAGE_SIZE, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->edge.page);
	self->edge.end = self->edge.page + VTL_PAGE_SIZE;
	ASSERT_EQ(0, mprotect(self->edge.end, VTL_PAGE_SIZE, PROT_NONE));
	self->read_only = mmap(NULL, VTL_PAGE_SIZE, PROT_READ,
			       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->read_only);
}

FIXTURE_TEARDOWN(malformed)
{
	close(self->mshv);
	close(self->vtl);
	close(self->low);
}

#define EXPECT_ERRNO(error, fd, command, argument)                       \
	do {                                                             \
		errno = 0;                                               \
		EXPECT_EQ(-1, ioctl(fd, command, argument));             \
		EXPECT_EQ(error, errno)                                  \
		{                                                        \
			TH_LOG("command %lx", (unsigned long)(command)); \
		}                                                        \
	} while (0)

TEST_F(malformed, unknown_numbers_are_enotty)
{
	int fds[] = { self->mshv, self->vtl, self->low };
	char operand[256] = { 0 };
	unsigned int number;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(fds); i++) {
		for (number = 0x46; number < 0x100; number++)
			EXPECT_ERRNO(ENOTTY, fds[i],
				     _IOWR(MSHV_IOCTL, number, operand),
				     operand);
		EXPECT_ERRNO(ENOTTY, fds[i], 0, operand);
		EXPECT_ERRNO(ENOTTY, fds[i], ~0U, operand);
		EXPECT_ERRNO(ENOTTY, fds[i], _IO('T', 0x27), operand);
	}
}

TEST_F(malformed, wrong_sizes_are_enotty)
{
	char operand[256] = { 0 };

	EXPECT_ERRNO(ENOTTY, self->mshv, _IOC(_IOC_WRITE, MSHV_IOCTL, 0x00, 8),
		     operand);
	EXPECT_ERRNO(ENOTTY, self->mshv, _IOC(_IOC_WRITE, MSHV_IOCTL, 0x00, 0),
		     operand);
	EXPECT_ERRNO(ENOTTY, self->mshv, _IOC(_IOC_READ, MSHV_IOCTL, 0x1d, 4),
		     operand);
	EXPECT_ERRNO(ENOTTY, self->vtl, _IOC(_IOC_WRITE, MSHV_IOCTL, 0x27, 4),
		     operand);
	EXPECT_ERRNO(ENOTTY, self->vtl,
		     _IOC(_IOC_READ | _IOC_WRITE, MSHV_IOCTL, 0x32, 55),
		     operand);
	EXPECT_ERRNO(ENOTTY, self->vtl,
		     _IOC(_IOC_READ | _IOC_WRITE, MSHV_IOCTL, 0x32, 57),
		     operand);
}

TEST_F(malformed, wrong_directions_are_enotty)
{
	char operand[256] = { 0 };

	EXPECT_ERRNO(ENOTTY, self->mshv, _IOC(_IOC_READ, MSHV_IOCTL, 0x00, 4),
		     operand);
	EXPECT_ERRNO(ENOTTY, self->vtl, _IOC(_IOC_WRITE, MSHV_IOCTL, 0x32, 56),
		     operand);
}

TEST_F(malformed, commands_of_another_file_are_enotty)
{
	struct mshv_tdcall call = { .rax = TDG_VM_RD, .rdx = FIELD_NUM_L2_VMS };
	__u32 number = 3;

	EXPECT_ERRNO(ENOTTY, self->vtl, MSHV_CHECK_EXTENSION, &number);
	EXPECT_ERRNO(ENOTTY, self->vtl, MSHV_CREATE_VTL, &number);
	EXPECT_ERRNO(ENOTTY, self->mshv, MSHV_TDCALL, &call);
	EXPECT_ERRNO(ENOTTY, self->mshv, MSHV_RETURN_TO_LOWER_VTL, NULL);
	EXPECT_ERRNO(ENOTTY, self->low, MSHV_TDCALL, &call);
}

TEST_F(malformed, pointers_to_nowhere_are_efault)
{
	void *nowhere[] = { NULL,
			    (void *)8,
			    self->edge.end,
			    (void *)-4096L,
			    (void *)0xffffffff81000000UL,
			    (void *)0x8000000000000000UL };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(nowhere); i++) {
		EXPECT_ERRNO(EFAULT, self->mshv, MSHV_CHECK_EXTENSION,
			     nowhere[i]);
		EXPECT_ERRNO(EFAULT, self->vtl, MSHV_TDCALL, nowhere[i]);
	}
}

TEST_F(malformed, operands_cut_off_by_a_hole_are_efault)
{
	size_t present;

	for (present = 1; present < sizeof(struct mshv_tdcall); present += 11)
		EXPECT_ERRNO(EFAULT, self->vtl, MSHV_TDCALL,
			     self->edge.end - present);
	for (present = 1; present < sizeof(__u32); present++)
		EXPECT_ERRNO(EFAULT, self->mshv, MSHV_CHECK_EXTENSION,
			     self->edge.end - present);
}

TEST_F(malformed, outputs_to_read_only_memory_are_efault)
{
	EXPECT_ERRNO(EFAULT, self->vtl, MSHV_TDCALL, self->read_only);
}

TEST_F(malformed, misaligned_operands_work)
{
	struct mshv_tdcall call = { .rax = TDG_VM_RD, .rdx = FIELD_NUM_L2_VMS };
	__u32 number = MSHV_CAP_DR6_SHARED;
	unsigned char *at;

	/* One byte off, and exactly up to the hole. */
	at = self->edge.page + 1;
	memcpy(at, &number, sizeof(number));
	EXPECT_EQ(1, ioctl(self->mshv, MSHV_CHECK_EXTENSION, at));
	at = self->edge.end - sizeof(call);
	memcpy(at, &call, sizeof(call));
	EXPECT_EQ(0, ioctl(self->vtl, MSHV_TDCALL, at));
	memcpy(self->edge.page + 1, &call, sizeof(call));
	EXPECT_EQ(0, ioctl(self->vtl, MSHV_TDCALL, self->edge.page + 1));
	memcpy(&call, self->edge.page + 1, sizeof(call));
	EXPECT_EQ(TDX_SUCCESS, vtl_status(&call));
	EXPECT_NE(0, call.r8);
}

/* No file of ours has a position or a stream. */
TEST_F(malformed, reading_and_writing_is_refused)
{
	int fds[] = { self->mshv, self->vtl, self->low };
	char byte = 0;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(fds); i++) {
		EXPECT_EQ(-1, read(fds[i], &byte, 1));
		EXPECT_EQ(EINVAL, errno);
		EXPECT_EQ(-1, write(fds[i], &byte, 1));
		EXPECT_EQ(EINVAL, errno);
	}
}

TEST_HARNESS_MAIN
