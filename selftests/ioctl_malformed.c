// SPDX-License-Identifier: GPL-2.0
/*
 * What is no command of ours: unknown numbers, read() and write().
 * request_size.c has commands that are nearly right.
 */
#include <sys/ioctl.h>

#include "vtl_harness.h"
#include "vtl_util.h"

FIXTURE(malformed)
{
	int fds[3];
};

FIXTURE_SETUP(malformed)
{
	size_t i;

	self->fds[0] = vtl_open(DEV_MSHV);
	self->fds[1] = vtl_create();
	self->fds[2] = vtl_open(DEV_MSHV_VTL_LOW);
	for (i = 0; i < ARRAY_SIZE(self->fds); i++)
		ASSERT_LE(0, self->fds[i]);
}

FIXTURE_TEARDOWN(malformed)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(self->fds); i++)
		close(self->fds[i]);
}

#define EXPECT_ENOTTY(fd, command)                                     \
	do {                                                           \
		errno = 0;                                             \
		EXPECT_EQ(-1, ioctl(fd, command, operand));            \
		EXPECT_EQ(ENOTTY, errno)                               \
		{                                                      \
			TH_LOG("command %x", (unsigned int)(command)); \
		}                                                      \
	} while (0)

TEST_F(malformed, unknown_numbers_are_enotty)
{
	char operand[256] = { 0 };
	unsigned int number;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(self->fds); i++) {
		for (number = 0x46; number < 0x100; number++)
			EXPECT_ENOTTY(self->fds[i],
				      _IOWR(MSHV_IOCTL, number, operand));
		EXPECT_ENOTTY(self->fds[i], 0);
		EXPECT_ENOTTY(self->fds[i], ~0U);
		EXPECT_ENOTTY(self->fds[i], _IO('T', 0x27));
	}
}

/* No file of ours has a position or a stream. */
TEST_F(malformed, reading_and_writing_is_refused)
{
	char byte = 0;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(self->fds); i++) {
		EXPECT_EQ(-1, read(self->fds[i], &byte, 1));
		EXPECT_EQ(EINVAL, errno);
		EXPECT_EQ(-1, write(self->fds[i], &byte, 1));
		EXPECT_EQ(EINVAL, errno);
	}
}

TEST_HARNESS_MAIN
