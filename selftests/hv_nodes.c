// SPDX-License-Identifier: GPL-2.0
/*
 * The device nodes of a Hyper-V host: they exist, for the administrator only.
 */
#include <fcntl.h>
#include <linux/capability.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "vtl_harness.h"
#include "vtl_util.h"

FIXTURE(node)
{
	const char *path;
};

FIXTURE_VARIANT(node)
{
	const char *path;
};

/* clang-format off */
FIXTURE_VARIANT_ADD(node, mshv_hvcall)
{
	.path = DEV_MSHV_HVCALL,
};

FIXTURE_VARIANT_ADD(node, mshv_sint)
{
	.path = DEV_MSHV_SINT,
};
/* clang-format on */

FIXTURE_SETUP(node)
{
	self->path = variant->path;
}

FIXTURE_TEARDOWN(node)
{
}

TEST_F(node, is_a_character_device_for_its_owner_only)
{
	struct stat info;

	ASSERT_EQ(0, stat(self->path, &info));
	EXPECT_TRUE(S_ISCHR(info.st_mode));
	EXPECT_EQ(0600, info.st_mode & 07777);
	EXPECT_EQ(0, info.st_uid);
}

TEST_F(node, can_be_opened_by_the_administrator)
{
	int fd = vtl_open(self->path);

	EXPECT_LE(0, fd);
	close(fd);
}

TEST_F(node, can_be_opened_many_times)
{
	int fds[16];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(fds); i++) {
		fds[i] = vtl_open(self->path);
		ASSERT_LE(0, fds[i]);
	}
	for (i = 0; i < ARRAY_SIZE(fds); i++)
		EXPECT_EQ(0, close(fds[i]));
}

/* Root without the capability owns the file, but may not use the device. */
TEST_F(node, wants_cap_sys_admin)
{
	struct __user_cap_header_struct header = {
		.version = _LINUX_CAPABILITY_VERSION_3
	};
	struct __user_cap_data_struct data[2];

	ASSERT_EQ(0, syscall(SYS_capget, &header, data));
	data[0].effective &= ~(1U << CAP_SYS_ADMIN);
	ASSERT_EQ(0, syscall(SYS_capset, &header, data));
	EXPECT_EQ(-1, vtl_open(self->path));
	EXPECT_EQ(EPERM, errno);
	EXPECT_EQ(-1, open(self->path, O_RDONLY));
	EXPECT_EQ(EPERM, errno);
}

TEST_F(node, knows_no_other_commands)
{
	char operand[256] = { 0 };
	unsigned int number;
	int fd = vtl_open(self->path);

	ASSERT_LE(0, fd);
	for (number = 0x46; number < 0x100; number++) {
		EXPECT_EQ(-1, ioctl(fd, _IOWR(MSHV_IOCTL, number, operand),
				    operand));
		EXPECT_EQ(ENOTTY, errno);
	}
	close(fd);
}

TEST_F(node, maps_nothing_and_is_not_written)
{
	int fd = vtl_open(self->path);

	ASSERT_LE(0, fd);
	EXPECT_EQ(MAP_FAILED,
		  mmap(NULL, VTL_PAGE_SIZE, PROT_READ, MAP_SHARED, fd, 0));
	EXPECT_EQ(ENODEV, errno);
	EXPECT_EQ(-1, write(fd, "", 1));
	EXPECT_EQ(EINVAL, errno);
	close(fd);
}

TEST_HARNESS_MAIN
