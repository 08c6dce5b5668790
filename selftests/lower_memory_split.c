// SPDX-License-Identifier: GPL-2.0
/*
 * A change to one page in the middle of a mapping of lower-VTL memory, or to
 * half of it: the rest does not change, the process's counters are right
 * afterwards, and no page stays referenced. For entries of 4 KiB and of 2 MiB,
 * of PFNs and of pages.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "kernel_access.h"
#include "vtl_harness.h"
#include "vtl_util.h"

#define SIZE (2 * VTL_LARGE_SIZE)
#define PAGES (SIZE / VTL_PAGE_SIZE)
/* In the middle of the second 2 MiB. */
#define VICTIM 700UL
#define READ_WRITE (PROT_READ | PROT_WRITE)

static sigjmp_buf after_fault;

static void on_fault(int signal)
{
	siglongjmp(after_fault, signal);
}

/* The signal with which writing a word ends, or 0. */
static int put(volatile uint64_t *at, uint64_t value)
{
	int signal = sigsetjmp(after_fault, 1);

	if (!signal)
		*at = value;
	return signal;
}

FIXTURE(split)
{
	int vtl;
	uint64_t gpa;
	unsigned char *memory;
	long rss;
};

FIXTURE_VARIANT(split)
{
	bool is_registered;
	bool is_large;
};

/* clang-format off */
FIXTURE_VARIANT_ADD(split, small_frames)
{
	.is_registered = false,
	.is_large = false,
};

FIXTURE_VARIANT_ADD(split, large_frames)
{
	.is_registered = false,
	.is_large = true,
};

FIXTURE_VARIANT_ADD(split, small_pages)
{
	.is_registered = true,
	.is_large = false,
};

FIXTURE_VARIANT_ADD(split, large_pages)
{
	.is_registered = true,
	.is_large = true,
};
/* clang-format on */

/* Pages of files and devices that are counted for this process, in kB. */
static long rss_of_files(void)
{
	FILE *file = fopen("/proc/self/status", "r");
	char line[128];
	long kilobytes = -1;

	if (!file)
		return -1;
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "RssFile: %ld", &kilobytes) == 1)
			break;
	fclose(file);
	return kilobytes;
}

static uint64_t *word(const unsigned char *memory, size_t page)
{
	return (uint64_t *)(memory + page * VTL_PAGE_SIZE);
}

FIXTURE_SETUP(split)
{
	struct sigaction action = { .sa_handler = on_fault };
	size_t i;

	sigaction(SIGBUS, &action, NULL);
	sigaction(SIGSEGV, &action, NULL);
	self->vtl = vtl_create();
	ASSERT_LE(0, self->vtl);
	if (!vtl_middle_memory(&self->gpa))
		SKIP(return,
			   "no vtl0_mem= of 32 MiB or more on the kernel command line");
	ASSERT_EQ(0, vtl_accept(self->vtl, self->gpa, SIZE + VTL_LARGE_SIZE));
	if (variant->is_registered)
		ASSERT_EQ(0, vtl_register(self->vtl, self->gpa,
					  SIZE + VTL_LARGE_SIZE));
	/* What reading the figure needs itself has been read once. */
	rss_of_files();
	self->rss = rss_of_files();
	self->memory = variant->is_large ?
			       vtl_map_low_large(self->gpa, SIZE) :
			       vtl_map_low(self->gpa + VTL_PAGE_SIZE, SIZE);
	ASSERT_NE(MAP_FAILED, (void *)self->memory);
	for (i = 0; i < PAGES; i++)
		*word(self->memory, i) = i;
}

/* Each page that is mapped shows what was written there, and takes more. */
static size_t wrong_pages(const unsigned char *memory, size_t first,
			  size_t count)
{
	size_t i, wrong = 0;

	for (i = first; i < first + count; i++) {
		volatile uint64_t *at = word(memory, i - first);

		wrong += *at != i;
		*at = ~i;
		wrong += *at != ~i;
		*at = i;
	}
	return wrong;
}

/* Nothing is left: neither in the process's counters nor referenced. */
FIXTURE_TEARDOWN(split)
{
	EXPECT_EQ(self->rss, rss_of_files());
	EXPECT_EQ(0, close(self->vtl));
	/* The range ends with its last user, unless a page was leaked. */
	EXPECT_FALSE(vtl_stays_registered(self->gpa));
	EXPECT_EQ(NULL, vtl_kernel_complaint());
}

