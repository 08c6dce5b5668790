// SPDX-License-Identifier: GPL-2.0
/*
 * What the operands of the reference ABI leave undefined: padding, high halves
 * that no register has, outputs, ignored operands. Its client never writes
 * these bytes, so their contents must not matter.
 */
#include <sys/eventfd.h>
#include <sys/ioctl.h>

#include "vtl_harness.h"
#include "vtl_util.h"

enum node { VTL, MSHV, HVCALL, SINT, NODES };

static const char *const nodes[NODES] = {
	DEV_MSHV_VTL,
	DEV_MSHV,
	DEV_MSHV_HVCALL,
	DEV_MSHV_SINT,
};

#define OPERAND_MAX 64

/* One command with a good operand, and where that is undefined. */
struct padded {
	const char *name;
	unsigned long number;
	enum node node;
	size_t size;
	struct {
		size_t begin, end;
	} undefined[3];
	/* A list of registers follows the operand. */
	bool is_list;
	unsigned char operand[OPERAND_MAX];
};

#define PADDED(node_, name_, size_, ...) \
	{ .name = #name_,                \
	  .number = MSHV_##name_,        \
	  .node = node_,                 \
	  .size = size_,                 \
	  __VA_ARGS__ }

static struct mshv_register entry;

static const struct padded commands[] = {
	PADDED(MSHV, CREATE_VTL, 1, .undefined = { { 0, 1 } }),
	PADDED(VTL, GET_VP_REGISTERS, 16, .undefined = { { 4, 8 } },
	       .is_list = true, .operand = { 1 }),
	PADDED(VTL, SET_VP_REGISTERS, 16, .undefined = { { 4, 8 } },
	       .is_list = true, .operand = { 1 }),
	PADDED(VTL, RESTORE_PARTITION_TIME, 24, .undefined = { { 0, 24 } }),
	PADDED(VTL, TDCALL, 56, .undefined = { { 40, 56 } },
	       .operand = { TDG_SYS_RD }),
	PADDED(VTL, READ_VMX_CR4_FIXED1, 8, .undefined = { { 0, 8 } }),
	/* Vector 0x41, on a processor that does not exist. */
	PADDED(VTL, MAP_REDIRECTED_DEVICE_INTERRUPT, 16,
	       .undefined = { { 9, 16 } },
	       .operand = { 0x41, [7] = 0x7f, [8] = 1 }),
	/* The status is an output. */
	PADDED(HVCALL, HVCALL, 48, .undefined = { { 24, 32 } }),
	PADDED(SINT, SINT_PAUSE_MESSAGE_STREAM, 8, .undefined = { { 1, 8 } },
	       .operand = { 1 }),
};

static int give(int fd, const struct padded *command, unsigned char *operand)
{
	int result;

	if (command->is_list)
		memcpy(operand + 8, &(uint64_t){ (uintptr_t)&entry }, 8);
	result = ioctl(fd, command->number, operand);
	if (result < 0)
		return -errno;
	if (command->number == MSHV_CREATE_VTL)
		close(result);
	return 0;
}

FIXTURE(padding)
{
	int fds[NODES];
};

FIXTURE_SETUP(padding)
{
	size_t i;

	ASSERT_EQ(0, vtl_pin(0));
	/* Those of a host that is Hyper-V may be missing. */
	for (i = 0; i < NODES; i++)
		self->fds[i] = vtl_open(nodes[i]);
	ASSERT_LE(0, self->fds[VTL]);
	ASSERT_LE(0, self->fds[MSHV]);
}

FIXTURE_TEARDOWN(padding)
{
	size_t i;

	for (i = 0; i < NODES; i++)
		if (self->fds[i] >= 0)
			close(self->fds[i]);
}

