// SPDX-License-Identifier: GPL-2.0
/*
 * `vtlctl reset`, which is Vp::renew() of the library: whatever an earlier
 * guest or its paravisor has left with a virtual processor is gone, on each
 * CPU.
 */
#include <stdlib.h>
#include <sys/ioctl.h>

#include "vtl_harness.h"
#include "vtl_util.h"

#define MSR_SPEC_CTRL 0x48
/* From a field of VM 1 to that of the next VM. */
#define NEXT_VMCS (8ULL << 56)
#define MOST_CPUS 2

/* In the fields of a VP, for each VM: what is written, and what is first. */
static const struct {
	uint64_t id, next_vm, value, mask, first;
} fields[] = {
	{ FIELD_MSR_BITMAP(MSR_BITMAP_WORD(MSR_SPEC_CTRL, 0)), NEXT_VMCS, 0,
	  1ULL << MSR_SPEC_CTRL % 64, ~0ULL },
	{ FIELD_MSR_BITMAP(MSR_BITMAP_WORD(MSR_SPEC_CTRL, 1)), NEXT_VMCS, 0,
	  1ULL << MSR_SPEC_CTRL % 64, ~0ULL },
	{ FIELD_L2_CTLS(1), 1, 1, 1, 0 },
};

/* A register that the module keeps, a value, and its first one. */
static const struct {
	uint32_t name;
	uint64_t value, first;
} registers[] = {
	{ MSHV_REGISTER_XFEM, 3, 1 },
	{ MSHV_REGISTER_DR0, 0x1111, 0 },
	{ MSHV_REGISTER_DR3, 0x4444, 0 },
	{ MSHV_REGISTER_MTRR_DEF_TYPE, 0xc06, 0 },
};

static int access_register(int fd, unsigned long command, uint32_t name,
			   uint64_t *value)
{
	struct mshv_register one = { .name = name, .value = { *value } };
	struct mshv_vp_registers head = { .count = 1,
					  .registers = (uintptr_t)&one };
	int result = ioctl(fd, command, &head);

	*value = one.value[0];
	return result;
}

FIXTURE(renewed)
{
	int vtl, cpus;
	uint64_t vms;
	volatile struct mshv_vtl_run *run[MOST_CPUS];
};

FIXTURE_SETUP(renewed)
{
	int cpu;

	if (system("command -v vtlctl >/dev/null"))
		SKIP(return, "no vtlctl in PATH");
	self->vtl = vtl_create();
	ASSERT_LE(0, self->vtl);
	ASSERT_EQ(0, vtl_read_field(self->vtl, TDG_VM_RD, FIELD_NUM_L2_VMS,
				    &self->vms));
	for (cpu = 0; cpu < MOST_CPUS && !vtl_pin(cpu); cpu++) {
		self->run[cpu] =
			vtl_map_page(self->vtl, MSHV_VTL_MMAP_RUN_PAGE, cpu);
		ASSERT_NE(NULL, (void *)self->run[cpu]);
		self->cpus++;
	}
	ASSERT_LT(0, self->cpus);
}

FIXTURE_TEARDOWN(renewed)
{
	close(self->vtl);
}

static void dirty(struct __test_metadata *_metadata, int vtl, uint64_t vms,
		  volatile struct mshv_vtl_run *run)
{
	uint64_t vm, value;
	size_t i;

	for (vm = 0; vm < vms; vm++)
		for (i = 0; i < ARRAY_SIZE(fields); i++) {
			struct mshv_tdcall call = {
				.rax = TDG_VP_WR,
				.rdx = fields[i].id + vm * fields[i].next_vm,
				.r8 = fields[i].value,
				.r9 = fields[i].mask,
			};

			ASSERT_EQ(0, vtl_tdcall(vtl, &call));
			ASSERT_EQ(TDX_SUCCESS, vtl_status(&call));
		}
	for (i = 0; i < ARRAY_SIZE(registers); i++) {
		value = registers[i].value;
		ASSERT_EQ(0, access_register(vtl, MSHV_SET_VP_REGISTERS,
					     registers[i].name, &value));
	}
	run->tdx.l2_enter_guest_state.rip = 0x1234;
	run->tdx.vp_state.cr2 = 0x5678;
}

static void is_new(struct __test_metadata *_metadata, int vtl, uint64_t vms,
		   volatile struct mshv_vtl_run *run)
{
	uint64_t vm, value;
	size_t i;

	for (vm = 0; vm < vms; vm++)
		for (i = 0; i < ARRAY_SIZE(fields); i++) {
			value = 0x5555;
			EXPECT_EQ(0,
				  vtl_read_field(vtl, TDG_VP_RD,
						 fields[i].id +
							 vm * fields[i].next_vm,
						 &value));
			EXPECT_EQ(fields[i].first, value);
		}
	for (i = 0; i < ARRAY_SIZE(registers); i++) {
		value = 0x5555;
		EXPECT_EQ(0, access_register(vtl, MSHV_GET_VP_REGISTERS,
					     registers[i].name, &value));
		EXPECT_EQ(registers[i].first, value);
	}
	EXPECT_EQ(0, run->tdx.l2_enter_guest_state.rip);
	EXPECT_EQ(0, run->tdx.vp_state.cr2);
}

TEST_F(renewed, nothing_that_was_left_stays_on_any_cpu)
{
	int cpu;

	for (cpu = 0; cpu < self->cpus; cpu++) {
		ASSERT_EQ(0, vtl_pin(cpu));
		dirty(_metadata, self->vtl, self->vms, self->run[cpu]);
	}
	ASSERT_EQ(0, system("vtlctl reset >/dev/null"));
	for (cpu = 0; cpu < self->cpus; cpu++) {
		ASSERT_EQ(0, vtl_pin(cpu));
		is_new(_metadata, self->vtl, self->vms, self->run[cpu]);
	}
}

TEST_F(renewed, one_cpu_is_renewed_and_the_others_stay)
{
	uint64_t value = 0;
	int cpu;

	if (self->cpus < 2)
		SKIP(return, "one CPU only");
	for (cpu = 0; cpu < self->cpus; cpu++) {
		ASSERT_EQ(0, vtl_pin(cpu));
		dirty(_metadata, self->vtl, self->vms, self->run[cpu]);
	}
	ASSERT_EQ(0, system("vtlctl reset --cpu 1 >/dev/null"));
	is_new(_metadata, self->vtl, self->vms, self->run[1]);
	ASSERT_EQ(0, vtl_pin(0));
	ASSERT_EQ(0, access_register(self->vtl, MSHV_GET_VP_REGISTERS,
				     MSHV_REGISTER_DR0, &value));
	EXPECT_EQ(0x1111, value);
	EXPECT_EQ(0x1234, self->run[0]->tdx.l2_enter_guest_state.rip);
	ASSERT_EQ(0, system("vtlctl reset >/dev/null"));
}

TEST_HARNESS_MAIN
