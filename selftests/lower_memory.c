// SPDX-License-Identifier: GPL-2.0
/* Mapping the memory of the lower VTLs: what is given, and how faults end. */
#include <setjmp.h>
#include <signal.h>

#include "kselftest_harness.h"
#include "vtl_util.h"

static sigjmp_buf after_fault;

static void on_fault(int signal)
{
	siglongjmp(after_fault, signal);
}

/* The signal that reading (and writing, if asked) a byte ends with, or 0. */
static int touch(volatile uint8_t *at, bool write)
{
	int signal = sigsetjmp(after_fault, 1);

	if (!signal) {
		uint8_t value = *at;

		if (write)
			*at = value;
	}
	return signal;
}

FIXTURE(lower)
{
	int vtl, fd;
	uint64_t base, size;
};

FIXTURE_SETUP(lower)
{
	struct sigaction action = { .sa_handler = on_fault };

	sigaction(SIGBUS, &action, NULL);
	sigaction(SIGSEGV, &action, NULL);
	self->vtl = vtl_create();
	self->fd = vtl_open(DEV_MSHV_VTL_LOW);
	ASSERT_LE(0, self->vtl);
	ASSERT_LE(0, self->fd);
	if (!vtl_memory(&self->base, &self->size) ||
	    self->size < 4 * VTL_LARGE_SIZE)
		SKIP(return,
			   "no vtl0_mem= of 8 MiB or more on the kernel command line");
}

FIXTURE_TEARDOWN(lower)
{
	close(self->vtl);
	close(self->fd);
}

#define READ_WRITE (PROT_READ | PROT_WRITE)

/*
 * A 2 MiB piece that nobody accepted yet, from the end of memory; 0 if there
 * is none.
 */
static uint64_t find_pending(int vtl, uint64_t base, uint64_t size)
{
	uint64_t gpa;

	for (gpa = base + size - VTL_LARGE_SIZE; gpa > base;
	     gpa -= VTL_LARGE_SIZE) {
		struct mshv_tdcall call = { .rax = TDG_MEM_PAGE_ATTR_RD,
					    .rcx = gpa };

		if (vtl_tdcall(vtl, &call) || vtl_status(&call) != TDX_SUCCESS)
			return 0;
		if (call.rcx >> 62 & 1)
			return gpa;
	}
	return 0;
}

TEST_F(lower, a_private_mapping_is_refused)
{
	EXPECT_EQ(MAP_FAILED, mmap(NULL, VTL_PAGE_SIZE, READ_WRITE, MAP_PRIVATE,
				   self->fd, (off_t)self->base));
	EXPECT_EQ(EINVAL, errno);
}

TEST_F(lower, an_executable_mapping_is_refused)
{
	bool noexec = vtl_is_noexec(DEV_MSHV_VTL_LOW);
	void *memory;

	EXPECT_EQ(MAP_FAILED, mmap(NULL, VTL_PAGE_SIZE, READ_WRITE | PROT_EXEC,
				   MAP_SHARED, self->fd, (off_t)self->base));
	EXPECT_EQ(noexec ? EPERM : EINVAL, errno);
	memory = vtl_map_low(self->base, VTL_PAGE_SIZE);
	ASSERT_NE(MAP_FAILED, memory);
	EXPECT_EQ(-1, mprotect(memory, VTL_PAGE_SIZE, PROT_READ | PROT_EXEC));
	EXPECT_EQ(EACCES, errno);
}

TEST_F(lower, memory_of_this_kernel_is_never_given)
{
	uint64_t gpa;
	void *memory;

	if (!vtl_system_ram(&gpa))
		SKIP(return, "no System RAM range in /proc/iomem");
	memory = mmap(NULL, VTL_PAGE_SIZE, READ_WRITE, MAP_SHARED, self->fd,
		      (off_t)gpa);
	/* Refused at once, or at the first access. */
	if (memory == MAP_FAILED) {
		EXPECT_EQ(EINVAL, errno);
		return;
	}
	EXPECT_EQ(SIGBUS, touch(memory, false));
	EXPECT_EQ(SIGBUS, touch(memory, true));
}