TEST_F(split, one_page_is_protected)
{
	unsigned char *victim = self->memory + VICTIM * VTL_PAGE_SIZE;

	ASSERT_EQ(0, mprotect(victim, VTL_PAGE_SIZE, PROT_NONE));
	EXPECT_EQ(SIGSEGV, put((void *)victim, 1));
	EXPECT_EQ(0, wrong_pages(self->memory, 0, VICTIM));
	ASSERT_EQ(0, mprotect(victim, VTL_PAGE_SIZE, PROT_READ));
	EXPECT_EQ(VICTIM, *word(self->memory, VICTIM));
	EXPECT_EQ(SIGSEGV, put((void *)victim, 1));
	ASSERT_EQ(0, mprotect(victim, VTL_PAGE_SIZE, READ_WRITE));
	EXPECT_EQ(0, wrong_pages(self->memory, 0, PAGES));
	munmap(self->memory, SIZE);
}

TEST_F(split, all_of_it_is_protected)
{
	ASSERT_EQ(0, mprotect(self->memory, SIZE, PROT_READ));
	EXPECT_EQ(SIGSEGV, put(word(self->memory, VICTIM), 1));
	EXPECT_EQ(VICTIM, *word(self->memory, VICTIM));
	ASSERT_EQ(0, mprotect(self->memory, SIZE, READ_WRITE));
	EXPECT_EQ(0, wrong_pages(self->memory, 0, PAGES));
	munmap(self->memory, SIZE);
}

TEST_F(split, one_page_is_unmapped)
{
	unsigned char *victim = self->memory + VICTIM * VTL_PAGE_SIZE;

	ASSERT_EQ(0, munmap(victim, VTL_PAGE_SIZE));
	EXPECT_EQ(SIGSEGV, put((void *)victim, 1));
	EXPECT_EQ(0, wrong_pages(self->memory, 0, VICTIM));
	EXPECT_EQ(0, wrong_pages(victim + VTL_PAGE_SIZE, VICTIM + 1,
				 PAGES - VICTIM - 1));
	munmap(self->memory, SIZE);
}

