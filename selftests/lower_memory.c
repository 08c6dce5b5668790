// SPDX-License-Identifier: GPL-2.0
/* Mapping the memory of the lower VTLs: what is given, and how faults end. */
#include <setjmp.h>
#include <signal.h>
#include <sys/resource.h>

#include "vtl_harness.h"
#include "vtl_util.h"

static sigjmp_buf after_fault;

static void on_fault(int signal)
{
	siglongjmp(after_fault, signal);
}

/* The signal with which reading (and writing, if asked) a byte ends, or 0. */
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

/* Address space for an aligned mapping at the offset into a 2 MiB piece. */
static uint8_t *reserve(size_t size)
{
	uint8_t *space = mmap(NULL, size + VTL_LARGE_SIZE, PROT_NONE,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (space == MAP_FAILED)
		return NULL;
	return (uint8_t *)(((uintptr_t)space + VTL_LARGE_SIZE - 1) &
			   ~(VTL_LARGE_SIZE - 1));
}

static long minor_faults(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_minflt;
}

/*
 * A 2 MiB piece that is not accepted yet, from the end of memory; 0 if there is
 * none.
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
 * The SHARED bit of the address (the alias has a bit of its own, the highest of
 * the offset), and addresses above it, by both aliases.
 */
TEST_F(lower, addresses_that_cannot_exist_are_refused)
{
	const uint64_t gpas[] = { 1ULL << 47,
				  self->base | 1ULL << 47,
				  1ULL << 48,
				  1ULL << 55,
				  MSHV_VTL_LOW_SHARED | 1ULL << 47,
				  MSHV_VTL_LOW_SHARED | 1ULL << 55 };
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

/* These addresses have no memory, and the host is not asked for it. */
TEST_F(lower, an_address_without_memory_is_a_bus_error)
{
	const uint64_t gpas[] = { 1ULL << 40, (1ULL << 47) - VTL_PAGE_SIZE,
				  MSHV_VTL_LOW_SHARED | 1ULL << 40 };
	uint8_t *memory;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(gpas); i++) {
		memory = vtl_map_low(gpas[i], VTL_PAGE_SIZE);
		ASSERT_NE(MAP_FAILED, (void *)memory);
		EXPECT_EQ(SIGBUS, touch(memory, false));
		EXPECT_EQ(SIGBUS, touch(memory, true));
		munmap(memory, VTL_PAGE_SIZE);
	}
}

TEST_F(lower, hundreds_of_gib_are_mapped_at_once)
{
	const size_t size = 512UL << 30;
	uint8_t *memory;

	ASSERT_EQ(0, vtl_accept(self->vtl, self->base, VTL_LARGE_SIZE));
	memory = vtl_map_low(0, size);
	ASSERT_NE(MAP_FAILED, (void *)memory);
	EXPECT_EQ(0, touch(memory + self->base, true));
	EXPECT_EQ(SIGBUS, touch(memory + size - 1, false));
	EXPECT_EQ(0, munmap(memory, size));
}

/* A kernel with PREEMPT_RT has none. */
static bool has_large_pages(void)
{
	return access("/sys/kernel/mm/transparent_hugepage", F_OK) == 0;
}

TEST_F(lower, aligned_memory_is_mapped_in_large_pages_if_the_kernel_has_them)
{
	volatile uint8_t *memory = reserve(VTL_LARGE_SIZE);
	const long mappings =
		has_large_pages() ? 1 : VTL_LARGE_SIZE / VTL_PAGE_SIZE;
	long before, faults;
	size_t at;

	ASSERT_NE(NULL, (void *)memory);
	ASSERT_EQ(0, vtl_accept(self->vtl, self->base, VTL_LARGE_SIZE));
	ASSERT_EQ((void *)memory,
		  mmap((void *)memory, VTL_LARGE_SIZE, READ_WRITE,
		       MAP_SHARED | MAP_FIXED, self->fd, (off_t)self->base));
	before = minor_faults();
	for (at = 0; at < VTL_LARGE_SIZE; at += VTL_PAGE_SIZE)
		memory[at] = memory[at];
	faults = minor_faults() - before;
	/* The kernel may have to make a mapping writable in a second one. */
	EXPECT_LE(mappings, faults);
	EXPECT_GE(2 * mappings, faults);
	EXPECT_EQ(0, munmap((void *)memory, VTL_LARGE_SIZE));
}

/* Address and memory are 4 KiB apart: small pages, the same content. */
TEST_F(lower, memory_that_is_not_aligned_is_mapped_in_small_pages)
{
	uint8_t *space = reserve(VTL_LARGE_SIZE);
	volatile uint8_t *whole, *shifted;
	const size_t size = VTL_LARGE_SIZE - VTL_PAGE_SIZE;

	ASSERT_NE(NULL, space);
	ASSERT_EQ(0, vtl_accept(self->vtl, self->base, VTL_LARGE_SIZE));
	whole = vtl_map_low(self->base, VTL_LARGE_SIZE);
	ASSERT_NE(MAP_FAILED, (void *)whole);
	shifted = mmap(space, size, READ_WRITE, MAP_SHARED | MAP_FIXED,
		       self->fd, (off_t)(self->base + VTL_PAGE_SIZE));
	ASSERT_EQ((void *)space, (void *)shifted);
	whole[VTL_PAGE_SIZE] = 0x5a;
	whole[VTL_LARGE_SIZE - 1] = 0xa5;
	EXPECT_EQ(0x5a, shifted[0]);
	EXPECT_EQ(0xa5, shifted[size - 1]);
	munmap((void *)whole, VTL_LARGE_SIZE);
	munmap(space, size);
}

/* A large mapping must not hide that one of its pages is not accepted. */
TEST_F(lower, one_pending_page_keeps_its_piece_in_small_pages)
{
	uint64_t gpa = find_pending(self->vtl, self->base, self->size);
	uint8_t *memory = reserve(VTL_LARGE_SIZE);

	if (!gpa)
		SKIP(return,
			   "every page of VTL0's memory has been accepted before");
	ASSERT_NE(NULL, memory);
	ASSERT_EQ(0, vtl_accept(self->vtl, gpa, VTL_PAGE_SIZE));
	ASSERT_EQ(memory, mmap(memory, VTL_LARGE_SIZE, READ_WRITE,
			       MAP_SHARED | MAP_FIXED, self->fd, (off_t)gpa));
	EXPECT_EQ(0, touch(memory, true));
	EXPECT_EQ(SIGBUS, touch(memory + VTL_PAGE_SIZE, false));
	ASSERT_EQ(0, vtl_accept(self->vtl, gpa + VTL_PAGE_SIZE,
				VTL_LARGE_SIZE - VTL_PAGE_SIZE));
	EXPECT_EQ(0, touch(memory + VTL_PAGE_SIZE, true));
	EXPECT_EQ(0, touch(memory + VTL_LARGE_SIZE - 1, true));
	munmap(memory, VTL_LARGE_SIZE);
}

TEST_F(lower, no_alias_reaches_memory_of_this_kernel)
{
	uint64_t gpa;
	uint8_t *memory;

	if (!vtl_system_ram(&gpa))
		SKIP(return, "no System RAM range in /proc/iomem");
	memory = vtl_map_low(MSHV_VTL_LOW_SHARED | gpa, VTL_PAGE_SIZE);
	ASSERT_NE(MAP_FAILED, (void *)memory);
	EXPECT_EQ(SIGBUS, touch(memory, false));
	EXPECT_EQ(SIGBUS, touch(memory, true));
}

/*
 * Private memory has no shared page beside it: neither small nor large pages
 * are mapped by the shared alias, and the private ones do not change.
 */
TEST_F(lower, a_shared_page_that_the_host_does_not_give_is_a_bus_error)
{
	uint8_t *private, *shared, *space = reserve(2 * VTL_LARGE_SIZE);
	uint64_t gpa = MSHV_VTL_LOW_SHARED | self->base;
	int fds[2];

	ASSERT_NE(NULL, (void *)space);
	ASSERT_EQ(0, vtl_accept(self->vtl, self->base, VTL_LARGE_SIZE));
	private = vtl_map_low(self->base, VTL_PAGE_SIZE);
	ASSERT_NE(MAP_FAILED, (void *)private);
	private[0] = 0x5a;
	shared = mmap(space, VTL_LARGE_SIZE, READ_WRITE, MAP_SHARED | MAP_FIXED,
		      self->fd, (off_t)gpa);
	ASSERT_EQ(space, shared);
	EXPECT_EQ(SIGBUS, touch(shared, false));
	EXPECT_EQ(SIGBUS, touch(shared, true));
	EXPECT_EQ(SIGBUS, touch(shared + VTL_LARGE_SIZE - 1, true));
	/* What the kernel does on behalf of this program ends well, too. */
	ASSERT_EQ(0, pipe(fds));
	ASSERT_EQ(4, write(fds[1], "word", 4));
	EXPECT_EQ(-1, read(fds[0], shared, 4));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(-1, write(fds[1], shared, 4));
	EXPECT_EQ(EFAULT, errno);
	close(fds[0]);
	close(fds[1]);
	EXPECT_EQ(0x5a, private[0]);
	munmap(private, VTL_PAGE_SIZE);
	munmap(shared, VTL_LARGE_SIZE);
}

/* The kernel itself has these mapped by their private alias. */
TEST_F(lower, a_shared_page_that_cannot_be_looked_at_is_a_bus_error)
{
	static const char *const names[] = { ": ACPI Tables",
					     ": ACPI Non-volatile" };
	uint8_t *memory;
	uint64_t gpa;
	int fds[2];
	size_t i;

	ASSERT_EQ(0, pipe(fds));
	for (i = 0; i < ARRAY_SIZE(names); i++) {
		ASSERT_TRUE(vtl_memory_named(names[i], &gpa));
		memory = vtl_map_low(MSHV_VTL_LOW_SHARED | gpa, VTL_PAGE_SIZE);
		ASSERT_NE(MAP_FAILED, (void *)memory);
		EXPECT_EQ(SIGBUS, touch(memory, false));
		EXPECT_EQ(-1, write(fds[1], memory, 4));
		EXPECT_EQ(EFAULT, errno);
		munmap(memory, VTL_PAGE_SIZE);
	}
	close(fds[0]);
	close(fds[1]);
	EXPECT_EQ(NULL, vtl_kernel_complaint());
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
