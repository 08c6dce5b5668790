// SPDX-License-Identifier: GPL-2.0
/* One operation of io_uring at a time, by the bare system calls. */
#include <errno.h>
#include <linux/io_uring.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "kernel_access.h"
#include "vtl_util.h"

struct ring {
	int fd;
	struct io_uring_params params;
	unsigned char *rings;
	size_t size;
	struct io_uring_sqe *entry;
};

static void ring_close(struct ring *ring)
{
	if (ring->entry)
		munmap(ring->entry, VTL_PAGE_SIZE);
	if (ring->rings)
		munmap(ring->rings, ring->size);
	close(ring->fd);
}

static void *ring_map(const struct ring *ring, size_t size, uint64_t offset)
{
	void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED,
			ring->fd, (off_t)offset);

	return at == MAP_FAILED ? NULL : at;
}

static int ring_open(struct ring *ring)
{
	memset(ring, 0, sizeof(*ring));
	ring->fd = syscall(SYS_io_uring_setup, 1, &ring->params);
	if (ring->fd < 0)
		return -errno;
	ring->size = ring->params.cq_off.cqes +
		     ring->params.cq_entries * sizeof(struct io_uring_cqe);
	ring->rings = ring_map(ring, ring->size, IORING_OFF_SQ_RING);
	ring->entry = ring_map(ring, VTL_PAGE_SIZE, IORING_OFF_SQES);
	if (ring->rings && ring->entry)
		return 0;
	ring_close(ring);
	return -ENOMEM;
}

static int ring_register(const struct ring *ring, void *page)
{
	struct iovec vector = { .iov_base = page, .iov_len = VTL_PAGE_SIZE };

	if (syscall(SYS_io_uring_register, ring->fd, IORING_REGISTER_BUFFERS,
		    &vector, 1))
		return -errno;
	return 0;
}

static uint32_t *ring_word(const struct ring *ring, uint32_t offset)
{
	return (uint32_t *)(ring->rings + offset);
}

/* Carries out the entry; gives its result. */
static int ring_do(struct ring *ring, int operation, int fd, void *page)
{
	const struct io_cqring_offsets *done = &ring->params.cq_off;
	const struct io_uring_cqe *result = (void *)(ring->rings + done->cqes);

	memset(ring->entry, 0, sizeof(*ring->entry));
	ring->entry->opcode = operation;
	ring->entry->fd = fd;
	ring->entry->addr = (uintptr_t)page;
	ring->entry->len = VTL_PAGE_SIZE;
	ring->entry->off = -1ULL;
	*ring_word(ring, ring->params.sq_off.array) = 0;
	__atomic_store_n(ring_word(ring, ring->params.sq_off.tail), 1,
			 __ATOMIC_RELEASE);
	if (syscall(SYS_io_uring_enter, ring->fd, 1, 1, IORING_ENTER_GETEVENTS,
		    NULL, 0) != 1)
		return -errno;
	if (__atomic_load_n(ring_word(ring, done->tail), __ATOMIC_ACQUIRE) != 1)
		return -EIO;
	return result->res;
}

/* Through a pipe; @is_fixed: by a buffer that is registered before. */
static int ring_write(void *page, void *copy, int is_fixed)
{
	struct ring ring;
	int ends[2], result = ring_open(&ring);

	if (result)
		return result;
	if (pipe(ends)) {
		ring_close(&ring);
		return -errno;
	}
	if (is_fixed)
		result = ring_register(&ring, page);
	if (!result)
		result = ring_do(&ring,
				 is_fixed ? IORING_OP_WRITE_FIXED :
					    IORING_OP_WRITE,
				 ends[1], page);
	if (result == (int)VTL_PAGE_SIZE)
		result = read(ends[0], copy, VTL_PAGE_SIZE) ==
					 (ssize_t)VTL_PAGE_SIZE ?
				 0 :
				 -EIO;
	close(ends[0]);
	close(ends[1]);
	ring_close(&ring);
	return result;
}

int vtl_uring_fixed_write(void *page, void *copy)
{
	return ring_write(page, copy, 1);
}

int vtl_uring_plain_write(void *page, void *copy)
{
	return ring_write(page, copy, 0);
}

int vtl_uring_fixed_read(void *page, void *copy)
{
	struct ring ring;
	int ends[2], result = ring_open(&ring);

	if (result)
		return result;
	if (pipe(ends)) {
		ring_close(&ring);
		return -errno;
	}
	result = ring_register(&ring, page);
	if (!result &&
	    write(ends[1], copy, VTL_PAGE_SIZE) != (ssize_t)VTL_PAGE_SIZE)
		result = -EIO;
	if (!result)
		result = ring_do(&ring, IORING_OP_READ_FIXED, ends[0], page);
	close(ends[0]);
	close(ends[1]);
	ring_close(&ring);
	return result == (int)VTL_PAGE_SIZE ? 0 : result;
}

int vtl_uring_pin(void *page)
{
	struct ring ring;
	int result = ring_open(&ring);

	if (result)
		return result;
	result = ring_register(&ring, page);
	if (result) {
		ring_close(&ring);
		return result;
	}
	munmap(ring.entry, VTL_PAGE_SIZE);
	munmap(ring.rings, ring.size);
	return ring.fd;
}
