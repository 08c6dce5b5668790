// SPDX-License-Identifier: GPL-2.0
/*
 * What the kernel itself does with lower-VTL memory that a program has mapped
 * (lib/kernel_access.c), in entries of 4 KiB and of 2 MiB: where the memory was
 * registered before it was mapped, it is pages and all works; otherwise it is page
 * frames, of which the kernel never gets a struct page.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "kernel_access.h"
#include "vtl_harness.h"
#include "vtl_util.h"

enum when { NEVER, BEFORE, AFTERWARDS };

FIXTURE(access)
{
	int vtl;
	uint64_t gpa;
	unsigned char *memory, *page;
};

FIXTURE_VARIANT(access)
{
	enum when registered;
	int is_large;
};

/* clang-format off */
FIXTURE_VARIANT_ADD(access, small_frames)
{
	.registered = NEVER,
	.is_large = 0,
};

FIXTURE_VARIANT_ADD(access, large_frames)
{
	.registered = NEVER,
	.is_large = 1,
};

FIXTURE_VARIANT_ADD(access, small_frames_registered_afterwards)
{
	.registered = AFTERWARDS,
	.is_large = 0,
};

FIXTURE_VARIANT_ADD(access, large_frames_registered_afterwards)
{
	.registered = AFTERWARDS,
	.is_large = 1,
};

FIXTURE_VARIANT_ADD(access, small_pages)
{
	.registered = BEFORE,
	.is_large = 0,
};

FIXTURE_VARIANT_ADD(access, large_pages)
{
	.registered = BEFORE,
	.is_large = 1,
};
/* clang-format on */

FIXTURE_SETUP(access)
{
	self->vtl = vtl_create();
	ASSERT_LE(0, self->vtl);
	if (!vtl_middle_memory(&self->gpa))
		SKIP(return,
			   "no vtl0_mem= of 32 MiB or more on the kernel command line");
	ASSERT_EQ(0, vtl_accept(self->vtl, self->gpa, 2 * VTL_LARGE_SIZE));
	if (variant->registered == BEFORE)
		ASSERT_EQ(0, vtl_register(self->vtl, self->gpa,
					  2 * VTL_LARGE_SIZE));
	self->memory =
		variant->is_large ?
			vtl_map_low_large(self->gpa, 2 * VTL_LARGE_SIZE) :
			vtl_map_low(self->gpa + VTL_PAGE_SIZE, VTL_LARGE_SIZE);
	ASSERT_NE(MAP_FAILED, (void *)self->memory);
	/* Neither the first page of an entry nor of a 64th of one. */
	self->page = self->memory + 0x91 * VTL_PAGE_SIZE;
	self->page[0] = 1;
	if (variant->registered == AFTERWARDS)
		ASSERT_EQ(0, vtl_register(self->vtl, self->gpa,
					  2 * VTL_LARGE_SIZE));
}

FIXTURE_TEARDOWN(access)
{
	close(self->vtl);
}

static void fill(unsigned char *page, unsigned int seed)
{
	size_t i;

	for (i = 0; i < VTL_PAGE_SIZE; i++)
		page[i] = i * 7 + (i >> 8) + seed;
}

TEST_F(access, each_works_for_pages_or_fails_for_frames)
{
	static _Alignas(VTL_PAGE_SIZE) unsigned char copy[VTL_PAGE_SIZE];
	static unsigned char expected[VTL_PAGE_SIZE];
	size_t i;

	for (i = 0; i < kernel_access_count; i++) {
		const struct kernel_access *access = &kernel_accesses[i];
		int result, wanted = variant->registered == BEFORE ?
					     access->of_pages :
					     access->of_frames;

		fill(self->page, i);
		fill(copy, access->way == ACCESS_WRITES ? ~i : 0);
		fill(expected,
		     access->way == ACCESS_WRITES && !wanted ? ~i : i);
		result = access->act(self->page, copy);
		EXPECT_EQ(wanted, result)
		{
			TH_LOG("%s", access->name);
		}
		/*
		 * What is read is what the page contains, and what is written
		 * is in the page.
		 */
		EXPECT_EQ(0, memcmp(self->page, expected, VTL_PAGE_SIZE))
		{
			TH_LOG("%s: memory", access->name);
		}
		if (access->way == ACCESS_READS && !wanted)
			EXPECT_EQ(0, memcmp(copy, expected, VTL_PAGE_SIZE))
			{
				TH_LOG("%s: copy", access->name);
			}
	}
	EXPECT_EQ(NULL, vtl_kernel_complaint());
}

