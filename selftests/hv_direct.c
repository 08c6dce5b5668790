// SPDX-License-Identifier: GPL-2.0
/*
 * A paravisor posts messages and events to VTL0 through a Hyper-V host: the
 * host writes them to VTL0's pages and has an interrupt for VTL0.
 */
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "vtl_harness.h"
#include "vtl_util.h"

#define SET_VP_REGISTERS 0x51
#define SIGNAL_EVENT_DIRECT 0xc0
#define POST_MESSAGE_DIRECT 0xc1
#define MODIFY_HOST_VISIBILITY 0xdb
#define REPS(count) ((uint64_t)(count) << 32)

#define HV_INVALID_PARAMETER 5
#define HV_INVALID_SYNIC_STATE 0x18
#define HV_INVALID_VP_INDEX 0xe
#define HV_INSUFFICIENT_BUFFERS 0x13

#define REGISTER_SINT2 0xa0002
#define REGISTER_SIFP 0xa0012
#define REGISTER_SIPP 0xa0013
#define SELF_PARTITION (~0ULL)
#define VTL0 0x10

#define SINT 2
#define VECTOR 0x50

#define PAGES 2

FIXTURE(direct)
{
	int fd, vtl;
	uint64_t gpa;
	unsigned char *memory; /* VTL0's message page, then its event page */
	volatile struct mshv_vtl_run *run;
};

/* The host's status, or ~0 when the command failed. */
static uint64_t call(int fd, uint64_t control, const void *input, size_t size,
		     uint64_t *output)
{
	struct mshv_vtl_hvcall request = {
		.control = control,
		.input_size = size,
		.input_ptr = (uintptr_t)input,
		.output_size = output ? sizeof(*output) : 0,
		.output_ptr = (uintptr_t)output,
	};

	if (ioctl(fd, MSHV_HVCALL, &request))
		return ~0ULL;
	return request.status;
}

static uint64_t share(int fd, uint64_t gpa, bool is_shared)
{
	uint64_t input[2 + PAGES] = { SELF_PARTITION, is_shared ? 3 : 0,
				      gpa / VTL_PAGE_SIZE,
				      gpa / VTL_PAGE_SIZE + 1 };

	return call(fd, MODIFY_HOST_VISIBILITY | REPS(PAGES), input,
		    sizeof(input), NULL);
}

/* Both pages and the source of VTL0; zero turns them off. */
static uint64_t set_synic(int fd, uint64_t gpa)
{
	struct {
		uint64_t partition;
		uint32_t vp, vtl;
		struct {
			uint64_t name, zero, value[2];
		} set[3];
	} input = { .partition = SELF_PARTITION, .vp = 0, .vtl = VTL0 };

	input.set[0].name = REGISTER_SIPP;
	input.set[0].value[0] = gpa ? gpa | 1 : 0;
	input.set[1].name = REGISTER_SIFP;
	input.set[1].value[0] = gpa ? (gpa + VTL_PAGE_SIZE) | 1 : 0;
	input.set[2].name = REGISTER_SINT2;
	input.set[2].value[0] = gpa ? VECTOR : 1 << 16;
	return call(fd, SET_VP_REGISTERS | REPS(3), &input, sizeof(input),
		    NULL);
}

FIXTURE_SETUP(direct)
{
	static const unsigned int codes[] = { SET_VP_REGISTERS,
					      SIGNAL_EVENT_DIRECT,
					      POST_MESSAGE_DIRECT,
					      MODIFY_HOST_VISIBILITY };
	unsigned char list[32] = { 0 };
	struct mshv_vtl_hvcall_setup setup = {
		.bitmap_array_size = sizeof(list),
		.allow_bitmap_ptr = (uintptr_t)list,
	};
	uint64_t base, size;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(codes); i++)
		list[codes[i] / 8] |= 1 << codes[i] % 8;
	self->fd = vtl_open(DEV_MSHV_HVCALL);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, ioctl(self->fd, MSHV_HVCALL_SETUP, &setup));
	ASSERT_TRUE(vtl_memory(&base, &size));
	self->gpa = base + size - 16 * VTL_PAGE_SIZE;
	ASSERT_EQ(REPS(PAGES), share(self->fd, self->gpa, true));
	self->memory = vtl_map_low(self->gpa | MSHV_VTL_LOW_SHARED,
				   PAGES * VTL_PAGE_SIZE);
	ASSERT_NE(MAP_FAILED, (void *)self->memory);
	memset(self->memory, 0, PAGES * VTL_PAGE_SIZE);
	self->vtl = vtl_create();
	self->run = vtl_map_page(self->vtl, MSHV_VTL_MMAP_RUN_PAGE, 0);
	ASSERT_NE(MAP_FAILED, (void *)self->run);
	self->run->proxy_irr_blocked[VECTOR / 32] = ~(1U << VECTOR % 32);
	ASSERT_EQ(REPS(3), set_synic(self->fd, self->gpa));
}

