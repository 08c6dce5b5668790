// SPDX-License-Identifier: GPL-2.0
/*
 * Pointers inside of operands: each command that follows one is given addresses at
 * the edges of what there is, and memory that ends one byte too early. With a good
 * pointer each has another answer than EFAULT.
 */
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "hvcall.h"
#include "vtl_harness.h"
#include "vtl_util.h"

#define LIST_BYTES 64

struct files {
	int vtl, hvcall, sint;
	struct mshv_vtl_xsave xsave; /* as asked for */
};

struct pointer {
	const char *name;
	/* Calls with the pointer; 0 or the negative errno. */
	int (*call)(const struct files *files, uint64_t pointer);
	/* Size of what the pointer points to; 0: that of an XSAVE image. */
	unsigned int size;
	int good_answer;
	bool is_hyper_v;
};

static int answer(int fd, unsigned long command, void *operand)
{
	return ioctl(fd, command, operand) ? -errno : 0;
}

static int get_registers(const struct files *files, uint64_t pointer)
{
	struct mshv_vp_registers list = { .count = 2, .registers = pointer };

	return answer(files->vtl, MSHV_GET_VP_REGISTERS, &list);
}

static int set_registers(const struct files *files, uint64_t pointer)
{
	struct mshv_vp_registers list = { .count = 2, .registers = pointer };

	return answer(files->vtl, MSHV_SET_VP_REGISTERS, &list);
}

static int kick(const struct files *files, uint64_t pointer)
{
	struct mshv_kick_cpus mask = { .len_bits = 64, .cpu_mask = pointer };

	return answer(files->vtl, MSHV_KICK_CPUS, &mask);
}

static int get_xsave(const struct files *files, uint64_t pointer)
{
	struct mshv_vtl_xsave xsave = { .size = files->xsave.size,
					.image = pointer };

	return answer(files->vtl, MSHV_VTL_XSAVE_GET, &xsave);
}

static int set_xsave(const struct files *files, uint64_t pointer)
{
	struct mshv_vtl_xsave xsave = files->xsave;

	xsave.image = pointer;
	return answer(files->vtl, MSHV_VTL_XSAVE_SET, &xsave);
}

static int set_up_calls(const struct files *files, uint64_t pointer)
{
	struct mshv_vtl_hvcall_setup setup = { .bitmap_array_size = LIST_BYTES,
					       .allow_bitmap_ptr = pointer };
	int fd = vtl_open(DEV_MSHV_HVCALL);
	int result = answer(fd, MSHV_HVCALL_SETUP, &setup);

	(void)files;
	close(fd);
	return result;
}

static int give_input(const struct files *files, uint64_t pointer)
{
	struct mshv_vtl_hvcall call = { .control = NO_SUCH_CALL,
					.input_size = 100,
					.input_ptr = pointer };

	return answer(files->hvcall, MSHV_HVCALL, &call);
}

static int take_output(const struct files *files, uint64_t pointer)
{
	struct mshv_vtl_hvcall call = { .control = NO_SUCH_CALL,
					.output_size = 100,
					.output_ptr = pointer };

	return answer(files->hvcall, MSHV_HVCALL, &call);
}

static int post_message(const struct files *files, uint64_t pointer)
{
	struct mshv_vtl_sint_post_msg post = { .message_type = 1,
					       .connection_id = 77,
					       .payload_size = 240,
					       .payload_ptr = pointer };

	/* The host's status is an answer, too. */
	if (ioctl(files->sint, MSHV_SINT_POST_MESSAGE, &post) < 0)
		return -errno;
	return 0;
}

static const struct pointer pointers[] = {
	/* Registers of no name. */
	{ "GET_VP_REGISTERS", get_registers, 64, -EINVAL, false },
	{ "SET_VP_REGISTERS", set_registers, 64, -EINVAL, false },
	{ "KICK_CPUS", kick, 8, 0, false },
	{ "VTL_XSAVE_GET", get_xsave, 0, 0, false },
	/* An image of zeros has a good MXCSR. */
	{ "VTL_XSAVE_SET", set_xsave, 0, 0, false },
	{ "HVCALL_SETUP", set_up_calls, LIST_BYTES, 0, true },
	{ "HVCALL, input", give_input, 100, 0, true },
	{ "HVCALL, output", take_output, 100, 0, true },
	{ "SINT_POST_MESSAGE", post_message, 240, 0, true },
};

FIXTURE(pointer)
{
	struct files files;
	/* Room that ends where memory ends. */
	unsigned char *room, *end;
};

#define ROOM (8 * VTL_PAGE_SIZE)