TEST_F(padding, whatever_stands_there_makes_no_difference)
{
	static const unsigned char garbage[] = { 0xff, 0x01, 0x80, 0x5a };
	size_t i, j, k;

	for (i = 0; i < ARRAY_SIZE(commands); i++) {
		const struct padded *command = &commands[i];
		unsigned char operand[OPERAND_MAX];
		int fd = self->fds[command->node], clean;

		if (fd < 0)
			continue;
		memcpy(operand, command->operand, sizeof(operand));
		clean = give(fd, command, operand);
		for (j = 0; j < ARRAY_SIZE(garbage); j++) {
			memcpy(operand, command->operand, sizeof(operand));
			for (k = 0; k < ARRAY_SIZE(command->undefined); k++)
				memset(operand + command->undefined[k].begin,
				       garbage[j],
				       command->undefined[k].end -
					       command->undefined[k].begin);
			EXPECT_EQ(clean, give(fd, command, operand))
			{
				TH_LOG("%s, %02x", command->name, garbage[j]);
			}
		}
	}
}

/* An entry of a list: bytes between name and value, and above 64 bits of it. */
TEST_F(padding, entries_of_a_register_list)
{
	const uint64_t value = 0x123456789abcULL;
	struct mshv_vp_registers list = { .count = 1,
					  .registers = (uintptr_t)&entry };

	memset(&entry, 0xa5, sizeof(entry));
	entry.name = MSHV_REGISTER_DR0;
	entry.value[0] = value;
	list.failed = 0xdeadbeef;
	ASSERT_EQ(0, ioctl(self->fds[VTL], MSHV_SET_VP_REGISTERS, &list));
	memset(&entry, 0x5a, sizeof(entry));
	entry.name = MSHV_REGISTER_DR0;
	ASSERT_EQ(0, ioctl(self->fds[VTL], MSHV_GET_VP_REGISTERS, &list));
	EXPECT_EQ(value, entry.value[0]);
	EXPECT_EQ(0, entry.value[1]);
	entry.value[0] = 0;
	EXPECT_EQ(0, ioctl(self->fds[VTL], MSHV_SET_VP_REGISTERS, &list));
}

/* A mapping that is really made and removed. */
TEST_F(padding, a_redirected_interrupt_comes_and_goes)
{
	struct mshv_map_device_intr map;
	uint32_t vector;

	memset(&map, 0xa5, sizeof(map));
	map.vector = 0x41;
	map.apic_id = 0;
	map.create_mapping = 1;
	ASSERT_EQ(0, ioctl(self->fds[VTL], MSHV_MAP_REDIRECTED_DEVICE_INTERRUPT,
			   &map));
	vector = map.vector;
	memset(&map, 0x5a, sizeof(map));
	map.vector = vector;
	map.apic_id = 0;
	map.create_mapping = 0;
	EXPECT_EQ(0, ioctl(self->fds[VTL], MSHV_MAP_REDIRECTED_DEVICE_INTERRUPT,
			   &map));
}

/* The bytes of the run page without a meaning. */
TEST(gaps_of_the_run_page)
{
	struct vtl_guest guest;
	uint64_t base, size;
	size_t i;

	if (!vtl_memory(&base, &size))
		SKIP(return, "no vtl0_mem= on the kernel command line");
	ASSERT_EQ(0, vtl_guest_open(&guest, 0));
	ASSERT_EQ(0, vtl_guest_load(&guest, vtl_guest_registers,
				    vtl_guest_registers_end));
	for (i = 0; i < 3; i++) {
		volatile uint8_t *page = (volatile uint8_t *)guest.run;
		/* Pads, the hint, the message, what TDX has no use for. */
		static const struct {
			size_t begin, end;
		} gaps[] = { { 4, 8 },	     { 14, 272 },    { 360, 408 },
			     { 472, 504 },   { 666, 672 },   { 681, 768 },
			     { 1232, 1552 }, { 1584, 1588 }, { 1652, 4080 },
			     { 4089, 4096 } };
		size_t gap, at;

		for (gap = 0; gap < ARRAY_SIZE(gaps); gap++)
			for (at = gaps[gap].begin; at < gaps[gap].end; at++)
				page[at] = 0x5a << i;
		ASSERT_EQ(0, vtl_run(&guest));
		EXPECT_EQ(EXIT_HLT, vtl_exit_reason(&guest));
		ASSERT_EQ(0, vtl_guest_start(&guest));
	}
	/* For whoever uses it next. */
	memset((void *)guest.run, 0, VTL_PAGE_SIZE);
	vtl_guest_close(&guest);
}

TEST_HARNESS_MAIN
