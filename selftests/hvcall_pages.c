// SPDX-License-Identifier: GPL-2.0
/*
 * Pages of lower-VTL memory that are converted by a hypercall: nothing can
 * access what is shared with the host, by any mapping, at any moment.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#include "debug_port.h"
#include "vtl_harness.h"
#include "hvcall.h"
#include "vtl_util.h"

#define HV_INVALID_PARAMETER 5

FIXTURE(pages)
{
	int fd;
	struct mshv_vtl_hvcall call;
};

FIXTURE_SETUP(pages)
{
	self->fd = vtl_open(DEV_MSHV_HVCALL);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, hvcall_allow(self->fd, 64));
	self->call.status = 0x5555555555555555;
}

FIXTURE_TEARDOWN(pages)
{
	close(self->fd);
}

/* Makes pages private and accepted, whatever ran before. */
static int prepare_private(uint64_t gpa, unsigned int pages)
{
	int vtl = vtl_create(), result;

	result = vtl_accept(vtl, gpa, pages * VTL_PAGE_SIZE);
	close(vtl);
	return result;
}

/* A node of the driver's, not of devtmpfs. */
static int make_node(const char *path)
{
	struct stat stat_of;

	unlink(path);
	if (stat(DEV_MSHV_VTL_LOW, &stat_of))
		return -1;
	return mknod(path, S_IFCHR | 0600, stat_of.st_rdev);
}

/* The host reports how far it got; the other pages are not converted. */
TEST_F(pages, pages_that_the_host_did_not_take_stay_private)
{
	struct visibility input = { .partition = ~0ULL, .visibility = 1 };
	volatile unsigned char *memory;
	uint64_t base, size;

	ASSERT_TRUE(vtl_memory(&base, &size));
	base += size - 8 * VTL_PAGE_SIZE;
	input.pages[0] = base / VTL_PAGE_SIZE;
	memory = vtl_map_low(base, VTL_PAGE_SIZE);
	ASSERT_NE(MAP_FAILED, (void *)memory);
	ASSERT_EQ(0, prepare_private(base, 1));
	memory[0] = 0x5a;
	/* Visible for reading only: this host does not support that. */
	ASSERT_EQ(0, hvcall(&self->call, self->fd,
			    MODIFY_HOST_VISIBILITY | REPS(1), &input,
			    sizeof(input), NULL, 0));
	EXPECT_EQ(HV_INVALID_PARAMETER, self->call.status);
	EXPECT_EQ(0x5a, memory[0]);
	munmap((void *)memory, VTL_PAGE_SIZE);
}

static sigjmp_buf on_fault;

static void take_fault(int signal)
{
	siglongjmp(on_fault, signal);
}

/* The signal that a read gives, or 0. */
static int touch(volatile unsigned char *memory)
{
	struct sigaction action = { .sa_handler = take_fault };
	int signal;

	sigaction(SIGBUS, &action, NULL);
	sigaction(SIGSEGV, &action, NULL);
	signal = sigsetjmp(on_fault, 1);
	if (!signal)
		(void)*memory;
	return signal;
}

/*
 * A page that is shared with the host can't be accessed by any mapping, of whichever
 * node and file: the host would be asked for it, and the trust domain would end.
 */
