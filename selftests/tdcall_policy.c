// SPDX-License-Identifier: GPL-2.0
/*
 * Which TDCALLs pass. A refusal is a status in rax, not an error of the call:
 * existing userspace does not expect the call itself to fail.
 */
#include <string.h>
#include <sys/mman.h>

#include "vtl_harness.h"
#include "vtl_util.h"

FIXTURE(tdcall)
{
	int fd;
};

FIXTURE_SETUP(tdcall)
{
	self->fd = vtl_create();
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, vtl_pin(0));
}

FIXTURE_TEARDOWN(tdcall)
{
	close(self->fd);
}

#define EXPECT_STATUS(expected, ...)                                     \
	do {                                                             \
		struct mshv_tdcall _call = { __VA_ARGS__ };              \
		EXPECT_EQ(0, vtl_tdcall(self->fd, &_call));              \
		EXPECT_EQ(expected, vtl_status(&_call))                  \
		{                                                        \
			TH_LOG("%s: rax %llx", #__VA_ARGS__, _call.rax); \
		}                                                        \
	} while (0)

#define EXPECT_REFUSED(...) EXPECT_STATUS(TDX_OPERAND_INVALID, __VA_ARGS__)

TEST_F(tdcall, facts_about_the_td_can_be_read)
{
	uint64_t value = 0;

	EXPECT_EQ(0, vtl_read_field(self->fd, TDG_VM_RD, FIELD_NUM_L2_VMS,
				    &value));
	EXPECT_TRUE(value >= 1 && value <= 3);
	EXPECT_EQ(0,
		  vtl_read_field(self->fd, TDG_VM_RD, FIELD_NUM_VCPUS, &value));
	EXPECT_LE(sysconf(_SC_NPROCESSORS_ONLN), (long)value);
	EXPECT_EQ(0, vtl_read_field(self->fd, TDG_SYS_RD, FIELD_TDX_FEATURES0,
				    &value));
	/* Bit 7: TD partitioning. */
	EXPECT_NE(0, value & 1 << 7);
}

TEST_F(tdcall, fields_of_an_l2_vm_can_be_read_and_written)
{
	struct mshv_tdcall call = { .rax = TDG_VP_WR,
				    .rdx = VMCS_GUEST_CR3,
				    .r8 = 0x7654000,
				    .r9 = ~0ULL };
	uint64_t value = 0;

	ASSERT_EQ(0, vtl_tdcall(self->fd, &call));
	ASSERT_EQ(TDX_SUCCESS, vtl_status(&call));
	EXPECT_EQ(0,
		  vtl_read_field(self->fd, TDG_VP_RD, VMCS_GUEST_CR3, &value));
	EXPECT_EQ(0x7654000, value);
	EXPECT_STATUS(TDX_SUCCESS, .rax = TDG_VP_WR, .rdx = VMCS_GUEST_CR3,
		      .r9 = ~0ULL);
}

TEST_F(tdcall, controls_and_msr_bitmaps_of_an_l2_vm_can_be_written)
{
	uint64_t word = 0;

	EXPECT_EQ(0, vtl_read_field(self->fd, TDG_VP_RD, FIELD_MSR_BITMAP(5),
				    &word));
	EXPECT_STATUS(TDX_SUCCESS, .rax = TDG_VP_WR, .rdx = FIELD_MSR_BITMAP(5),
		      .r8 = word, .r9 = ~0ULL);
	EXPECT_STATUS(TDX_SUCCESS, .rax = TDG_VP_WR, .rdx = FIELD_L2_CTLS(1),
		      .r8 = 0, .r9 = 7);
	EXPECT_STATUS(TDX_SUCCESS, .rax = TDG_VP_WR,
		      .rdx = FIELD_TSC_DEADLINE(1), .r8 = ~0ULL, .r9 = ~0ULL);
}

TEST_F(tdcall, of_the_td_hardware_seal_keys_can_be_switched_and_nothing_else)
{
	const uint64_t bit = 1 << 4;
	uint64_t before = 0, value = 0;

	ASSERT_EQ(0,
		  vtl_read_field(self->fd, TDG_VM_RD, FIELD_TD_CTLS, &before));
	EXPECT_STATUS(TDX_SUCCESS, .rax = TDG_VM_WR, .rdx = FIELD_TD_CTLS,
		      .r8 = bit, .r9 = bit);
	EXPECT_EQ(0,
		  vtl_read_field(self->fd, TDG_VM_RD, FIELD_TD_CTLS, &value));
	EXPECT_EQ(before | bit, value);
	/* The mask may name other bits if their values do not change. */
	EXPECT_STATUS(TDX_SUCCESS, .rax = TDG_VM_WR, .rdx = FIELD_TD_CTLS,
		      .r8 = before & ~bit, .r9 = ~0ULL);
	EXPECT_REFUSED(.rax = TDG_VM_WR, .rdx = FIELD_TD_CTLS, .r8 = before ^ 1,
		       .r9 = ~0ULL);
	EXPECT_REFUSED(.rax = TDG_VM_WR, .rdx = FIELD_TD_CTLS, .r8 = ~before,
		       .r9 = 1);
	EXPECT_REFUSED(.rax = TDG_VM_WR, .rdx = FIELD_NOTIFY_ENABLES, .r8 = 1,
		       .r9 = 1);
	EXPECT_EQ(0,
		  vtl_read_field(self->fd, TDG_VM_RD, FIELD_TD_CTLS, &value));
	EXPECT_EQ(before & ~bit, value);
}

#define PENDING (1ULL << 62)

TEST_F(tdcall, a_page_of_a_lower_vtl_can_be_released_and_accepted_again)
{
	uint64_t base, size, ram, gpa;
	struct mshv_tdcall call = { .rax = TDG_MEM_PAGE_ATTR_RD };

	if (!vtl_memory(&base, &size) || size < 4 * VTL_LARGE_SIZE)
		SKIP(return,
			   "no vtl0_mem= of 8 MiB on the kernel command line");
	ASSERT_TRUE(vtl_system_ram(&ram));
	gpa = base + 3 * VTL_LARGE_SIZE;
	ASSERT_EQ(0, vtl_accept(self->fd, gpa, VTL_LARGE_SIZE));
	EXPECT_STATUS(TDX_SUCCESS, .rax = TDG_MEM_PAGE_RELEASE, .rcx = gpa | 1);
	call.rcx = gpa;
	ASSERT_EQ(0, vtl_tdcall(self->fd, &call));
	EXPECT_EQ(TDX_SUCCESS, vtl_status(&call));
	EXPECT_EQ(PENDING, call.rcx & PENDING);
	EXPECT_EQ(0, vtl_accept(self->fd, gpa, VTL_LARGE_SIZE));
	EXPECT_REFUSED(.rax = TDG_MEM_PAGE_RELEASE, .rcx = ram);
	EXPECT_REFUSED(.rax = TDG_MEM_PAGE_RELEASE, .rcx = gpa | 2);
}

#define BIT_OF(msr, is_write)                                    \
	.rdx = FIELD_MSR_BITMAP(MSR_BITMAP_WORD(msr, is_write)), \
	.r9 = 1ULL << (msr) % 64

/*
 * MSRs that a paravisor passes through, whether the processor has them or not.
 */
TEST_F(tdcall, msrs_that_are_switched_may_be_passed_through)
{
	static const uint32_t msrs[] = { 0x48,	     0x1c4,	 0x1c5,
					 0x6a0,	     0x6a2,	 0x6a4,
					 0x6a5,	     0x6a6,	 0x6a7,
					 0x6a8,	     0xc0000081, 0xc0000082,
					 0xc0000084, 0xc0000100, 0xc0000101,
					 0xc0000102, 0xc0000103 };
	size_t i;

	for (i = 0; i < 2 * ARRAY_SIZE(msrs); i++) {
		EXPECT_STATUS(TDX_SUCCESS, .rax = TDG_VP_WR, .r8 = 0,
			      BIT_OF(msrs[i / 2], i % 2));
		EXPECT_STATUS(TDX_SUCCESS, .rax = TDG_VP_WR, .r8 = ~0ULL,
			      BIT_OF(msrs[i / 2], i % 2));
	}
	EXPECT_STATUS(TDX_SUCCESS, .rax = TDG_VP_WR, BIT_OF(0x10, 0));
	EXPECT_STATUS(TDX_SUCCESS, .rax = TDG_VP_WR, .r8 = ~0ULL,
		      BIT_OF(0x10, 0));
}

TEST_F(tdcall, msrs_that_nobody_switches_stay_intercepted)
{
	/* Counters, PEBS, trace, last branches, DS_AREA, UINTR, UARCH_MISC_CTL. */
	static const uint32_t msrs[] = { 0xc1,	 0x186,	 0x309,	    0x38d,
					 0x38f,	 0x3f1,	 0x560,	    0x570,
					 0x571,	 0x580,	 0x600,	    0x985,
					 0x98a,	 0x14ce, 0x1500,    0x1600,
					 0x1200, 0x1b01, 0xc0000083 };
	uint64_t before, after;
	size_t i;

	for (i = 0; i < 2 * ARRAY_SIZE(msrs); i++) {
		uint64_t word =
			FIELD_MSR_BITMAP(MSR_BITMAP_WORD(msrs[i / 2], i % 2));

		ASSERT_EQ(0,
			  vtl_read_field(self->fd, TDG_VP_RD, word, &before));
		EXPECT_REFUSED(.rax = TDG_VP_WR, .r8 = 0,
			       BIT_OF(msrs[i / 2], i % 2));
		/*
		 * Nor with other bits that could be cleared, or by another id.
		 */
		EXPECT_REFUSED(.rax = TDG_VP_WR, .rdx = word, .r8 = 0,
			       .r9 = ~0ULL);
		EXPECT_REFUSED(.rax = TDG_VP_WR, .rdx = word ^ 1ULL << 50,
			       .r8 = 0, .r9 = ~0ULL);
		ASSERT_EQ(0, vtl_read_field(self->fd, TDG_VP_RD, word, &after));
		EXPECT_EQ(before, after);
	}
	/* A write to IA32_XSS, of VM 2 as well. */
	EXPECT_REFUSED(.rax = TDG_VP_WR, BIT_OF(0xda0, 1));
	EXPECT_REFUSED(.rax = TDG_VP_WR,
		       .rdx = 0x2d20000300000000ULL + MSR_BITMAP_WORD(0xc1, 0),
		       .r9 = 1ULL << 0xc1 % 64);
}

/* Processor trace and last-branch records would go on in VTL2's registers. */
TEST_F(tdcall, controls_of_unswitched_features_stay_off)
{
	EXPECT_REFUSED(.rax = TDG_VP_WR, .rdx = VMCS64(0x2814), .r8 = 1,
		       .r9 = ~0ULL);
	EXPECT_REFUSED(.rax = TDG_VP_WR, .rdx = VMCS64(0x2816), .r8 = 1,
		       .r9 = 1);
	EXPECT_STATUS(TDX_SUCCESS, .rax = TDG_VP_WR, .rdx = VMCS64(0x2814),
		      .r8 = 0, .r9 = ~0ULL);
	EXPECT_STATUS(TDX_SUCCESS, .rax = TDG_VP_WR, .rdx = VMCS64(0x2816),
		      .r8 = 0, .r9 = ~0ULL);
}

/* An entry without its APIC page would never come back. */
TEST_F(tdcall, an_apic_page_is_accepted_and_stays_so)
{
	const uint64_t field = VMCS_VIRTUAL_APIC_PAGE + (8ULL << 56);
	uint64_t base, size, gpa, count = 0;

	if (!vtl_memory(&base, &size) || size < 4 * VTL_LARGE_SIZE)
		SKIP(return,
			   "no vtl0_mem= of 8 MiB on the kernel command line");
	vtl_read_field(self->fd, TDG_VM_RD, FIELD_NUM_L2_VMS, &count);
	if (count < 2)
		SKIP(return, "the TD has no VM 2");
	gpa = base + 3 * VTL_LARGE_SIZE;
	ASSERT_EQ(0, vtl_accept(self->fd, gpa, VTL_LARGE_SIZE));
	EXPECT_STATUS(TDX_SUCCESS, .rax = TDG_MEM_PAGE_RELEASE, .rcx = gpa | 1);
	EXPECT_REFUSED(.rax = TDG_VP_WR, .rdx = field, .r8 = gpa, .r9 = ~0ULL);
	ASSERT_EQ(0, vtl_accept(self->fd, gpa, VTL_LARGE_SIZE));
	EXPECT_STATUS(TDX_SUCCESS, .rax = TDG_VP_WR, .rdx = field,
		      .r8 = gpa + 5 * VTL_PAGE_SIZE, .r9 = ~0ULL);
	EXPECT_REFUSED(.rax = TDG_MEM_PAGE_RELEASE, .rcx = gpa | 1);
	/* Once it is another page, it is one like others. */
	ASSERT_EQ(0, vtl_accept(self->fd, base, VTL_LARGE_SIZE));
	EXPECT_STATUS(TDX_SUCCESS, .rax = TDG_VP_WR, .rdx = field,
		      .r8 = base + 3 * VTL_PAGE_SIZE, .r9 = ~0ULL);
	EXPECT_STATUS(TDX_SUCCESS, .rax = TDG_MEM_PAGE_RELEASE, .rcx = gpa | 1);
	ASSERT_EQ(0, vtl_accept(self->fd, gpa, VTL_LARGE_SIZE));
}

TEST_F(tdcall, unknown_and_dangerous_leaves_are_refused)
{
	/* All but 6 to 11, 23, 24, 27 and 30. */
	static const uint64_t leaves[] = { 0,  1,  2,  3,  4,  5,   12,
					   18, 20, 22, 25, 26, 100, 0xffff };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(leaves); i++)
		EXPECT_REFUSED(.rax = leaves[i]);
}

