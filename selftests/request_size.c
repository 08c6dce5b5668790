// SPDX-License-Identifier: GPL-2.0
/*
 * Every command of every file, from one table: numbers that carry another size,
 * operands that are not there, not whole, not writable, not aligned.
 */
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "vtl_harness.h"
#include "vtl_util.h"

enum file { MSHV, VTL, HVCALL, SINT, FILES };

/* What the kernel does with the operand. */
enum use { IGNORED, READ, WRITTEN };

struct request {
	const char *name;
	enum file file;
	unsigned int command;
	enum use use;
	/* Answer to the operand below: positive, 0 or a negative errno. */
	int answer;
	unsigned int size;
	uint64_t operand[3];
};

#define REQUEST(file, name, use, answer, size, ...)          \
	{                                                    \
		#name, file, MSHV_##name, use, answer, size, \
		{                                            \
			__VA_ARGS__                          \
		}                                            \
	}
#define HIGH(value) ((uint64_t)(value) << 32)

static const struct request requests[] = {
	REQUEST(MSHV, CHECK_EXTENSION, READ, 1, 4, MSHV_CAP_DR6_SHARED),
	REQUEST(MSHV, CREATE_VTL, IGNORED, 1, 1, 0),
	REQUEST(MSHV, VTL_INFO, WRITTEN, 0, 72, 72),
	REQUEST(MSHV, VTL_POLICY, WRITTEN, 0, 176, 176 | HIGH(1)),
	REQUEST(VTL, RETURN_TO_LOWER_VTL, IGNORED, -EINVAL, 0, 0),
	/* A list at no address. */
	REQUEST(VTL, GET_VP_REGISTERS, READ, -EFAULT, 16, 1),
	REQUEST(VTL, SET_VP_REGISTERS, READ, -EFAULT, 16, 1),
	REQUEST(VTL, RESTORE_PARTITION_TIME, IGNORED, -EOPNOTSUPP, 24, 0),
	REQUEST(VTL, ADD_VTL0_MEMORY, READ, -EINVAL, 16, 512, 512),
	/* No such file. */
	REQUEST(VTL, SET_POLL_FILE, READ, -EBADF, 8, HIGH(255)),
	REQUEST(VTL, KICK_CPUS, READ, 0, 24, 0),
	/* A vector of an exception. */
	REQUEST(VTL, MAP_REDIRECTED_DEVICE_INTERRUPT, READ, -EINVAL, 16, 2, 1),
	REQUEST(VTL, READ_VMX_CR4_FIXED1, WRITTEN, 0, 8, 0),
	REQUEST(VTL, TDCALL, WRITTEN, 0, 56, TDG_VM_RD),
	/* Queries the size; an image without a size. */
	REQUEST(VTL, VTL_XSAVE_GET, WRITTEN, 0, 24, 0),
	REQUEST(VTL, VTL_XSAVE_SET, READ, -EINVAL, 24, 0),
	REQUEST(VTL, VTL_RESET, READ, 0, 8, 8),
	/* No address of a page. */
	REQUEST(VTL, VTL_SWITCH_SETUP, READ, -EINVAL, 24, 24, 8),
	/* The module is loaded without attestation. */
	REQUEST(VTL, VTL_AUDIT_CHECKPOINT, READ, -EOPNOTSUPP, 56, 56),
	REQUEST(VTL, VTL_AUDIT_EVENT, READ, -EOPNOTSUPP, 72, 72),
	REQUEST(VTL, VTL_AUDIT_NOTE, READ, 0, 32, 32),
	REQUEST(VTL, VTL_STATS, WRITTEN, 0, 2656, 2656),
	REQUEST(HVCALL, HVCALL_SETUP, READ, -EINVAL, 16, 65536),
	REQUEST(HVCALL, HVCALL, READ, -EINVAL, 48, 0, 65536),
	/* No such flag; a payload larger than allowed. */
	REQUEST(SINT, SINT_SIGNAL_EVENT, READ, -EINVAL, 8, HIGH(2048)),
	REQUEST(SINT, SINT_POST_MESSAGE, READ, -EINVAL, 24, 1, HIGH(241)),
	/* No eventfd for flag 2047; a pause, as after loading. */
	REQUEST(SINT, SINT_SET_EVENTFD, READ, 0, 8, HIGH(2047) | 0xffffffff),
	REQUEST(SINT, SINT_PAUSE_MESSAGE_STREAM, READ, 0, 8, 1),
};

FIXTURE(request)
{
	int files[FILES];
	/* Room that ends where memory ends. */
	unsigned char *room, *end;
};