/*
 * The SHARED bit of the address (the alias has its own bit, the highest of the
 * offset), and above it. An address below it that has no memory is no case: the
 * host decides what becomes of a TD that asks for it.
 */
TEST_F(lower, addresses_that_cannot_exist_are_refused)
{
	const uint64_t gpas[] = { 1ULL << 47, self->base | 1ULL << 47,
				  1ULL << 48, 1ULL << 55 };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(gpas); i++) {
		EXPECT_EQ(MAP_FAILED,
			  mmap(NULL, VTL_PAGE_SIZE, READ_WRITE, MAP_SHARED,
			       self->fd, (off_t)gpas[i]))
		{
			TH_LOG("gpa %llx", (unsigned long long)gpas[i]);
		}
		EXPECT_EQ(EINVAL, errno);
	}
}

TEST_F(lower, a_page_that_is_not_accepted_is_a_bus_error)
{
	uint64_t gpa = find_pending(self->vtl, self->base, self->size);
	void *memory;

	if (!gpa)
		SKIP(return,
			   "every page of VTL0's memory has been accepted before");
	memory = vtl_map_low(gpa, VTL_PAGE_SIZE);
	ASSERT_NE(MAP_FAILED, memory);
	EXPECT_EQ(SIGBUS, touch(memory, false));
	EXPECT_EQ(SIGBUS, touch(memory, true));
}

TEST_F(lower, an_accepted_page_reads_zero_and_keeps_what_is_written)
{
	uint64_t gpa = find_pending(self->vtl, self->base, self->size);
	volatile uint64_t *memory, *again;
	size_t i, words = VTL_LARGE_SIZE / sizeof(*memory);

	if (!gpa)
		SKIP(return,
			   "every page of VTL0's memory has been accepted before");
	ASSERT_EQ(0, vtl_accept(self->vtl, gpa, VTL_LARGE_SIZE));
	memory = vtl_map_low(gpa, VTL_LARGE_SIZE);
	ASSERT_NE(MAP_FAILED, (void *)memory);
	for (i = 0; i < words; i += 64)
		ASSERT_EQ(0, memory[i]);
	for (i = 0; i < words; i += 512)
		memory[i] = gpa + i;
	again = vtl_map_low(gpa, VTL_LARGE_SIZE);
	ASSERT_NE(MAP_FAILED, (void *)again);
	for (i = 0; i < words; i += 512)
		EXPECT_EQ(gpa + i, again[i]);
	EXPECT_EQ(0, munmap((void *)memory, VTL_LARGE_SIZE));
	EXPECT_EQ(0, munmap((void *)again, VTL_LARGE_SIZE));
}

TEST_F(lower, one_mapping_may_cover_all_memory)
{
	uint8_t *memory;

	ASSERT_EQ(0, vtl_accept(self->vtl, self->base, VTL_LARGE_SIZE));
	memory = vtl_map_low(self->base, self->size);
	ASSERT_NE(MAP_FAILED, memory);
	EXPECT_EQ(0, touch(memory, true));
	EXPECT_EQ(0, touch(memory + VTL_LARGE_SIZE - 1, true));
	EXPECT_EQ(0, munmap(memory, self->size));
}

TEST_F(lower, children_do_not_inherit_it)
{
	uint8_t *memory = NULL;
	int status = 0;
	pid_t child;

	ASSERT_EQ(0, vtl_accept(self->vtl, self->base, VTL_LARGE_SIZE));
	memory = vtl_map_low(self->base, VTL_PAGE_SIZE);
	ASSERT_NE(MAP_FAILED, memory);
	ASSERT_EQ(0, touch(memory, false));
	child = fork();
	ASSERT_LE(0, child);
	if (!child)
		_exit(touch(memory, false));
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_TRUE(WIFEXITED(status));
	EXPECT_EQ(SIGSEGV, WEXITSTATUS(status));
}

TEST_HARNESS_MAIN