TEST_F(tdcall, reserved_bits_of_rax_are_refused)
{
	EXPECT_REFUSED(.rax = TDG_SYS_RD | 1ULL << 24,
		       .rdx = FIELD_TDX_FEATURES0);
	EXPECT_REFUSED(.rax = TDG_SYS_RD | 1ULL << 32,
		       .rdx = FIELD_TDX_FEATURES0);
	EXPECT_REFUSED(.rax = TDG_SYS_RD | 1ULL << 63,
		       .rdx = FIELD_TDX_FEATURES0);
}

TEST_F(tdcall, a_refusal_gives_nothing_back)
{
	struct mshv_tdcall call = { .rax = 3, .r8 = 0x5a5a };

	ASSERT_EQ(0, vtl_tdcall(self->fd, &call));
	EXPECT_EQ(TDX_OPERAND_INVALID, vtl_status(&call));
	EXPECT_EQ(0, call.r10_out);
	EXPECT_EQ(0, call.r11_out);
}

TEST_F(tdcall, fields_of_l1_itself_are_refused)
{
	/* CPUID_SUPERVISOR_VE, CPUID_CONTROL, and L1's own TSC deadline slot. */
	EXPECT_REFUSED(.rax = TDG_VP_WR, .rdx = 0xa020000000000007ULL, .r8 = 1,
		       .r9 = 0xff);
	EXPECT_REFUSED(.rax = TDG_VP_WR, .rdx = 0xa120000000000000ULL, .r8 = 1,
		       .r9 = 3);
	/* L1's TD VMCS and virtual-APIC page. */
	EXPECT_REFUSED(.rax = TDG_VP_RD, .rdx = 0x0024000300006800ULL);
	EXPECT_REFUSED(.rax = TDG_VP_WR, .rdx = 0x0120000300000080ULL,
		       .r9 = ~0ULL);
	/* The notifications that the kernel has switched. */
	EXPECT_REFUSED(.rax = TDG_VM_WR, .rdx = FIELD_NOTIFY_ENABLES, .r8 = 1,
		       .r9 = 1);
}