static int open_file(enum file file)
{
	static const char *const paths[] = {
		[MSHV] = DEV_MSHV, [HVCALL] = DEV_MSHV_HVCALL, [SINT] = DEV_MSHV_SINT
	};

	return file == VTL ? vtl_create() : vtl_open(paths[file]);
}

#define ROOM (2 * VTL_PAGE_SIZE)

FIXTURE_SETUP(request)
{
	struct mshv_vtl_run *run;

	int file;

	/* Those of Hyper-V only where that is the host. */
	for (file = 0; file < FILES; file++)
		self->files[file] = open_file(file);
	ASSERT_LE(0, self->files[MSHV]);
	ASSERT_LE(0, self->files[VTL]);
	ASSERT_EQ(0, vtl_pin(0));
	/* No guest of an earlier test can run: there is no VM 0. */
	run = vtl_map_page(self->files[VTL], MSHV_VTL_MMAP_RUN_PAGE, 0);
	ASSERT_NE(MAP_FAILED, (void *)run);
	run->tdx.entry_rcx = 0;
	munmap(run, VTL_PAGE_SIZE);
	self->room = mmap(NULL, ROOM + VTL_PAGE_SIZE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->room);
	self->end = self->room + ROOM;
	ASSERT_EQ(0, mprotect(self->end, VTL_PAGE_SIZE, PROT_NONE));
}

FIXTURE_TEARDOWN(request)
{
	int i;

	for (i = 0; i < FILES; i++)
		close(self->files[i]);
	munmap(self->room, ROOM + VTL_PAGE_SIZE);
}

static int call(int fd, unsigned int command, void *operand)
{
	int answer = ioctl(fd, command, operand);

	if (answer < 0)
		return -errno;
	/* A new descriptor is not kept. */
	if (command == MSHV_CREATE_VTL) {
		close(answer);
		return 1;
	}
	return answer;
}

/* Puts a good operand at an address. */
static void *put(const struct request *request, unsigned char *at)
{
	memset(at, 0, request->size);
	memcpy(at, request->operand,
	       request->size < sizeof(request->operand) ?
		       request->size :
		       sizeof(request->operand));
	return at;
}

/*
 * The next request, from this one on, whose file exists; NULL after the last.
 */
static const struct request *served(const int *files,
				    const struct request *request)
{
	for (; request < requests + ARRAY_SIZE(requests); request++)
		if (files[request->file] >= 0)
			return request;
	return NULL;
}

#define EXPECT_ANSWER(expected, request, command, operand)       \
	do {                                                     \
		int _fd = self->files[(request)->file];          \
		EXPECT_EQ(expected, call(_fd, command, operand)) \
		{                                                \
			TH_LOG("%s", (request)->name);           \
		}                                                \
	} while (0)

TEST_F(request, a_good_operand_has_its_answer)
{
	const struct request *request;

	for (request = served(self->files, requests); request;
	     request = served(self->files, request + 1)) {
		EXPECT_ANSWER(request->answer, request, request->command,
			      put(request, self->room));
	}
}

/* The command carries the size; one of another size is another command. */
TEST_F(request, commands_of_another_size_are_enotty)
{
	const struct request *request;

	for (request = served(self->files, requests); request;
	     request = served(self->files, request + 1)) {
		unsigned int one = 1 << _IOC_SIZESHIFT;
		unsigned int last = request->command |
				    _IOC_SIZEMASK << _IOC_SIZESHIFT;

		put(request, self->room);
		EXPECT_ANSWER(-ENOTTY, request, request->command + one,
			      self->room);
		EXPECT_ANSWER(-ENOTTY, request, last, self->room);
		if (_IOC_SIZE(request->command) == 0)
			continue;
		EXPECT_ANSWER(-ENOTTY, request, request->command - one,
			      self->room);
		EXPECT_ANSWER(-ENOTTY, request,
			      request->command &
				      ~(_IOC_SIZEMASK << _IOC_SIZESHIFT),
			      self->room);
	}
}

TEST_F(request, commands_of_another_direction_are_enotty)
{
	const struct request *request;
	unsigned int direction;

	for (request = served(self->files, requests); request;
	     request = served(self->files, request + 1)) {
		put(request, self->room);
		for (direction = 0; direction < 4; direction++) {
			if (direction == _IOC_DIR(request->command))
				continue;
			EXPECT_ANSWER(-ENOTTY, request,
				      (request->command & 0x3fffffff) |
					      direction << _IOC_DIRSHIFT,
				      self->room);
		}
	}
}

/* One number may mean two things, on two files. */
static bool is_known(enum file file, unsigned int command)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(requests); i++)
		if (requests[i].file == file && requests[i].command == command)
			return true;
	return false;
}

