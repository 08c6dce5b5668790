// SPDX-License-Identifier: GPL-2.0
/*
 * Pages of the caller that the TDX module uses by their physical address: the
 * virtual-APIC page of VM 2, including a guest that uses it, and lists of
 * addresses. And which TDCALLs need a thread that is pinned to its CPU.
 */
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "vtl_harness.h"
#include "irq_guest.h"

#define VIRTUAL_APIC_PAGE_VM2 0x2c20000300002012ULL
#define VIRTUAL_APIC_HIGH_VM2 0x2c20000300002013ULL

FIXTURE(own)
{
	int fd;
	long pins;
	unsigned char *page;
	uint64_t gpa;
};

/* Pages that drivers hold in this system. */
static long pinned_pages(void)
{
	long acquired = -1, released = -1, value;
	char name[64];
	FILE *file;

	/* Counters of each CPU are summed up now and then; now. */
	file = fopen("/proc/sys/vm/stat_refresh", "w");
	if (!file || fputs("1\n", file) < 0 || fclose(file))
		return -1;
	file = fopen("/proc/vmstat", "r");
	if (!file)
		return -1;
	while (fscanf(file, "%63s %ld", name, &value) == 2) {
		if (!strcmp(name, "nr_foll_pin_acquired"))
			acquired = value;
		if (!strcmp(name, "nr_foll_pin_released"))
			released = value;
	}
	fclose(file);
	return acquired - released;
}

static uint64_t physical(const void *address)
{
	uint64_t entry = 0;
	int fd = open("/proc/self/pagemap", O_RDONLY);

	if (pread(fd, &entry, 8, (uintptr_t)address / VTL_PAGE_SIZE * 8) != 8)
		entry = 0;
	close(fd);
	/* Present; the page frame. */
	return entry >> 63 ? (entry & ((1ULL << 55) - 1)) * VTL_PAGE_SIZE : 0;
}

static unsigned char *locked_page(int protection, int flags)
{
	unsigned char *page = mmap(NULL, VTL_PAGE_SIZE, PROT_READ | PROT_WRITE,
				   flags | MAP_ANONYMOUS | MAP_LOCKED, -1, 0);

	if (page == MAP_FAILED)
		return NULL;
	page[0] = 1;
	return mprotect(page, VTL_PAGE_SIZE, protection) ? NULL : page;
}

FIXTURE_SETUP(own)
{
	uint64_t count = 0;

	self->fd = vtl_create();
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, vtl_read_field(self->fd, TDG_VM_RD, FIELD_NUM_L2_VMS,
				    &count));
	if (count < 2)
		SKIP(return, "the TD has no VM 2");
	ASSERT_EQ(0, vtl_pin(0));
	self->page = locked_page(PROT_READ | PROT_WRITE, MAP_PRIVATE);
	ASSERT_NE(NULL, self->page);
	self->gpa = physical(self->page);
	ASSERT_NE(0, self->gpa);
	self->pins = pinned_pages();
	ASSERT_LE(0, self->pins);
}

FIXTURE_TEARDOWN(own)
{
	close(self->fd);
	munmap(self->page, VTL_PAGE_SIZE);
}

static uint32_t call(int fd, uint64_t leaf, uint64_t rcx, uint64_t rdx,
		     uint64_t r8)
{
	struct mshv_tdcall call = {
		.rax = leaf, .rcx = rcx, .rdx = rdx, .r8 = r8, .r9 = ~0ULL
	};

	return vtl_tdcall(fd, &call) ? 1 : vtl_status(&call);
}

static uint32_t set_apic_page(int fd, uint64_t gpa)
{
	return call(fd, TDG_VP_WR, 0, VIRTUAL_APIC_PAGE_VM2, gpa);
}

static uint64_t apic_page(int fd)
{
	uint64_t value = ~0ULL;

	return vtl_read_field(fd, TDG_VP_RD, VIRTUAL_APIC_PAGE_VM2, &value) ?
		       ~0ULL :
		       value;
}

static uint32_t invalidate_list(int fd, uint64_t gpa)
{
	return call(fd, TDG_VP_INVGLA, 2ULL << 52 | 1, gpa | 1ULL << 52, 0);
}

TEST_F(own, memory_of_the_kernel_is_refused)
{
	uint64_t ram;

	ASSERT_TRUE(vtl_system_ram(&ram));
	EXPECT_EQ(TDX_OPERAND_INVALID, set_apic_page(self->fd, ram));
	EXPECT_EQ(TDX_OPERAND_INVALID, invalidate_list(self->fd, ram));
	EXPECT_EQ(self->pins, pinned_pages());
}

TEST_F(own, what_is_no_memory_is_refused)
{
	uint64_t gpas[] = { 1ULL << 40, (1ULL << 47) - VTL_PAGE_SIZE,
			    1ULL << 47 | self->gpa, 1ULL << 51, ~0xfffULL };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(gpas); i++) {
		EXPECT_EQ(TDX_OPERAND_INVALID, set_apic_page(self->fd, gpas[i]))
		{
			TH_LOG("%llx", (unsigned long long)gpas[i]);
		}
		EXPECT_EQ(TDX_OPERAND_INVALID,
			  invalidate_list(self->fd,
					  gpas[i] & ~(0xfffULL << 52)));
	}
	EXPECT_EQ(TDX_OPERAND_INVALID, set_apic_page(self->fd, self->gpa | 1));
	EXPECT_EQ(self->pins, pinned_pages());
}