/* Bits of an id that the TDX module ignores must not open a way around. */
TEST_F(tdcall, the_virtual_apic_page_of_vtl0_is_the_kernels)
{
	uint64_t before = 0, after = 0;
	bool readable = !vtl_read_field(self->fd, TDG_VP_RD,
					VMCS_VIRTUAL_APIC_PAGE, &before);

	EXPECT_REFUSED(.rax = TDG_VP_WR, .rdx = VMCS_VIRTUAL_APIC_PAGE,
		       .r8 = 0x1000, .r9 = ~0ULL);
	EXPECT_REFUSED(.rax = TDG_VP_WR, .rdx = 0x2420000300002012ULL,
		       .r8 = 0x1000, .r9 = ~0ULL);
	EXPECT_REFUSED(.rax = TDG_VP_WR, .rdx = 0x2400000000002012ULL,
		       .r8 = 0x1000, .r9 = ~0ULL);
	EXPECT_REFUSED(.rax = TDG_VP_WR, .rdx = 0xa424000300002012ULL,
		       .r8 = 0x1000, .r9 = ~0ULL);
	EXPECT_REFUSED(.rax = TDG_VP_WR, .rdx = 0x2424000100002012ULL,
		       .r8 = 0x1000, .r9 = ~0ULL);
	if (readable) {
		EXPECT_EQ(0, vtl_read_field(self->fd, TDG_VP_RD,
					    VMCS_VIRTUAL_APIC_PAGE, &after));
		EXPECT_EQ(before, after);
	}
}