TEST_F(pages, a_page_given_to_the_host_is_unmapped_first)
{
	struct visibility input = { .partition = ~0ULL, .visibility = 3 };
	volatile unsigned char *maps[4], *shared;
	struct mshv_tdcall call;
	uint64_t base, size;
	int vtl = vtl_create(), other, i;

	ASSERT_TRUE(vtl_memory(&base, &size));
	base += size / 2 & ~(VTL_LARGE_SIZE - 1);
	ASSERT_EQ(0, prepare_private(base, VTL_LARGE_SIZE / VTL_PAGE_SIZE));
	/* A piece of 2 MiB, a page, one of another open file, one of another node. */
	maps[0] = vtl_map_low(base, VTL_LARGE_SIZE);
	maps[1] = vtl_map_low(base, VTL_PAGE_SIZE);
	maps[2] = vtl_map_low(base, VTL_PAGE_SIZE);
	ASSERT_EQ(0, make_node("/tmp/low"));
	other = open("/tmp/low", O_RDWR);
	ASSERT_LE(0, other);
	maps[3] = mmap(NULL, VTL_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
		       other, base);
	for (i = 0; i < 4; i++) {
		ASSERT_NE(MAP_FAILED, (void *)maps[i]);
		ASSERT_EQ(0, touch(maps[i]));
	}
	input.pages[0] = base / VTL_PAGE_SIZE;
	ASSERT_EQ(0, hvcall(&self->call, self->fd,
			    MODIFY_HOST_VISIBILITY | REPS(1), &input,
			    sizeof(input), NULL, 0));
	ASSERT_EQ(REPS(1), self->call.status);
	for (i = 0; i < 4; i++)
		EXPECT_EQ(SIGBUS, touch(maps[i]));
	/* Its neighbour is still there. */
	EXPECT_EQ(0, touch(maps[0] + VTL_PAGE_SIZE));
	/* Nor is it passed to the TDX module. */
	call = (struct mshv_tdcall){ .rax = TDG_MEM_PAGE_ACCEPT, .rcx = base };
	EXPECT_EQ(0, vtl_tdcall(vtl, &call));
	EXPECT_EQ(TDX_OPERAND_INVALID, vtl_status(&call));
	call = (struct mshv_tdcall){ .rax = TDG_MEM_PAGE_ATTR_RD, .rcx = base };
	EXPECT_EQ(0, vtl_tdcall(vtl, &call));
	EXPECT_EQ(TDX_OPERAND_INVALID, vtl_status(&call));
	call = (struct mshv_tdcall){ .rax = TDG_MEM_PAGE_ACCEPT,
				     .rcx = base | 1 };
	EXPECT_EQ(0, vtl_tdcall(vtl, &call));
	EXPECT_EQ(TDX_OPERAND_INVALID, vtl_status(&call));
	/* The shared alias can be used while it exists. */
	shared = vtl_map_low(base | MSHV_VTL_LOW_SHARED, VTL_PAGE_SIZE);
	ASSERT_NE(MAP_FAILED, (void *)shared);
	EXPECT_EQ(0, touch(shared));
	input.visibility = 0;
	ASSERT_EQ(0, hvcall(&self->call, self->fd,
			    MODIFY_HOST_VISIBILITY | REPS(1), &input,
			    sizeof(input), NULL, 0));
	ASSERT_EQ(REPS(1), self->call.status);
	EXPECT_EQ(SIGBUS, touch(shared));
	EXPECT_EQ(SIGBUS, touch(maps[1]));
	EXPECT_EQ(0, vtl_accept(vtl, base, VTL_PAGE_SIZE));
	for (i = 0; i < 4; i++)
		EXPECT_EQ(0, touch(maps[i]));
	munmap((void *)shared, VTL_PAGE_SIZE);
	munmap((void *)maps[0], VTL_LARGE_SIZE);
	for (i = 1; i < 4; i++)
		munmap((void *)maps[i], VTL_PAGE_SIZE);
	close(other);
	unlink("/tmp/low");
	close(vtl);
}

/* A child process, for its own page tables, because the handler jumps. */
static int touch_all_the_time(uint64_t gpa)
{
	volatile unsigned char *memory = vtl_map_low(gpa, VTL_PAGE_SIZE);

	if (memory == MAP_FAILED)
		return 1;
	for (;;)
		touch(memory);
}

TEST_F(pages, a_page_is_given_away_under_the_eyes_of_those_who_touch_it)
{
	struct visibility input = { .partition = ~0ULL };
	uint64_t base, size;
	int vtl = vtl_create(), i, status;
	pid_t child[2];

	ASSERT_TRUE(vtl_memory(&base, &size));
	base += size - 8 * VTL_PAGE_SIZE;
	ASSERT_EQ(0, prepare_private(base, 1));
	input.pages[0] = base / VTL_PAGE_SIZE;
	for (i = 0; i < 2; i++) {
		child[i] = fork();
		if (!child[i])
			_exit(touch_all_the_time(base));
	}
	for (i = 0; i < 200; i++) {
		input.visibility = 3;
		ASSERT_EQ(0, hvcall(&self->call, self->fd,
				    MODIFY_HOST_VISIBILITY | REPS(1), &input,
				    sizeof(input), NULL, 0));
		ASSERT_EQ(REPS(1), self->call.status);
		input.visibility = 0;
		ASSERT_EQ(0, hvcall(&self->call, self->fd,
				    MODIFY_HOST_VISIBILITY | REPS(1), &input,
				    sizeof(input), NULL, 0));
		ASSERT_EQ(REPS(1), self->call.status);
		ASSERT_EQ(0, vtl_accept(vtl, base, VTL_PAGE_SIZE));
	}
	for (i = 0; i < 2; i++) {
		kill(child[i], SIGKILL);
		waitpid(child[i], &status, 0);
		EXPECT_TRUE(WIFSIGNALED(status));
	}
	close(vtl);
}