static int allow_one_call(int fd)
{
	unsigned char list[LIST_BYTES] = { 0 };
	struct mshv_vtl_hvcall_setup setup = {
		.bitmap_array_size = sizeof(list),
		.allow_bitmap_ptr = (uintptr_t)list,
	};

	list[NO_SUCH_CALL / 8] = 1 << NO_SUCH_CALL % 8;
	return answer(fd, MSHV_HVCALL_SETUP, &setup);
}

FIXTURE_SETUP(pointer)
{
	self->files.vtl = vtl_create();
	ASSERT_LE(0, self->files.vtl);
	ASSERT_EQ(0, vtl_pin(0));
	ASSERT_EQ(0, answer(self->files.vtl, MSHV_VTL_XSAVE_GET,
			    &self->files.xsave));
	/* Only where the host is Hyper-V. */
	self->files.hvcall = vtl_open(DEV_MSHV_HVCALL);
	self->files.sint = vtl_open(DEV_MSHV_SINT);
	if (self->files.hvcall >= 0)
		ASSERT_EQ(0, allow_one_call(self->files.hvcall));
	self->room = mmap(NULL, ROOM + VTL_PAGE_SIZE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->room);
	self->end = self->room + ROOM;
	ASSERT_EQ(0, mprotect(self->end, VTL_PAGE_SIZE, PROT_NONE));
}

FIXTURE_TEARDOWN(pointer)
{
	close(self->files.vtl);
	close(self->files.hvcall);
	close(self->files.sint);
	munmap(self->room, ROOM + VTL_PAGE_SIZE);
}

static unsigned int size_of(const struct pointer *pointer,
			    const struct files *files)
{
	return pointer->size ? pointer->size : files->xsave.size;
}

/*
 * The next pointer, from this one on, whose file exists; NULL after the last.
 */
static const struct pointer *served(const struct files *files,
				    const struct pointer *pointer)
{
	for (; pointer < pointers + ARRAY_SIZE(pointers); pointer++)
		if (!pointer->is_hyper_v || files->sint >= 0)
			return pointer;
	return NULL;
}

#define EACH(pointer)                                           \
	for (pointer = served(&self->files, pointers); pointer; \
	     pointer = served(&self->files, pointer + 1))

#define EXPECT_ANSWER(expected, pointer, address)                       \
	do {                                                            \
		uint64_t _at = (uintptr_t)(address);                    \
		EXPECT_EQ(expected, (pointer)->call(&self->files, _at)) \
		{                                                       \
			TH_LOG("%s at %llx", (pointer)->name,           \
			       (unsigned long long)_at);                \
		}                                                       \
	} while (0)

TEST_F(pointer, good_ones_are_followed)
{
	const struct pointer *pointer;

	EACH(pointer)
	{
		memset(self->room, 0, ROOM);
		EXPECT_ANSWER(pointer->good_answer, pointer, self->room);
	}
}

/* Multiples of 64, which an image of extended state has to be at. */
TEST_F(pointer, ones_to_nowhere_are_efault)
{
	void *nowhere[] = { NULL,
			    (void *)64,
			    self->end,
			    (void *)-64L,
			    (void *)-4096L,
			    (void *)0x7fffffffffc0,
			    (void *)0x800000000000,
			    (void *)0xff80000000000000,
			    (void *)0xffffffff81000000 };
	const struct pointer *pointer;
	size_t i;

	EACH(pointer)
	{
		for (i = 0; i < ARRAY_SIZE(nowhere); i++)
			EXPECT_ANSWER(-EFAULT, pointer, nowhere[i]);
	}
}

TEST_F(pointer, memory_that_ends_too_early_is_efault)
{
	const struct pointer *pointer;

	EACH(pointer)
	{
		unsigned int size = size_of(pointer, &self->files);
		unsigned char *at = self->end - size;

		memset(self->room, 0, ROOM);
		/* As near to the end as may be, then nearer. */
		at -= (uintptr_t)at % 64;
		EXPECT_ANSWER(pointer->good_answer, pointer, at);
		EXPECT_ANSWER(-EFAULT, pointer, at + 64);
	}
}

TEST_F(pointer, answers_to_read_only_memory_are_efault)
{
	memset(self->room, 0, ROOM);
	ASSERT_EQ(0, mprotect(self->room, ROOM, PROT_READ));
	EXPECT_EQ(-EFAULT, get_xsave(&self->files, (uintptr_t)self->room));
	if (self->files.hvcall >= 0)
		EXPECT_EQ(-EFAULT,
			  take_output(&self->files, (uintptr_t)self->room));
	/* What is only read still works. */
	EXPECT_EQ(0, set_xsave(&self->files, (uintptr_t)self->room));
	EXPECT_EQ(0, kick(&self->files, (uintptr_t)self->room));
}

TEST_HARNESS_MAIN
