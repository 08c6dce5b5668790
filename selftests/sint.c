// SPDX-License-Identifier: GPL-2.0
/*
 * /dev/mshv_sint on a host that is Hyper-V: messages and events in both
 * directions. The host acts at the test's request, through its debug port.
 */
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "vtl_harness.h"
#include "debug_port.h"
#include "vtl_util.h"

#define SINT 7
/* What is sent to it is returned. */
#define ECHO 1
#define NO_CONNECTION 0x4444
#define HV_INVALID_PARAMETER 5
#define HV_INVALID_CONNECTION_ID 0x12

struct message {
	uint32_t type;
	uint8_t size, flags, reserved[2];
	uint64_t sender;
	uint8_t payload[240];
};

/* The type that the host gives to message number @n, which has @n as payload. */
#define TYPE(n) (0x80000000U | (n))

static int ask_message(unsigned int n)
{
	return debug_port(ACTION_MESSAGE, (uint64_t)n << 32 | n << 16 | SINT);
}

static int ask_event(unsigned int cpu, unsigned int flag)
{
	return debug_port(ACTION_EVENT, flag << 16 | cpu << 8 | SINT);
}

static int pause_stream(int fd, unsigned char paused)
{
	struct mshv_sint_mask mask = { .mask = paused };

	return ioctl(fd, MSHV_SINT_PAUSE_MESSAGE_STREAM, &mask);
}

static int set_eventfd(int sint, int fd, unsigned int flag)
{
	struct mshv_vtl_set_eventfd set = { .fd = fd, .flag = flag };

	return ioctl(sint, MSHV_SINT_SET_EVENTFD, &set);
}

static bool is_readable(int fd, int timeout_ms)
{
	struct pollfd entry = { .fd = fd, .events = POLLIN };

	return poll(&entry, 1, timeout_ms) == 1 && entry.revents & POLLIN;
}

FIXTURE(sint)
{
	int fd;
	struct message message;
};

FIXTURE_SETUP(sint)
{
	ASSERT_EQ(sizeof(struct message), 256);
	self->fd = vtl_open(DEV_MSHV_SINT);
	ASSERT_LE(0, self->fd);
}

FIXTURE_TEARDOWN(sint)
{
	pause_stream(self->fd, 1);
	close(self->fd);
}

/* Also while it is the first test: so it is after loading. */
TEST_F(sint, is_paused_at_first)
{
	EXPECT_TRUE(is_readable(self->fd, 0));
	EXPECT_EQ(0, read(self->fd, &self->message, 256));
	EXPECT_EQ(ANSWER_OFF, ask_message(1));
	EXPECT_EQ(ANSWER_OFF, ask_event(0, 1));
}

#define RESUME()                                                    \
	do {                                                        \
		ASSERT_EQ(0, pause_stream(self->fd, 0));            \
		ASSERT_EQ(0, fcntl(self->fd, F_SETFL, O_NONBLOCK)); \
		ASSERT_EQ(-1, read(self->fd, &self->message, 256)); \
		ASSERT_EQ(EAGAIN, errno);                           \
	} while (0)

TEST_F(sint, reads_a_message)
{
	RESUME();
	EXPECT_FALSE(is_readable(self->fd, 0));
	ASSERT_EQ(0, ask_message(5));
	EXPECT_TRUE(is_readable(self->fd, 1000));
	ASSERT_EQ(256, read(self->fd, &self->message, sizeof(self->message)));
	EXPECT_EQ(TYPE(5), self->message.type);
	EXPECT_EQ(8, self->message.size);
	EXPECT_EQ(5, self->message.payload[0]);
	EXPECT_FALSE(is_readable(self->fd, 0));
	EXPECT_EQ(-1, read(self->fd, &self->message, 256));
	EXPECT_EQ(EAGAIN, errno);
}

