// SPDX-License-Identifier: GPL-2.0
/*
 * A CPU that comes online while the module is loaded gets a virtual processor, whose
 * switches are attested from the first one on. To test that, boot with maxcpus=1 and run
 * this first. Loads the module anew, and at last as it was.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "attested.h"
#include "vtl_harness.h"
#include "vtl_util.h"

#define CPU 1
#define ONLINE "/sys/devices/system/cpu/cpu1/online"

static char is_online(void)
{
	char state = 0;
	int fd = open(ONLINE, O_RDONLY);

	if (fd >= 0 && read(fd, &state, 1) != 1)
		state = 0;
	close(fd);
	return state;
}

/* 0 or the negative errno. */
static int set_online(const char *state)
{
	int fd = open(ONLINE, O_WRONLY), result;

	if (fd < 0)
		return -errno;
	result = write(fd, state, strlen(state)) < 0 ? -errno : 0;
	close(fd);
	return result;
}

static int run_page_errno(int fd)
{
	void *page = vtl_map_page(fd, MSHV_VTL_MMAP_RUN_PAGE, CPU);

	if (page == MAP_FAILED)
		return errno;
	munmap(page, VTL_PAGE_SIZE);
	return 0;
}

FIXTURE(cpu)
{
	int fd;
};

FIXTURE_SETUP(cpu)
{
	if (is_online() == 0)
		SKIP(return, "no second CPU, or one that is always online");
	ASSERT_EQ(0, vtl_unload_module(0));
	ASSERT_EQ(0, vtl_load_module_with("attest=try attest_interval=0"));
	self->fd = vtl_create();
	ASSERT_LE(0, self->fd);
}

FIXTURE_TEARDOWN(cpu)
{
	close(self->fd);
	vtl_unload_module(0);
	EXPECT_EQ(0, vtl_load_module());
}

/* What an event says of the CPU. */
static struct attested_head head_in(int fd, int64_t number)
{
	static union {
		struct attested_event event;
		uint8_t bytes[ATTESTED_EVENT_BYTES];
	} event;
	const struct attested_head *heads = (const void *)(&event.event + 1);

	memset(&event, 0, sizeof(event));
	attested_read(fd, number, &event, sizeof(event));
	return heads[CPU];
}

/* Makes checkpoints until told to stop. */
struct checkpoints {
	int fd;
	volatile bool may_end;
	volatile int64_t last;
};

static void *make_checkpoints(void *argument)
{
	struct checkpoints *made = argument;

	do {
		made->last = attested_checkpoint(made->fd, NULL, 0);
		/* The module keeps some thousand. */
		usleep(5000);
	} while (made->last >= 0 && !made->may_end);
	return NULL;
}

TEST_F(cpu, coming_online_makes_a_vp)
{
	struct checkpoints made = { .fd = self->fd };
	pthread_t thread;
	struct vtl_guest guest;
	struct attested_head head;
	struct attested log;

	if (is_online() == '1')
		SKIP(return, "the second CPU is online: start with maxcpus=1");
	ASSERT_EQ(0, attested_open(&log, self->fd))
	{
		TH_LOG("%s", log.why);
	}
	EXPECT_EQ(1, attested_checkpoint(self->fd, NULL, 0));
	head = head_in(self->fd, 1);
	EXPECT_EQ(CPU, head.id);
	EXPECT_EQ(ATTESTED_OFFLINE, head.flags);
	EXPECT_EQ(1, head.next);
	EXPECT_EQ(EINVAL, run_page_errno(self->fd));
	ASSERT_EQ(0, vtl_thread_on(&thread, 0, make_checkpoints, &made));
	while (!made.last)
		sched_yield();
	ASSERT_EQ(0, set_online("1"));
	EXPECT_EQ(0, run_page_errno(self->fd));
	ASSERT_EQ(0, vtl_guest_open(&guest, CPU))
	{
		TH_LOG("%s", guest.why);
	}
	ASSERT_EQ(0,
		  vtl_guest_load(&guest, vtl_guest_exits, vtl_guest_exits_end));
	EXPECT_EQ(0, vtl_run(&guest));
	EXPECT_EQ(EXIT_CPUID, vtl_exit_reason(&guest));
	made.may_end = true;
	ASSERT_EQ(0, pthread_join(thread, NULL));
	ASSERT_LT(1, made.last);
	EXPECT_EQ(made.last + 1, attested_checkpoint(self->fd, NULL, 0));
	head = head_in(self->fd, made.last + 1);
	EXPECT_EQ(0, head.flags);
	EXPECT_LT(1, head.next);
	EXPECT_STREQ("", attested_verdict(&log));
	attested_close(&log);
	vtl_guest_close(&guest);
}

/* A TD's firmware can't take a CPU offline again, so Linux refuses. */
TEST_F(cpu, none_goes_offline)
{
	EXPECT_EQ(-EOPNOTSUPP, set_online("0"));
	EXPECT_EQ('1', is_online());
	EXPECT_EQ(0, run_page_errno(self->fd));
}

TEST_HARNESS_MAIN
