// SPDX-License-Identifier: GPL-2.0
/*
 * Poll files that keep the VTL file alive by which they were set: whatever they are, when
 * their process has closed all there is nothing left, and the module can be removed.
 */
#include <errno.h>
#include <linux/io_uring.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vtl_harness.h"
#include "vtl_util.h"

/* How many hold the module. */
static int users(void)
{
	FILE *file = fopen("/sys/module/mshv_vtl_tdx/refcnt", "r");
	int count = -1;

	if (file) {
		if (fscanf(file, "%d", &count) != 1)
			count = -1;
		fclose(file);
	}
	return count;
}

/* Unreferenced sockets are collected with a delay. */
static bool has_users(int wanted)
{
	int i;

	for (i = 0; i < 200 && users() != wanted; i++)
		usleep(50 * 1000);
	return users() == wanted;
}

static int set_poll_file(int fd, int file)
{
	struct mshv_set_poll_file request = { .cpu = 0, .fd = file };

	return ioctl(fd, MSHV_SET_POLL_FILE, &request) ? -errno : 0;
}

static int send_file(int socket, int file)
{
	char control[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec iov = { .iov_base = "x", .iov_len = 1 };
	struct msghdr message = { .msg_iov = &iov,
				  .msg_iovlen = 1,
				  .msg_control = control,
				  .msg_controllen = sizeof(control) };
	struct cmsghdr *rights = CMSG_FIRSTHDR(&message);

	rights->cmsg_level = SOL_SOCKET;
	rights->cmsg_type = SCM_RIGHTS;
	rights->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(rights), &file, sizeof(file));
	return sendmsg(socket, &message, 0) == 1 ? 0 : -errno;
}

/* A socket that has the VTL file in its queue, as that one's poll file. */
static int socket_cycle(int vtl)
{
	int ends[2];
	int result;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends))
		return -errno;
	result = set_poll_file(vtl, ends[0]);
	if (!result)
		result = send_file(ends[1], vtl);
	close(ends[0]);
	close(ends[1]);
	return result;
}

/*
 * An io_uring instance that has the VTL file registered; 1 if io_uring is not
 * available.
 */
static int ring_cycle(int vtl)
{
	struct io_uring_params params = { 0 };
	int ring = syscall(SYS_io_uring_setup, 4, &params);
	int result;

	if (ring < 0)
		return 1;
	result = set_poll_file(vtl, ring);
	if (!result && syscall(SYS_io_uring_register, ring,
			       IORING_REGISTER_FILES, &vtl, 1))
		result = -errno;
	close(ring);
	return result;
}

FIXTURE(cycle)
{
	int before;
};

FIXTURE_SETUP(cycle)
{
	self->before = users();
	ASSERT_LE(0, self->before);
}

FIXTURE_TEARDOWN(cycle)
{
	EXPECT_TRUE(has_users(self->before))
	{
		TH_LOG("%d users, %d before", users(), self->before);
	}
}

TEST_F(cycle, a_socket_with_the_file_in_its_queue_keeps_nothing)
{
	int vtl = vtl_create();

	ASSERT_LE(0, vtl);
	EXPECT_EQ(0, socket_cycle(vtl));
	close(vtl);
}

TEST_F(cycle, a_ring_with_the_file_registered_keeps_nothing)
{
	int vtl = vtl_open(DEV_MSHV_VTL);
	int result;

	ASSERT_LE(0, vtl);
	result = ring_cycle(vtl);
	close(vtl);
	if (result == 1)
		SKIP(return, "the kernel has no io_uring");
	EXPECT_EQ(0, result);
}

TEST_F(cycle, two_files_through_each_others_sockets_keep_nothing)
{
	int first = vtl_create(), second = vtl_create();
	int a[2], b[2];

	ASSERT_LE(0, first);
	ASSERT_LE(0, second);
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, a));
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, b));
	EXPECT_EQ(0, set_poll_file(first, a[0]));
	EXPECT_EQ(0, set_poll_file(second, b[0]));
	EXPECT_EQ(0, send_file(a[1], second));
	EXPECT_EQ(0, send_file(b[1], first));
	close(a[0]);
	close(a[1]);
	close(b[0]);
	close(b[1]);
	close(first);
	close(second);
}

TEST_F(cycle, a_process_that_is_killed_leaves_nothing)
{
	pid_t child = fork();
	int status;

	ASSERT_LE(0, child);
	if (!child) {
		int vtl = vtl_create();

		if (vtl < 0 || socket_cycle(vtl) || ring_cycle(vtl) < 0)
			_exit(1);
		raise(SIGKILL);
	}
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status));
}

/* Registers while another thread closes: either may be first. */
static void *close_it(void *argument)
{
	close(*(int *)argument);
	return NULL;
}

TEST_F(cycle, closed_while_it_is_set_nothing_stays)
{
	pthread_t thread;
	int round, vtl, ends[2];

	for (round = 0; round < 200; round++) {
		vtl = vtl_create();
		ASSERT_LE(0, vtl);
		ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
		ASSERT_EQ(0, send_file(ends[1], vtl));
		ASSERT_EQ(0, vtl_thread_anywhere(&thread, close_it, &vtl));
		set_poll_file(vtl, ends[0]);
		pthread_join(thread, NULL);
		close(ends[0]);
		close(ends[1]);
	}
}

TEST_F(cycle, one_of_several_descriptors_may_be_closed)
{
	volatile struct mshv_vtl_run *run;
	int vtl = vtl_create(), second = dup(vtl);
	int event = eventfd(0, EFD_CLOEXEC);
	uint64_t one = 1;

	ASSERT_LE(0, second);
	run = vtl_map_page(vtl, MSHV_VTL_MMAP_RUN_PAGE, 0);
	ASSERT_NE(NULL, (void *)run);
	run->cancel = 0;
	ASSERT_EQ(0, set_poll_file(vtl, event));
	close(vtl);
	ASSERT_EQ(sizeof(one), write(event, &one, sizeof(one)));
	EXPECT_EQ(1, run->cancel);
	run->cancel = 0;
	close(second);
	ASSERT_EQ(sizeof(one), write(event, &one, sizeof(one)));
	EXPECT_EQ(0, run->cancel);
	munmap((void *)run, VTL_PAGE_SIZE);
	close(event);
}

TEST_HARNESS_MAIN
