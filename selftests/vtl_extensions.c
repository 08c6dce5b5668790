// SPDX-License-Identifier: GPL-2.0
/* What /dev/mshv answers, and the VTL files it makes. */
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/resource.h>

#include "vtl_harness.h"
#include "vtl_util.h"

FIXTURE(mshv)
{
	int fd;
};

FIXTURE_SETUP(mshv)
{
	self->fd = vtl_open(DEV_MSHV);
	ASSERT_LE(0, self->fd);
}

FIXTURE_TEARDOWN(mshv)
{
	close(self->fd);
}

static int ask(int fd, __u32 number)
{
	return ioctl(fd, MSHV_CHECK_EXTENSION, &number);
}

TEST_F(mshv, answers_every_known_extension)
{
	EXPECT_EQ(0, ask(self->fd, MSHV_CAP_CORE_API_STABLE));
	EXPECT_EQ(0, ask(self->fd, MSHV_CAP_REGISTER_PAGE));
	EXPECT_EQ(0, ask(self->fd, MSHV_CAP_VTL_RETURN_ACTION));
	EXPECT_EQ(1, ask(self->fd, MSHV_CAP_DR6_SHARED));
	EXPECT_EQ(1, ask(self->fd, MSHV_CAP_LOWER_VTL_TIMER_VIRT));
}

/* A TD with one L2 VM has no VTL1 to switch to. */
TEST_F(mshv, tells_whether_it_switches_between_vtls)
{
	struct mshv_vtl_switch call = { .head = { sizeof(call), 0 } };
	int vtl = ioctl(self->fd, MSHV_CREATE_VTL, NULL);
	uint64_t count = 0;

	ASSERT_LE(0, vtl);
	ASSERT_EQ(0, vtl_read_field(vtl, TDG_VM_RD, FIELD_NUM_L2_VMS, &count));
	EXPECT_EQ(count >= 2, ask(self->fd, MSHV_CAP_VTL_SWITCH));
	EXPECT_EQ(count >= 2 ? 0 : -1,
		  ioctl(vtl, MSHV_VTL_SWITCH_SETUP, &call));
	if (count < 2)
		EXPECT_EQ(EOPNOTSUPP, errno);
	close(vtl);
}

TEST_F(mshv, refuses_unknown_extensions)
{
	static const __u32 unknown[] = { 5, 0xff, 0x7fffffff, 0x80000000,
					 0xffffffff };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(unknown); i++) {
		EXPECT_EQ(-1, ask(self->fd, unknown[i]));
		EXPECT_EQ(EOPNOTSUPP, errno)
		{
			TH_LOG("extension %x", unknown[i]);
		}
	}
}

TEST_F(mshv, makes_vtl_files_that_close_on_exec)
{
	char unused = 0x55;
	int vtl = ioctl(self->fd, MSHV_CREATE_VTL, &unused);

	ASSERT_LE(0, vtl);
	EXPECT_EQ(FD_CLOEXEC, fcntl(vtl, F_GETFD));
	EXPECT_EQ(O_RDWR, fcntl(vtl, F_GETFL) & O_ACCMODE);
	EXPECT_EQ(0, close(vtl));
}

TEST_F(mshv, does_not_look_at_the_argument_of_create)
{
	int vtl = ioctl(self->fd, MSHV_CREATE_VTL, NULL);

	ASSERT_LE(0, vtl);
	close(vtl);
}

TEST_F(mshv, vtl_files_outlive_their_maker)
{
	char unused = 0;
	uint64_t count;
	int vtl;

	vtl = ioctl(self->fd, MSHV_CREATE_VTL, &unused);
	ASSERT_LE(0, vtl);
	close(self->fd);
	self->fd = -1;
	EXPECT_EQ(0, vtl_read_field(vtl, TDG_VM_RD, FIELD_NUM_L2_VMS, &count));
	close(vtl);
}

TEST_F(mshv, reports_a_full_file_table)
{
	struct rlimit none = { .rlim_cur = self->fd + 1,
			       .rlim_max = self->fd + 1 };
	char unused = 0;

	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &none));
	EXPECT_EQ(-1, ioctl(self->fd, MSHV_CREATE_VTL, &unused));
	EXPECT_EQ(EMFILE, errno);
}

TEST_HARNESS_MAIN