TEST_F(own, pages_that_are_not_writable_are_refused)
{
	unsigned char *page = locked_page(PROT_READ, MAP_PRIVATE);

	ASSERT_NE(NULL, page);
	EXPECT_EQ(TDX_OPERAND_INVALID, set_apic_page(self->fd, physical(page)));
	munmap(page, VTL_PAGE_SIZE);
}

TEST_F(own, pages_of_the_driver_are_refused)
{
	unsigned char *run = vtl_map_page(self->fd, MSHV_VTL_MMAP_RUN_PAGE, 0);
	uint64_t gpa;

	ASSERT_NE(MAP_FAILED, run);
	run[0] = 0;
	gpa = physical(run);
	if (!gpa)
		SKIP(return, "pagemap does not tell");
	EXPECT_EQ(TDX_OPERAND_INVALID, set_apic_page(self->fd, gpa));
	munmap(run, VTL_PAGE_SIZE);
}

TEST_F(own, pages_of_another_process_are_refused)
{
	int status, ends[2];
	pid_t child;

	ASSERT_EQ(0, pipe(ends));
	child = fork();
	if (!child) {
		unsigned char *page =
			locked_page(PROT_READ | PROT_WRITE, MAP_PRIVATE);
		uint64_t gpa = page ? physical(page) : 0;

		if (write(ends[1], &gpa, sizeof(gpa)) == sizeof(gpa))
			pause();
		_exit(1);
	}
	ASSERT_EQ(sizeof(self->gpa), read(ends[0], &self->gpa, 8));
	ASSERT_NE(0, self->gpa);
	EXPECT_EQ(TDX_OPERAND_INVALID, set_apic_page(self->fd, self->gpa));
	EXPECT_EQ(TDX_OPERAND_INVALID, invalidate_list(self->fd, self->gpa));
	kill(child, SIGKILL);
	waitpid(child, &status, 0);
	EXPECT_EQ(self->pins, pinned_pages());
}

TEST_F(own, half_an_address_is_refused)
{
	EXPECT_EQ(TDX_OPERAND_INVALID, call(self->fd, TDG_VP_WR, 0,
					    VIRTUAL_APIC_HIGH_VM2, self->gpa));
}

/* Allows all CPUs again, as for a new thread. */
static int let_go(void)
{
	cpu_set_t all;
	int cpu;

	CPU_ZERO(&all);
	for (cpu = 0; cpu < sysconf(_SC_NPROCESSORS_ONLN); cpu++)
		CPU_SET(cpu, &all);
	return sched_setaffinity(0, sizeof(all), &all);
}

TEST_F(own, a_thread_that_could_move_acts_on_no_vp)
{
	uint64_t count = 0;

	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		SKIP(return, "a second CPU is needed");
	ASSERT_EQ(0, let_go());
	EXPECT_EQ(TDX_OPERAND_INVALID,
		  call(self->fd, TDG_VP_RD, 0, VMCS_GUEST_CR3, 0));
	EXPECT_EQ(TDX_OPERAND_INVALID,
		  call(self->fd, TDG_VP_WR, 0, VMCS_GUEST_CR3, 0));
	EXPECT_EQ(TDX_OPERAND_INVALID,
		  call(self->fd, TDG_VP_INVGLA, 1ULL << 52, 0x7654000, 0));
	EXPECT_EQ(TDX_OPERAND_INVALID, set_apic_page(self->fd, self->gpa));
	/* What concerns the TD works from anywhere. */
	EXPECT_EQ(0, vtl_read_field(self->fd, TDG_VM_RD, FIELD_NUM_L2_VMS,
				    &count));
	EXPECT_EQ(self->pins, pinned_pages());
	ASSERT_EQ(0, vtl_pin(0));
	EXPECT_EQ(TDX_SUCCESS, call(self->fd, TDG_VP_RD, 0, VMCS_GUEST_CR3, 0));
}

TEST_F(own, a_list_is_pinned_for_the_call_only)
{
	EXPECT_EQ(TDX_SUCCESS, invalidate_list(self->fd, self->gpa));
	EXPECT_EQ(self->pins, pinned_pages());
}