TEST_F(tdcall, memory_of_this_kernel_is_refused)
{
	uint64_t gpa;

	if (!vtl_system_ram(&gpa))
		SKIP(return, "no System RAM range in /proc/iomem");
	EXPECT_REFUSED(.rax = TDG_MEM_PAGE_ACCEPT, .rcx = gpa);
	EXPECT_REFUSED(.rax = TDG_MEM_PAGE_ACCEPT, .rcx = gpa | 1);
	EXPECT_REFUSED(.rax = TDG_MEM_PAGE_ATTR_WR, .rcx = gpa,
		       .rdx = 0x800f0000, .r8 = 0xf0000);
	EXPECT_REFUSED(.rax = TDG_MEM_PAGE_ATTR_WR, .rcx = gpa | 1,
		       .rdx = 0x800f0000, .r8 = 0xf0000);
	/* A 1 GiB page at 0 would cover it. */
	EXPECT_REFUSED(.rax = TDG_MEM_PAGE_ATTR_WR, .rcx = 2, .rdx = 0x800f0000,
		       .r8 = 0xf0000);
}

/* The host has nothing there: a TDCALL would be the end of the TD. */
TEST_F(tdcall, memory_that_firmware_calls_unusable_is_refused)
{
	uint64_t gpa;

	if (!vtl_unusable_memory(&gpa))
		SKIP(return, "no unusable memory in /proc/iomem");
	EXPECT_REFUSED(.rax = TDG_MEM_PAGE_ATTR_RD, .rcx = gpa);
	EXPECT_REFUSED(.rax = TDG_MEM_PAGE_ACCEPT, .rcx = gpa);
	EXPECT_REFUSED(.rax = TDG_MEM_PAGE_ATTR_WR, .rcx = gpa,
		       .rdx = 0x800f0000, .r8 = 0xf0000);
}