/* The kernel has such pages in its direct map. */
TEST_F(pages, a_page_with_a_structure_does_not_change_hands)
{
	struct visibility input = { .partition = ~0ULL };
	struct mshv_vtl_ram_disposition range;
	int vtl = vtl_create();
	uint64_t base, size;

	ASSERT_TRUE(vtl_memory(&base, &size));
	base += size / 2 & ~(VTL_LARGE_SIZE - 1);
	ASSERT_EQ(0, prepare_private(base, VTL_LARGE_SIZE / VTL_PAGE_SIZE));
	range.start_pfn = base / VTL_PAGE_SIZE;
	range.last_pfn = range.start_pfn + VTL_LARGE_SIZE / VTL_PAGE_SIZE;
	ASSERT_EQ(0, ioctl(vtl, MSHV_ADD_VTL0_MEMORY, &range));
	input.pages[0] = range.start_pfn + 5;
	for (input.visibility = 0; input.visibility <= 3;
	     input.visibility += 3) {
		EXPECT_EQ(-1, hvcall(&self->call, self->fd,
				     MODIFY_HOST_VISIBILITY | REPS(1), &input,
				     sizeof(input), NULL, 0));
		EXPECT_EQ(EBUSY, errno);
	}
	close(vtl);
}

TEST_F(pages, a_page_given_away_gets_no_structure)
{
	struct visibility input = { .partition = ~0ULL, .visibility = 3 };
	struct mshv_vtl_ram_disposition range;
	int vtl = vtl_create();
	uint64_t base, size;

	ASSERT_TRUE(vtl_memory(&base, &size));
	base += size / 2 & ~(VTL_LARGE_SIZE - 1);
	ASSERT_EQ(0, prepare_private(base, VTL_LARGE_SIZE / VTL_PAGE_SIZE));
	range.start_pfn = base / VTL_PAGE_SIZE;
	range.last_pfn = range.start_pfn + VTL_LARGE_SIZE / VTL_PAGE_SIZE;
	input.pages[0] = range.last_pfn - 1;
	ASSERT_EQ(0, hvcall(&self->call, self->fd,
			    MODIFY_HOST_VISIBILITY | REPS(1), &input,
			    sizeof(input), NULL, 0));
	EXPECT_EQ(-1, ioctl(vtl, MSHV_ADD_VTL0_MEMORY, &range));
	EXPECT_EQ(EINVAL, errno);
	input.visibility = 0;
	ASSERT_EQ(0, hvcall(&self->call, self->fd,
			    MODIFY_HOST_VISIBILITY | REPS(1), &input,
			    sizeof(input), NULL, 0));
	EXPECT_EQ(0, vtl_accept(vtl, base + VTL_LARGE_SIZE - VTL_PAGE_SIZE,
				VTL_PAGE_SIZE));
	close(vtl);
}

/* The next load would not know of the page, and could not prevent accesses. */
TEST_F(pages, the_module_stays_as_long_as_the_host_has_one)
{
	struct visibility input = { .partition = ~0ULL, .visibility = 3 };
	uint64_t base, size;

	ASSERT_TRUE(vtl_memory(&base, &size));
	base += size / 2 & ~(VTL_LARGE_SIZE - 1);
	ASSERT_EQ(0, prepare_private(base, 2));
	input.pages[0] = base / VTL_PAGE_SIZE;
	input.pages[1] = input.pages[0] + 1;
	ASSERT_EQ(0, hvcall(&self->call, self->fd,
			    MODIFY_HOST_VISIBILITY | REPS(2), &input,
			    sizeof(input), NULL, 0));
	ASSERT_EQ(REPS(2), self->call.status);
	close(self->fd);
	EXPECT_EQ(-EWOULDBLOCK, vtl_unload_module(0));
	/* Another file may return them. */
	self->fd = vtl_open(DEV_MSHV_HVCALL);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, hvcall_allow(self->fd, 64));
	input.visibility = 0;
	ASSERT_EQ(0, hvcall(&self->call, self->fd,
			    MODIFY_HOST_VISIBILITY | REPS(1), &input,
			    sizeof(input), NULL, 0));
	ASSERT_EQ(REPS(1), self->call.status);
	close(self->fd);
	EXPECT_EQ(-EWOULDBLOCK, vtl_unload_module(0));
	self->fd = vtl_open(DEV_MSHV_HVCALL);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, hvcall_allow(self->fd, 64));
	ASSERT_EQ(0, hvcall(&self->call, self->fd,
			    MODIFY_HOST_VISIBILITY | REPS(2) | DONE(1), &input,
			    sizeof(input), NULL, 0));
	ASSERT_EQ(REPS(2), self->call.status);
	close(self->fd);
	EXPECT_EQ(0, vtl_unload_module(0));
	ASSERT_EQ(0, vtl_load_module());
	EXPECT_EQ(0, prepare_private(base, 2));
	self->fd = vtl_open(DEV_MSHV_HVCALL);
}