TEST_F(access, a_page_that_is_held_outlives_its_mapping)
{
	static unsigned char copy[VTL_PAGE_SIZE], expected[VTL_PAGE_SIZE];
	int pipe_end, ring;

	fill(self->page, 5);
	fill(expected, 5);
	pipe_end = vtl_pipe_pin(self->page);
	ring = vtl_uring_pin(self->page);
	if (variant->registered != BEFORE) {
		EXPECT_EQ(-EFAULT, pipe_end);
		EXPECT_EQ(-EFAULT, ring);
		return;
	}
	ASSERT_LE(0, pipe_end);
	ASSERT_LE(0, ring);
	munmap(self->memory, VTL_LARGE_SIZE);
	ASSERT_EQ(VTL_PAGE_SIZE, read(pipe_end, copy, VTL_PAGE_SIZE));
	EXPECT_EQ(0, memcmp(copy, expected, VTL_PAGE_SIZE));
	close(pipe_end);
	close(ring);
	EXPECT_EQ(NULL, vtl_kernel_complaint());
}

/* Searches for the page in a dump of a process that has it mapped. */
TEST_F(access, nothing_of_it_is_in_a_core_dump)
{
	const struct rlimit any = { RLIM_INFINITY, RLIM_INFINITY };
	static const char path[] = "/tmp/vtl_core";
	char old[256] = { 0 };
	unsigned char *dump;
	off_t size;
	pid_t child;
	int pattern, status, fd;

	pattern = open("/proc/sys/kernel/core_pattern", O_RDWR);
	ASSERT_LE(0, pattern);
	ASSERT_LT(0, read(pattern, old, sizeof(old) - 1));
	ASSERT_EQ(sizeof(path) - 1, pwrite(pattern, path, sizeof(path) - 1, 0));
	fill(self->page, 9);
	child = fork();
	if (!child) {
		unsigned char *mine =
			vtl_map_low_large(self->gpa, VTL_LARGE_SIZE);

		setrlimit(RLIMIT_CORE, &any);
		fill(mine + 5 * VTL_PAGE_SIZE, 9);
		abort();
	}
	ASSERT_EQ(child, waitpid(child, &status, 0));
	pwrite(pattern, old, strlen(old), 0);
	close(pattern);
	ASSERT_TRUE(WIFSIGNALED(status) && WCOREDUMP(status));
	fd = open(path, O_RDONLY);
	ASSERT_LE(0, fd);
	size = lseek(fd, 0, SEEK_END);
	ASSERT_LT(0, size);
	dump = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
	ASSERT_NE(MAP_FAILED, (void *)dump);
	/* 256 bytes that occur nowhere else. */
	EXPECT_EQ(NULL, memmem(dump, size, self->page + 256, 256));
	EXPECT_NE(NULL, memmem(dump, size, "ELF", 3));
	munmap(dump, size);
	close(fd);
	unlink(path);
}

TEST_F(access, a_child_has_not_got_it_and_its_end_leaves_it_whole)
{
	pid_t child;
	int status;

	fill(self->page, 11);
	child = fork();
	if (!child)
		/* Nothing is mapped there. */
		_exit(msync(self->page, VTL_PAGE_SIZE, MS_ASYNC) &&
		      errno == ENOMEM);
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_TRUE(WIFEXITED(status));
	EXPECT_EQ(1, WEXITSTATUS(status));
	EXPECT_EQ(11, self->page[0]);
}

TEST_HARNESS_MAIN