TEST_F(sint, wants_room_for_a_message_and_keeps_it_otherwise)
{
	void *bad =
		mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	RESUME();
	ASSERT_EQ(0, ask_message(6));
	EXPECT_EQ(-1, read(self->fd, &self->message, 255));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, read(self->fd, bad, 256));
	EXPECT_EQ(EFAULT, errno);
	ASSERT_EQ(256, read(self->fd, &self->message, 256));
	EXPECT_EQ(TYPE(6), self->message.type);
}

/* More than there are slots: the host waits for each to be read. */
TEST_F(sint, messages_come_in_order)
{
	unsigned int i, n;

	RESUME();
	for (i = 0; i < 4; i++) {
		for (n = 1; n <= 9; n++)
			ASSERT_EQ(0, ask_message(n));
		EXPECT_EQ(ANSWER_FULL, ask_message(10));
		for (n = 1; n <= 9; n++) {
			EXPECT_TRUE(is_readable(self->fd, 1000));
			ASSERT_EQ(256, read(self->fd, &self->message, 256));
			EXPECT_EQ(TYPE(n), self->message.type);
		}
		EXPECT_EQ(-1, read(self->fd, &self->message, 256));
	}
}

static void *read_once(void *argument)
{
	struct message message = { 0 };

	if (read(*(int *)argument, &message, sizeof(message)) < 0)
		return (void *)-1L;
	return (void *)(uintptr_t)message.type;
}

TEST_F(sint, reader_sleeps_until_a_message_comes)
{
	pthread_t thread;
	void *type;

	ASSERT_EQ(0, pause_stream(self->fd, 0));
	ASSERT_EQ(0, pthread_create(&thread, NULL, read_once, &self->fd));
	usleep(100000);
	ASSERT_EQ(0, ask_message(7));
	pthread_join(thread, &type);
	EXPECT_EQ(TYPE(7), (uintptr_t)type);
}

TEST_F(sint, pause_wakes_the_reader)
{
	pthread_t thread;
	void *type;

	ASSERT_EQ(0, pause_stream(self->fd, 0));
	ASSERT_EQ(0, pthread_create(&thread, NULL, read_once, &self->fd));
	usleep(100000);
	ASSERT_EQ(0, pause_stream(self->fd, 1));
	pthread_join(thread, &type);
	EXPECT_EQ(NULL, type);
}

TEST_F(sint, paused_stream_is_drained_first)
{
	RESUME();
	ASSERT_EQ(0, ask_message(8));
	ASSERT_EQ(0, pause_stream(self->fd, 1));
	EXPECT_EQ(ANSWER_OFF, ask_message(9));
	ASSERT_EQ(256, read(self->fd, &self->message, 256));
	EXPECT_EQ(TYPE(8), self->message.type);
	EXPECT_EQ(0, read(self->fd, &self->message, 256));
}

/* A page whose first access waits for the owner of the descriptor. */
static int make_slow(void *page)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register range = {
		.range = { .start = (uintptr_t)page, .len = 4096 },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	if (fd < 0 || ioctl(fd, UFFDIO_API, &api) ||
	    ioctl(fd, UFFDIO_REGISTER, &range))
		return -1;
	return fd;
}

struct slow_reader {
	int fd;
	void *page;
};

static void *read_slowly(void *argument)
{
	struct slow_reader *reader = argument;

	return (void *)read(reader->fd, reader->page, 256);
}

struct pauser {
	int fd;
	unsigned char paused;
};

static void *pause_later(void *argument)
{
	struct pauser *pauser = argument;

	return (void *)(long)pause_stream(pauser->fd, pauser->paused);
}

/*
 * User memory can take as long as it likes to fault in, without delaying
 * others.
 */