TEST_F(tdcall, malformed_page_operands_are_refused)
{
	uint64_t base, size;

	if (!vtl_memory(&base, &size))
		SKIP(return, "no vtl0_mem= on the kernel command line");
	/* Reserved level, reserved bits, the SHARED bit. */
	EXPECT_REFUSED(.rax = TDG_MEM_PAGE_ACCEPT, .rcx = base | 7);
	EXPECT_REFUSED(.rax = TDG_MEM_PAGE_ACCEPT, .rcx = base | 8);
	EXPECT_REFUSED(.rax = TDG_MEM_PAGE_ACCEPT, .rcx = base | 1ULL << 47);
	EXPECT_REFUSED(.rax = TDG_MEM_PAGE_ACCEPT, .rcx = base | 1ULL << 63);
	EXPECT_REFUSED(.rax = TDG_MEM_PAGE_ATTR_WR, .rcx = base | 1ULL << 47,
		       .rdx = 0x800f0000, .r8 = 0xf0000);
	EXPECT_REFUSED(.rax = TDG_MEM_PAGE_ATTR_RD, .rcx = base | 1ULL << 47);
}

TEST_F(tdcall, rights_of_a_page_are_read_back)
{
	struct mshv_tdcall call = { .rax = TDG_MEM_PAGE_ATTR_RD };
	uint64_t base, size;

	if (!vtl_memory(&base, &size))
		SKIP(return, "no vtl0_mem= on the kernel command line");
	ASSERT_EQ(0, vtl_accept(self->fd, base, VTL_LARGE_SIZE));
	ASSERT_EQ(0,
		  vtl_set_rights(self->fd, base, VTL_LARGE_SIZE, RIGHT_READ));
	call.rcx = base;
	ASSERT_EQ(0, vtl_tdcall(self->fd, &call));
	ASSERT_EQ(TDX_SUCCESS, vtl_status(&call));
	EXPECT_EQ(0x80000000U | RIGHT_READ << 16, call.rdx & 0xffff0000);
	EXPECT_EQ(0, call.rcx >> 62 & 1);
	EXPECT_EQ(0,
		  vtl_set_rights(self->fd, base, VTL_LARGE_SIZE, RIGHTS_ALL));
}

