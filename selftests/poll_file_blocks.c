// SPDX-License-Identifier: GPL-2.0
/*
 * A poll file whose own poll operation blocks, as with FUSE: only the caller
 * that registers it waits.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vtl_harness.h"
#include "vtl_util.h"

#define PLACE "/tmp/slow"
#define PATIENCE_MS 20000

/* A file system with one file, its root, served by a thread. */
struct server {
	int fd;
	int asked; /* eventfd: the kernel waits for an answer about the file's poll */
	int answer; /* eventfd: give it */
	bool ran_out_of_patience;
};

static void reply(int fd, uint64_t unique, int error, const void *data,
		  size_t size)
{
	unsigned char bytes[256];
	struct fuse_out_header head = {
		.len = sizeof(head) + size,
		.error = error,
		.unique = unique,
	};

	memcpy(bytes, &head, sizeof(head));
	if (size)
		memcpy(bytes + sizeof(head), data, size);
	if (write(fd, bytes, head.len) != (ssize_t)head.len)
		perror("# answer to FUSE");
}

static void wait_for_the_word(struct server *server)
{
	struct pollfd word = { .fd = server->answer, .events = POLLIN };
	uint64_t one = 1;

	if (write(server->asked, &one, sizeof(one)) != sizeof(one) ||
	    poll(&word, 1, PATIENCE_MS) != 1)
		server->ran_out_of_patience = true;
}

static void serve_one(struct server *server, const struct fuse_in_header *ask)
{
	struct fuse_init_out init = { .major = FUSE_KERNEL_VERSION,
				      .minor = FUSE_KERNEL_MINOR_VERSION,
				      .max_write = 4096 };
	struct fuse_attr_out attr = {
		.attr = { .ino = 1, .mode = S_IFREG | 0600, .nlink = 1 },
	};
	struct fuse_open_out opened = { .fh = 1 };
	struct fuse_poll_out polled = {};

	switch (ask->opcode) {
	case FUSE_INIT:
		return reply(server->fd, ask->unique, 0, &init, sizeof(init));
	case FUSE_GETATTR:
		return reply(server->fd, ask->unique, 0, &attr, sizeof(attr));
	case FUSE_OPEN:
		return reply(server->fd, ask->unique, 0, &opened,
			     sizeof(opened));
	case FUSE_POLL:
		wait_for_the_word(server);
		return reply(server->fd, ask->unique, 0, &polled,
			     sizeof(polled));
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
	case FUSE_INTERRUPT:
		return;
	case FUSE_FLUSH:
	case FUSE_RELEASE:
		return reply(server->fd, ask->unique, 0, NULL, 0);
	default:
		return reply(server->fd, ask->unique, -EOPNOTSUPP, NULL, 0);
	}
}

static void *serve(void *argument)
{
	static _Alignas(8) unsigned char ask[FUSE_MIN_READ_BUFFER + 4096];
	struct server *server = argument;

	/* Until the file system is unmounted. */
	while (read(server->fd, ask, sizeof(ask)) >=
	       (ssize_t)sizeof(struct fuse_in_header))
		serve_one(server, (const struct fuse_in_header *)ask);
	return NULL;
}

struct setter {
	int vtl, file, result;
};

static int set_poll_file(int vtl, int file)
{
	struct mshv_set_poll_file request = { .cpu = 0, .fd = file };

	return ioctl(vtl, MSHV_SET_POLL_FILE, &request) ? -errno : 0;
}

static void *set_it(void *argument)
{
	struct setter *setter = argument;

	setter->result = set_poll_file(setter->vtl, setter->file);
	return NULL;
}

FIXTURE(slow)
{
	struct server server;
	pthread_t thread;
	int file;
};

FIXTURE_SETUP(slow)
{
	char options[64];
	int place;

	self->server.fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (self->server.fd < 0)
		SKIP(return, "the kernel has no FUSE");
	self->server.asked = eventfd(0, EFD_CLOEXEC);
	self->server.answer = eventfd(0, EFD_CLOEXEC);
	place = open(PLACE, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	ASSERT_LE(0, place);
	close(place);
	snprintf(options, sizeof(options),
		 "fd=%d,rootmode=100000,user_id=0,group_id=0", self->server.fd);
	ASSERT_EQ(0,
		  mount("slow", PLACE, "fuse", MS_NODEV | MS_NOSUID, options));
	ASSERT_EQ(0, vtl_thread_anywhere(&self->thread, serve, &self->server));
	self->file = open(PLACE, O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, self->file);
}

FIXTURE_TEARDOWN(slow)
{
	close(self->file);
	umount2(PLACE, MNT_DETACH);
	pthread_join(self->thread, NULL);
	close(self->server.fd);
	close(self->server.asked);
	close(self->server.answer);
	unlink(PLACE);
}

TEST_F(slow, neither_another_registration_nor_a_close_waits_for_it)
{
	int event = eventfd(0, EFD_CLOEXEC);
	struct setter setter = { .vtl = vtl_create(), .file = self->file };
	pthread_t thread;
	uint64_t word;

	ASSERT_LE(0, setter.vtl);
	ASSERT_EQ(0, vtl_thread_anywhere(&thread, set_it, &setter));
	ASSERT_EQ(sizeof(word), read(self->server.asked, &word, sizeof(word)));
	EXPECT_EQ(0, set_poll_file(setter.vtl, event));
	EXPECT_EQ(0, close(setter.vtl));
	word = 1;
	ASSERT_EQ(sizeof(word),
		  write(self->server.answer, &word, sizeof(word)));
	pthread_join(thread, NULL);
	EXPECT_FALSE(self->server.ran_out_of_patience);
	EXPECT_EQ(-EBADF, setter.result);
	close(event);
}

TEST_HARNESS_MAIN