TEST_F(sint, a_reader_that_waits_for_its_memory_holds_up_nobody)
{
	struct slow_reader reader = { .fd = self->fd };
	struct pauser pauser = { .fd = self->fd, .paused = 1 };
	struct uffdio_zeropage zero;
	pthread_t slow, other;
	struct timespec limit;
	void *result;
	int slow_fd, is_held_up;

	reader.page = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, reader.page);
	slow_fd = make_slow(reader.page);
	ASSERT_LE(0, slow_fd);
	RESUME();
	ASSERT_EQ(0, ask_message(11));
	ASSERT_TRUE(is_readable(self->fd, 1000));
	ASSERT_EQ(0, pthread_create(&slow, NULL, read_slowly, &reader));
	ASSERT_TRUE(is_readable(slow_fd, 10000));

	ASSERT_EQ(0, pthread_create(&other, NULL, pause_later, &pauser));
	clock_gettime(CLOCK_REALTIME, &limit);
	limit.tv_sec += 30;
	is_held_up = pthread_timedjoin_np(other, &result, &limit);
	EXPECT_EQ(0, is_held_up);
	if (!is_held_up) {
		/* The message has a reader, and the stream is at its end. */
		EXPECT_EQ(NULL, result);
		EXPECT_EQ(0, read(self->fd, &self->message, 256));
		EXPECT_EQ(0, pause_stream(self->fd, 0));
		EXPECT_FALSE(is_readable(self->fd, 0));
	}

	zero = (struct uffdio_zeropage){
		.range = { .start = (uintptr_t)reader.page, .len = 4096 },
	};
	ASSERT_EQ(0, ioctl(slow_fd, UFFDIO_ZEROPAGE, &zero));
	pthread_join(slow, &result);
	EXPECT_EQ(256, (long)result);
	EXPECT_EQ(TYPE(11), ((struct message *)reader.page)->type);
	close(slow_fd);
	munmap(reader.page, 4096);
}

static int post(int fd, uint64_t type, uint32_t connection, const void *payload,
		uint32_t size)
{
	struct mshv_vtl_sint_post_msg request = {
		.message_type = type,
		.connection_id = connection,
		.payload_size = size,
		.payload_ptr = (uintptr_t)payload,
	};

	return ioctl(fd, MSHV_SINT_POST_MESSAGE, &request);
}

TEST_F(sint, posted_message_comes_back)
{
	static const unsigned int sizes[] = { 0, 1, 17, 240 };
	unsigned char payload[240];
	size_t i;

	RESUME();
	for (i = 0; i < sizeof(payload); i++)
		payload[i] = i + 1;
	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		ASSERT_EQ(0, post(self->fd, 0x1234, ECHO, payload, sizes[i]));
		ASSERT_TRUE(is_readable(self->fd, 1000));
		ASSERT_EQ(256, read(self->fd, &self->message, 256));
		EXPECT_EQ(0x1234, self->message.type);
		EXPECT_EQ(sizes[i], self->message.size);
		EXPECT_EQ(0, memcmp(payload, self->message.payload, sizes[i]));
	}
}

TEST_F(sint, refused_messages_and_events_give_the_hosts_status)
{
	struct mshv_vtl_signal_event event = { .connection_id = NO_CONNECTION };

	EXPECT_EQ(HV_INVALID_CONNECTION_ID,
		  post(self->fd, 1, NO_CONNECTION, NULL, 0));
	/* Types with bit 31 are the host's own. */
	EXPECT_EQ(HV_INVALID_PARAMETER, post(self->fd, TYPE(1), ECHO, NULL, 0));
	EXPECT_EQ(HV_INVALID_CONNECTION_ID,
		  ioctl(self->fd, MSHV_SINT_SIGNAL_EVENT, &event));
}