/* One address passes; a list only where this kernel keeps nothing. */
TEST_F(tdcall, translations_can_be_invalidated)
{
	uint64_t base, size, ram;
	void *list;

	EXPECT_STATUS(TDX_SUCCESS, .rax = TDG_VP_INVGLA, .rcx = 1ULL << 52,
		      .rdx = 0x7654000);
	EXPECT_STATUS(TDX_OPERAND_INVALID, .rax = TDG_VP_INVGLA, .rcx = 0,
		      .rdx = 0x7654000);
	if (vtl_system_ram(&ram))
		EXPECT_REFUSED(.rax = TDG_VP_INVGLA, .rcx = 1ULL << 52 | 1,
			       .rdx = ram | 1ULL << 52);
	EXPECT_REFUSED(.rax = TDG_VP_INVGLA, .rcx = 1ULL << 52 | 1,
		       .rdx = 1ULL << 40 | 1ULL << 52);
	if (!vtl_memory(&base, &size))
		SKIP(return, "no vtl0_mem= on the kernel command line");
	ASSERT_EQ(0, vtl_accept(self->fd, base, VTL_LARGE_SIZE));
	/* The code of an earlier guest is not a list. */
	list = vtl_map_low(base, VTL_PAGE_SIZE);
	ASSERT_NE(MAP_FAILED, list);
	memset(list, 0, VTL_PAGE_SIZE);
	munmap(list, VTL_PAGE_SIZE);
	EXPECT_STATUS(TDX_SUCCESS, .rax = TDG_VP_INVGLA, .rcx = 1ULL << 52 | 1,
		      .rdx = base | 1ULL << 52);
}

/* The host of a real TD could only stop it for such a page. */
TEST_F(tdcall, pages_without_memory_are_refused)
{
	static const uint64_t gpas[] = { 1ULL << 40, (1ULL << 47) - 4096 };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(gpas); i++) {
		EXPECT_REFUSED(.rax = TDG_MEM_PAGE_ATTR_RD, .rcx = gpas[i]);
		EXPECT_REFUSED(.rax = TDG_MEM_PAGE_ACCEPT, .rcx = gpas[i]);
		EXPECT_REFUSED(.rax = TDG_MEM_PAGE_ATTR_WR, .rcx = gpas[i]);
	}
}

TEST_HARNESS_MAIN