TEST_F(split, something_else_is_mapped_over_one_page)
{
	unsigned char *victim = self->memory + VICTIM * VTL_PAGE_SIZE;

	ASSERT_EQ(victim, mmap(victim, VTL_PAGE_SIZE, READ_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	EXPECT_EQ(0, *(uint64_t *)victim);
	*(uint64_t *)victim = 5;
	EXPECT_EQ(0, wrong_pages(self->memory, 0, VICTIM));
	EXPECT_EQ(0, wrong_pages(victim + VTL_PAGE_SIZE, VICTIM + 1,
				 PAGES - VICTIM - 1));
	munmap(self->memory, SIZE);
}

/* To an address where entries of 2 MiB fit, and to one where they don't. */
static void move_half(struct __test_metadata *_metadata, unsigned char *memory,
		      size_t half, size_t shift)
{
	unsigned char *space = mmap(NULL, 2 * SIZE, PROT_NONE,
				    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned char *to, *moved;
	size_t first = half / VTL_PAGE_SIZE;

	ASSERT_NE(MAP_FAILED, (void *)space);
	to = space +
	     ((uintptr_t)memory + half - (uintptr_t)space) % VTL_LARGE_SIZE +
	     shift;
	moved = mremap(memory + half, SIZE - half, SIZE - half,
		       MREMAP_MAYMOVE | MREMAP_FIXED, to);
	ASSERT_EQ(to, moved);
	EXPECT_EQ(SIGSEGV, put(word(memory, first), 1));
	EXPECT_EQ(0, wrong_pages(memory, 0, first));
	EXPECT_EQ(0, wrong_pages(moved, first, PAGES - first));
	munmap(memory, SIZE);
	munmap(moved, SIZE - half);
	munmap(space, 2 * SIZE);
}

TEST_F(split, half_moves_along_its_large_pages)
{
	move_half(_metadata, self->memory, VTL_LARGE_SIZE, 0);
}

TEST_F(split, half_moves_to_where_large_pages_do_not_fit)
{
	move_half(_metadata, self->memory, VTL_LARGE_SIZE, VTL_PAGE_SIZE);
}

TEST_F(split, half_a_large_page_moves)
{
	move_half(_metadata, self->memory, VTL_LARGE_SIZE / 2, 0);
}

TEST_F(split, it_does_not_grow)
{
	EXPECT_EQ(MAP_FAILED, mremap(self->memory, SIZE, SIZE + VTL_PAGE_SIZE,
				     MREMAP_MAYMOVE));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(self->memory,
		  mremap(self->memory, SIZE, VICTIM * VTL_PAGE_SIZE, 0));
	EXPECT_EQ(0, wrong_pages(self->memory, 0, VICTIM));
	munmap(self->memory, VICTIM * VTL_PAGE_SIZE);
}

/* Pages may be dropped and come back; frames are not the kernel's to drop. */
TEST_F(split, one_page_is_not_needed)
{
	unsigned char *victim = self->memory + VICTIM * VTL_PAGE_SIZE;
	int result = madvise(victim, VTL_PAGE_SIZE, MADV_DONTNEED);

	EXPECT_EQ(variant->is_registered ? 0 : -1, result);
	EXPECT_EQ(0, wrong_pages(self->memory, 0, PAGES));
	munmap(self->memory, SIZE);
}

TEST_F(split, one_page_is_locked_and_one_advised)
{
	unsigned char *victim = self->memory + VICTIM * VTL_PAGE_SIZE;

	EXPECT_EQ(0, mlock(victim, VTL_PAGE_SIZE));
	EXPECT_EQ(0, munlock(victim, VTL_PAGE_SIZE));
	madvise(victim, VTL_PAGE_SIZE, MADV_COLD);
	madvise(victim, VTL_PAGE_SIZE, MADV_HUGEPAGE);
	madvise(victim, VTL_PAGE_SIZE, MADV_NOHUGEPAGE);
	EXPECT_EQ(0, wrong_pages(self->memory, 0, PAGES));
	munmap(self->memory, SIZE);
}

/* Writes are noticed by faults: large entries become small ones. */
TEST_F(split, writes_are_tracked)
{
	FILE *file = fopen("/proc/self/clear_refs", "w");

	ASSERT_NE(NULL, file);
	EXPECT_LT(0, fputs("4", file));
	EXPECT_EQ(0, fclose(file));
	EXPECT_EQ(0, wrong_pages(self->memory, 0, PAGES));
	munmap(self->memory, SIZE);
	/* Also those that were mapped afterwards. */
	self->memory = vtl_map_low_large(self->gpa, SIZE);
	ASSERT_NE(MAP_FAILED, (void *)self->memory);
	EXPECT_EQ(VICTIM, *word(self->memory, VICTIM + !variant->is_large));
	EXPECT_EQ(0, put(word(self->memory, VICTIM), 0));
	munmap(self->memory, SIZE);
}

/* A pinned page of a mapping that is split meanwhile stays the same page. */
TEST_F(split, a_page_is_held_meanwhile)
{
	unsigned char *victim = self->memory + VICTIM * VTL_PAGE_SIZE;
	uint64_t copy = 0;
	int end = vtl_pipe_pin(victim);

	EXPECT_EQ(variant->is_registered, end >= 0);
	ASSERT_EQ(0, mprotect(victim, VTL_PAGE_SIZE, PROT_READ));
	ASSERT_EQ(0, munmap(victim + VTL_PAGE_SIZE, VTL_PAGE_SIZE));
	munmap(self->memory, SIZE);
	if (end < 0)
		return;
	EXPECT_EQ(sizeof(copy), read(end, &copy, sizeof(copy)));
	EXPECT_EQ(VICTIM, copy);
	close(end);
}

/* The end of a process gives everything back, whatever it did before. */
TEST_F(split, a_process_ends_in_the_middle)
{
	int status;
	pid_t child = fork();

	if (!child) {
		unsigned char *mine = vtl_map_low_large(self->gpa, SIZE);
		size_t i;

		/* The same words at the same memory. */
		for (i = 0; i < PAGES; i++)
			*word(mine, i) = i - !variant->is_large;
		mprotect(mine + VICTIM * VTL_PAGE_SIZE, VTL_PAGE_SIZE,
			 PROT_NONE);
		munmap(mine + 5 * VTL_PAGE_SIZE, VTL_PAGE_SIZE);
		_exit(0);
	}
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ(0, wrong_pages(self->memory, 0, PAGES));
	munmap(self->memory, SIZE);
}

TEST_HARNESS_MAIN