TEST_F(sint, bad_arguments_are_refused)
{
	struct mshv_vtl_signal_event event = { .connection_id = ECHO,
					       .flag = 2048 };
	struct mshv_sint_mask mask = { .mask = 2 };
	char text[241];
	unsigned int i;

	EXPECT_EQ(-1, post(self->fd, 1, ECHO, text, 241));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, post(self->fd, 1ULL << 32, ECHO, text, 1));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, post(self->fd, 1, ECHO, NULL, 1));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(-1, ioctl(self->fd, MSHV_SINT_SIGNAL_EVENT, &event));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, set_eventfd(self->fd, -1, 2048));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, set_eventfd(self->fd, 1000, 0));
	EXPECT_EQ(EBADF, errno);
	EXPECT_EQ(-1, set_eventfd(self->fd, self->fd, 0));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, ioctl(self->fd, MSHV_SINT_PAUSE_MESSAGE_STREAM, &mask));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, ioctl(self->fd, MSHV_CREATE_VTL, NULL));
	EXPECT_EQ(ENOTTY, errno);
	for (i = 0x22; i <= 0x24; i++) {
		EXPECT_EQ(-1, ioctl(self->fd,
				    i == 0x23 ? MSHV_SINT_POST_MESSAGE :
				    i == 0x22 ? MSHV_SINT_SIGNAL_EVENT :
						MSHV_SINT_SET_EVENTFD,
				    NULL));
		EXPECT_EQ(EFAULT, errno);
	}
}

TEST_F(sint, event_flags_signal_their_eventfds)
{
	static const unsigned int flags[] = { 0, 63, 64, 1000, 2047 };
	int fds[ARRAY_SIZE(flags)];
	uint64_t count;
	size_t i, k;

	RESUME();
	for (i = 0; i < ARRAY_SIZE(flags); i++) {
		fds[i] = eventfd(0, EFD_NONBLOCK);
		ASSERT_LE(0, fds[i]);
		ASSERT_EQ(0, set_eventfd(self->fd, fds[i], flags[i]));
	}
	for (i = 0; i < ARRAY_SIZE(flags); i++) {
		/* From either processor. */
		ASSERT_EQ(0, ask_event(i % 2, flags[i]));
		ASSERT_TRUE(is_readable(fds[i], 1000));
		ASSERT_EQ(8, read(fds[i], &count, 8));
		EXPECT_EQ(1, count);
		for (k = 0; k < ARRAY_SIZE(flags); k++)
			EXPECT_FALSE(is_readable(fds[k], 0));
	}
	/* A flag without an eventfd is as if it had not come. */
	EXPECT_EQ(0, ask_event(0, 5));
	/* Replaced, removed, and released with the file. */
	ASSERT_EQ(0, set_eventfd(self->fd, fds[1], flags[0]));
	ASSERT_EQ(0, ask_event(0, flags[0]));
	EXPECT_TRUE(is_readable(fds[1], 1000));
	EXPECT_FALSE(is_readable(fds[0], 0));
	ASSERT_EQ(0, set_eventfd(self->fd, -1, flags[2]));
	ASSERT_EQ(0, ask_event(0, flags[2]));
	usleep(20000);
	EXPECT_FALSE(is_readable(fds[2], 0));
}

TEST_F(sint, eventfds_go_with_the_file_they_came_through)
{
	int other = vtl_open(DEV_MSHV_SINT);
	int fds[2] = { eventfd(0, EFD_NONBLOCK), eventfd(0, EFD_NONBLOCK) };

	RESUME();
	ASSERT_LE(0, other);
	ASSERT_EQ(0, set_eventfd(other, fds[0], 3));
	ASSERT_EQ(0, set_eventfd(self->fd, fds[1], 4));
	close(other);
	ASSERT_EQ(0, ask_event(0, 3));
	ASSERT_EQ(0, ask_event(0, 4));
	EXPECT_TRUE(is_readable(fds[1], 1000));
	EXPECT_FALSE(is_readable(fds[0], 0));
}

TEST_F(sint, signalled_event_comes_back)
{
	struct mshv_vtl_signal_event event = { .connection_id = ECHO,
					       .flag = 77 };
	int fd = eventfd(0, EFD_NONBLOCK);

	RESUME();
	ASSERT_EQ(0, set_eventfd(self->fd, fd, 77));
	ASSERT_EQ(0, ioctl(self->fd, MSHV_SINT_SIGNAL_EVENT, &event));
	EXPECT_TRUE(is_readable(fd, 1000));
}

TEST_HARNESS_MAIN