FIXTURE_TEARDOWN(direct)
{
	self->run->proxy_irr_blocked[VECTOR / 32] = ~0U;
	self->run->proxy_irr[VECTOR / 32] = 0;
	self->run->scan_proxy_irr = 0;
	set_synic(self->fd, 0);
	munmap(self->memory, PAGES * VTL_PAGE_SIZE);
	share(self->fd, self->gpa, false);
	close(self->vtl);
	close(self->fd);
}

/* Returns true if the interrupt arrives within some milliseconds, and clears it. */
static bool arrives(volatile struct mshv_vtl_run *run, int within_ms)
{
	int turns;

	for (turns = 0; turns < within_ms && !run->scan_proxy_irr; turns++)
		usleep(1000);
	run->scan_proxy_irr = 0;
	if (run->proxy_irr[VECTOR / 32] != 1U << VECTOR % 32)
		return false;
	run->proxy_irr[VECTOR / 32] = 0;
	return true;
}

/* A busy machine takes its time. */
static bool is_interrupted(volatile struct mshv_vtl_run *run)
{
	return arrives(run, 10000);
}

static bool is_left_alone(volatile struct mshv_vtl_run *run)
{
	return !arrives(run, 100);
}

struct post {
	uint64_t partition;
	uint32_t vp;
	uint8_t vtl, zero0[3], sint, zero1[3];
	uint32_t message[64];
	uint32_t zero2;
};

_Static_assert(sizeof(struct post) == 280, "as the host reads it");

TEST_F(direct, message_reaches_its_slot)
{
	struct post input = { .partition = SELF_PARTITION, .sint = SINT };
	uint32_t *slot = (uint32_t *)(self->memory + 256 * SINT);
	unsigned int i;

	for (i = 0; i < 64; i++)
		input.message[i] = 0x1000 + i;
	ASSERT_EQ(0, call(self->fd, POST_MESSAGE_DIRECT, &input, sizeof(input),
			  NULL));
	EXPECT_TRUE(is_interrupted(self->run));
	EXPECT_EQ(0, memcmp(slot, input.message, 256));
	/* There is no room until VTL0 has taken the message. */
	EXPECT_EQ(HV_INSUFFICIENT_BUFFERS, call(self->fd, POST_MESSAGE_DIRECT,
						&input, sizeof(input), NULL));
	EXPECT_TRUE(is_left_alone(self->run));
	slot[0] = 0;
	EXPECT_EQ(0, call(self->fd, POST_MESSAGE_DIRECT, &input, sizeof(input),
			  NULL));
	EXPECT_TRUE(is_interrupted(self->run));
}

TEST_F(direct, event_sets_its_flag_once)
{
	struct {
		uint64_t partition;
		uint32_t vp;
		uint8_t vtl, sint;
		uint16_t flag;
	} input = { .partition = SELF_PARTITION, .sint = SINT, .flag = 1027 };
	unsigned char *byte =
		self->memory + VTL_PAGE_SIZE + 256 * SINT + 1027 / 8;
	uint64_t is_new = 0x55;

	ASSERT_EQ(0, call(self->fd, SIGNAL_EVENT_DIRECT, &input, sizeof(input),
			  &is_new));
	EXPECT_EQ(1, is_new);
	EXPECT_TRUE(is_interrupted(self->run));
	EXPECT_EQ(1 << 1027 % 8, *byte);
	ASSERT_EQ(0, call(self->fd, SIGNAL_EVENT_DIRECT, &input, sizeof(input),
			  &is_new));
	EXPECT_EQ(0, is_new);
	EXPECT_TRUE(is_left_alone(self->run));
	input.flag = 2048;
	EXPECT_EQ(HV_INVALID_PARAMETER, call(self->fd, SIGNAL_EVENT_DIRECT,
					     &input, sizeof(input), &is_new));
}

TEST_F(direct, what_can_not_be_delivered_is_refused)
{
	struct post input = { .partition = SELF_PARTITION,
			      .sint = SINT + 1,
			      .message = { 1 } };

	/* A masked SINT; no such processor; another VTL; no page. */
	EXPECT_EQ(HV_INVALID_SYNIC_STATE, call(self->fd, POST_MESSAGE_DIRECT,
					       &input, sizeof(input), NULL));
	input.sint = SINT;
	input.vp = 99;
	EXPECT_EQ(HV_INVALID_VP_INDEX, call(self->fd, POST_MESSAGE_DIRECT,
					    &input, sizeof(input), NULL));
	input.vp = 0;
	input.vtl = 1;
	EXPECT_EQ(HV_INVALID_PARAMETER, call(self->fd, POST_MESSAGE_DIRECT,
					     &input, sizeof(input), NULL));
	input.vtl = 0;
	ASSERT_EQ(REPS(3), set_synic(self->fd, 0));
	EXPECT_EQ(HV_INVALID_SYNIC_STATE, call(self->fd, POST_MESSAGE_DIRECT,
					       &input, sizeof(input), NULL));
	EXPECT_TRUE(is_left_alone(self->run));
}

TEST_HARNESS_MAIN