/* Returns what MEM.PAGE.ATTR.RD says of a page. */
static uint32_t look_at(int vtl, uint64_t gpa)
{
	struct mshv_tdcall call = { .rax = TDG_MEM_PAGE_ATTR_RD, .rcx = gpa };

	return vtl_tdcall(vtl, &call) ? ~0U : vtl_status(&call);
}

/*
 * The host stops at the second of three pages; the third is the first one
 * again.
 */
TEST_F(pages, a_page_named_twice_is_gone_once_it_is_done)
{
	struct visibility input = { .partition = ~0ULL, .visibility = 3 };
	uint64_t base, size, stop_at_second = 1 << 16 | 1;
	int vtl = vtl_create();

	ASSERT_TRUE(vtl_memory(&base, &size));
	base += size / 2 & ~(VTL_LARGE_SIZE - 1);
	ASSERT_EQ(0, prepare_private(base, 2));
	input.pages[0] = input.pages[2] = base / VTL_PAGE_SIZE;
	input.pages[1] = input.pages[0] + 1;
	ASSERT_EQ(0, debug_port(ACTION_CONVERSIONS, stop_at_second));
	ASSERT_EQ(0, hvcall(&self->call, self->fd,
			    MODIFY_HOST_VISIBILITY | REPS(3), &input,
			    sizeof(input), NULL, 0));
	ASSERT_EQ(REPS(1) | HV_INVALID_PARAMETER, self->call.status);
	EXPECT_EQ(TDX_OPERAND_INVALID, look_at(vtl, base));
	EXPECT_EQ(TDX_SUCCESS, look_at(vtl, base + VTL_PAGE_SIZE));
	/* Likewise when they come back. */
	input.visibility = 0;
	ASSERT_EQ(0, debug_port(ACTION_CONVERSIONS, stop_at_second));
	ASSERT_EQ(0, hvcall(&self->call, self->fd,
			    MODIFY_HOST_VISIBILITY | REPS(3), &input,
			    sizeof(input), NULL, 0));
	ASSERT_EQ(REPS(1) | HV_INVALID_PARAMETER, self->call.status);
	EXPECT_EQ(0, prepare_private(base, 1));
	EXPECT_EQ(TDX_SUCCESS, look_at(vtl, base));
	/* All of it, and then back: nothing is left that keeps the module. */
	input.visibility = 3;
	ASSERT_EQ(0, hvcall(&self->call, self->fd,
			    MODIFY_HOST_VISIBILITY | REPS(3), &input,
			    sizeof(input), NULL, 0));
	ASSERT_EQ(REPS(3), self->call.status);
	EXPECT_EQ(TDX_OPERAND_INVALID, look_at(vtl, base));
	EXPECT_EQ(TDX_OPERAND_INVALID, look_at(vtl, base + VTL_PAGE_SIZE));
	input.visibility = 0;
	ASSERT_EQ(0, hvcall(&self->call, self->fd,
			    MODIFY_HOST_VISIBILITY | REPS(3), &input,
			    sizeof(input), NULL, 0));
	ASSERT_EQ(REPS(3), self->call.status);
	EXPECT_EQ(0, prepare_private(base, 2));
	close(vtl);
	close(self->fd);
	EXPECT_EQ(0, vtl_unload_module(0));
	ASSERT_EQ(0, vtl_load_module());
	self->fd = vtl_open(DEV_MSHV_HVCALL);
}

TEST_HARNESS_MAIN