TEST_F(request, commands_of_another_file_are_enotty)
{
	const struct request *request;
	int other, low = vtl_open(DEV_MSHV_VTL_LOW);

	ASSERT_LE(0, low);
	for (request = served(self->files, requests); request;
	     request = served(self->files, request + 1)) {
		put(request, self->room);
		EXPECT_EQ(-ENOTTY, call(low, request->command, self->room));
		for (other = 0; other < FILES; other++) {
			if (is_known(other, request->command) ||
			    self->files[other] < 0)
				continue;
			EXPECT_EQ(-ENOTTY, call(self->files[other],
						request->command, self->room))
			{
				TH_LOG("%s on file %d", request->name, other);
			}
		}
	}
	close(low);
}

TEST_F(request, operands_that_are_not_there_are_efault)
{
	void *nowhere[] = { NULL,
			    (void *)8,
			    self->end,
			    (void *)-1L,
			    (void *)-4096L,
			    (void *)0x7ffffffff000,
			    (void *)0x800000000000,
			    (void *)0xffffffff81000000 };
	const struct request *request;
	size_t i;

	for (request = served(self->files, requests); request;
	     request = served(self->files, request + 1)) {
		int expected = request->use == IGNORED ? request->answer :
							 -EFAULT;

		for (i = 0; i < ARRAY_SIZE(nowhere); i++)
			EXPECT_ANSWER(expected, request, request->command,
				      nowhere[i]);
	}
}

/* Every length that is too short, and the one that is just enough. */
TEST_F(request, operands_that_are_cut_off_are_efault)
{
	const struct request *request;
	unsigned int present, step;

	for (request = served(self->files, requests); request;
	     request = served(self->files, request + 1)) {
		if (request->use == IGNORED)
			continue;
		step = request->size > 100 ? 37 : 1;
		for (present = 1; present < request->size; present += step) {
			unsigned char *at = self->end - present;
			unsigned char whole[4096];

			put(request, whole);
			memcpy(at, whole, present);
			EXPECT_ANSWER(-EFAULT, request, request->command, at);
		}
		EXPECT_ANSWER(request->answer, request, request->command,
			      put(request, self->end - request->size));
	}
}

TEST_F(request, answers_to_read_only_memory_are_efault)
{
	const struct request *request;

	for (request = served(self->files, requests); request;
	     request = served(self->files, request + 1)) {
		put(request, self->room);
		ASSERT_EQ(0, mprotect(self->room, ROOM, PROT_READ));
		EXPECT_ANSWER(request->use == WRITTEN ? -EFAULT :
							request->answer,
			      request, request->command, self->room);
		ASSERT_EQ(0,
			  mprotect(self->room, ROOM, PROT_READ | PROT_WRITE));
	}
}

TEST_F(request, operands_need_no_alignment)
{
	const struct request *request;
	unsigned int offset;

	for (request = served(self->files, requests); request;
	     request = served(self->files, request + 1)) {
		for (offset = 1; offset < 16; offset++)
			EXPECT_ANSWER(request->answer, request,
				      request->command,
				      put(request, self->room + offset));
		/* Across two pages. */
		EXPECT_ANSWER(request->answer, request, request->command,
			      put(request, self->room + VTL_PAGE_SIZE - 1));
	}
}

/* A descriptor number that no other file uses. */
#define SLOT 200

struct closer {
	enum file file;
	volatile bool is_over;
	unsigned int rounds;
};

/* A new file each time: its last user may be the call that is under way. */
static void *come_and_go(void *argument)
{
	struct closer *closer = argument;

	while (!closer->is_over) {
		int fd = open_file(closer->file);

		dup2(fd, SLOT);
		close(fd);
		sched_yield();
		close(SLOT);
		closer->rounds++;
	}
	return NULL;
}

TEST_F(request, closing_the_file_meanwhile_is_harmless)
{
	const struct request *request;
	unsigned int done = 0;

	for (request = served(self->files, requests); request;
	     request = served(self->files, request + 1)) {
		struct closer closer = { .file = request->file };
		pthread_t thread;
		int tries, answer;

		ASSERT_EQ(0,
			  vtl_thread_anywhere(&thread, come_and_go, &closer));
		put(request, self->room);
		for (tries = 0; tries < 3000 && closer.rounds < 30; tries++) {
			answer = call(SLOT, request->command, self->room);
			EXPECT_TRUE(answer == request->answer ||
				    answer == -EBADF)
			{
				TH_LOG("%s: %d", request->name, answer);
			}
			done += answer == request->answer;
			put(request, self->room);
		}
		closer.is_over = true;
		pthread_join(thread, NULL);
	}
	/* Some calls had a file. */
	EXPECT_LT(0, done);
}

TEST_HARNESS_MAIN