TEST_F(own, an_apic_page_is_pinned_until_another_takes_its_place)
{
	unsigned char *second = locked_page(PROT_READ | PROT_WRITE, MAP_SHARED);
	uint64_t base, size, gpa;

	ASSERT_NE(NULL, second);
	gpa = physical(second);
	ASSERT_EQ(TDX_SUCCESS, set_apic_page(self->fd, self->gpa));
	EXPECT_EQ(self->gpa, apic_page(self->fd));
	EXPECT_EQ(self->pins + 1, pinned_pages());
	/* The same again, another one, and one that needs no pin. */
	ASSERT_EQ(TDX_SUCCESS, set_apic_page(self->fd, self->gpa));
	EXPECT_EQ(self->pins + 1, pinned_pages());
	ASSERT_EQ(TDX_SUCCESS, set_apic_page(self->fd, gpa));
	EXPECT_EQ(gpa, apic_page(self->fd));
	EXPECT_EQ(self->pins + 1, pinned_pages());
	/* A refused one leaves it. */
	EXPECT_EQ(TDX_OPERAND_INVALID, set_apic_page(self->fd, 1ULL << 40));
	EXPECT_EQ(gpa, apic_page(self->fd));
	EXPECT_EQ(self->pins + 1, pinned_pages());
	munmap(second, VTL_PAGE_SIZE);
	if (!vtl_memory(&base, &size))
		SKIP(return, "no vtl0_mem= on the kernel command line");
	ASSERT_EQ(0, vtl_accept(self->fd, base, VTL_LARGE_SIZE));
	ASSERT_EQ(TDX_SUCCESS, set_apic_page(self->fd, base));
	EXPECT_EQ(self->pins, pinned_pages());
}

TEST_F(own, an_apic_page_is_let_go_with_the_file)
{
	int other = vtl_open(DEV_MSHV_VTL);

	ASSERT_LE(0, other);
	ASSERT_EQ(TDX_SUCCESS, set_apic_page(other, self->gpa));
	EXPECT_EQ(self->pins + 1, pinned_pages());
	close(other);
	EXPECT_EQ(self->pins, pinned_pages());
	EXPECT_NE(self->gpa, apic_page(self->fd));
}

TEST_F(own, an_apic_page_of_a_large_page_is_one_page)
{
	unsigned char *pages = mmap(NULL, 2 * VTL_LARGE_SIZE,
				    PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned char *page;

	ASSERT_NE(MAP_FAILED, pages);
	madvise(pages, 2 * VTL_LARGE_SIZE, MADV_HUGEPAGE);
	memset(pages, 1, 2 * VTL_LARGE_SIZE);
	page = pages + VTL_LARGE_SIZE + 5 * VTL_PAGE_SIZE;
	ASSERT_EQ(TDX_SUCCESS, set_apic_page(self->fd, physical(page)));
	EXPECT_EQ(self->pins + 1, pinned_pages());
	munmap(pages, 2 * VTL_LARGE_SIZE);
	EXPECT_EQ(self->pins + 1, pinned_pages());
}

static bool is_empty(const unsigned char *page)
{
	unsigned int word;

	/* In service, and requested. */
	for (word = 0; word < 8; word++)
		if (*(const uint32_t *)(page + 0x100 + 16 * word) ||
		    *(const uint32_t *)(page + 0x200 + 16 * word))
			return false;
	return true;
}

#define ASKED 0x45
#define OWN 0x83

/*
 * A guest in VM 2 takes what its paravisor requests and what it sends itself.
 */
TEST_F(own, an_apic_page_serves_the_guest_in_vm_2)
{
	volatile struct mshv_tdx_l2_enter_guest_state *state;
	struct irq_guest irq;
	int result;

	ASSERT_EQ(0, irq_guest_open(&irq, 0))
	{
		TH_LOG("%s", irq.guest.why);
	}
	munmap((void *)irq.vapic, VTL_PAGE_SIZE);
	irq.vapic = self->page;
	result = vtl_guest_use_vm(&irq.guest, 2);
	if (!result)
		result = irq_guest_start(&irq, irq_guest_wrmsr);
	ASSERT_EQ(0, result)
	{
		TH_LOG("%s", irq.guest.why);
	}
	ASSERT_EQ(TDX_SUCCESS, set_apic_page(irq.guest.fd, self->gpa));
	state = &irq.guest.run->tdx.l2_enter_guest_state;
	*(uint32_t *)(self->page + 0x200 + ASKED / 32 * 16) = 1U << ASKED % 32;
	state->rvi = ASKED;
	state->rflags |= RFLAGS_IF;
	/* Self IPI. */
	state->gpr[RCX] = 0x83f;
	state->gpr[RAX] = OWN;
	ASSERT_EQ(0, vtl_run(&irq.guest));
	EXPECT_EQ(EXIT_VMCALL, vtl_exit_reason(&irq.guest));
	EXPECT_EQ(1, irq.data->taken[ASKED]);
	EXPECT_EQ(1, irq.data->taken[OWN]);
	EXPECT_TRUE(is_empty(self->page));
	EXPECT_EQ(self->pins + 1, pinned_pages());
	/* The page is the test's. */
	irq.vapic = NULL;
	irq_guest_close(&irq);
	EXPECT_EQ(self->pins, pinned_pages());
}

TEST_F(own, an_apic_page_is_let_go_with_its_process)
{
	int status = 1;
	pid_t child = fork();

	if (!child) {
		int fd = vtl_create();
		unsigned char *page =
			locked_page(PROT_READ | PROT_WRITE, MAP_PRIVATE);

		_exit(!page || set_apic_page(fd, physical(page)));
	}
	waitpid(child, &status, 0);
	EXPECT_EQ(0, status);
	EXPECT_EQ(self->pins, pinned_pages());
}

TEST_HARNESS_MAIN
