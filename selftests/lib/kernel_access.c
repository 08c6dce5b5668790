// SPDX-License-Identifier: GPL-2.0
/* What kernel_access.h names. */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/userfaultfd.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel_access.h"
#include "kselftest.h"
#include "vtl_util.h"

#define PAGE ((ssize_t)VTL_PAGE_SIZE)

static int proc_mem(void *page, void *copy, int is_write)
{
	int fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC), result = 0;
	ssize_t done;

	if (fd < 0)
		return -errno;
	done = is_write ? pwrite(fd, copy, VTL_PAGE_SIZE, (uintptr_t)page) :
			  pread(fd, copy, VTL_PAGE_SIZE, (uintptr_t)page);
	if (done < 0)
		result = -errno;
	else if (done != PAGE)
		result = -EIO;
	close(fd);
	return result;
}

static int proc_mem_read(void *page, void *copy)
{
	return proc_mem(page, copy, 0);
}

static int proc_mem_write(void *page, void *copy)
{
	return proc_mem(page, copy, 1);
}

static int vm_readv(void *page, void *copy)
{
	struct iovec here = { .iov_base = copy, .iov_len = VTL_PAGE_SIZE };
	struct iovec there = { .iov_base = page, .iov_len = VTL_PAGE_SIZE };
	ssize_t done = process_vm_readv(getpid(), &here, 1, &there, 1, 0);

	return done < 0 ? -errno : done == PAGE ? 0 : -EIO;
}

static int vm_writev(void *page, void *copy)
{
	struct iovec here = { .iov_base = copy, .iov_len = VTL_PAGE_SIZE };
	struct iovec there = { .iov_base = page, .iov_len = VTL_PAGE_SIZE };
	ssize_t done = process_vm_writev(getpid(), &here, 1, &there, 1, 0);

	return done < 0 ? -errno : done == PAGE ? 0 : -EIO;
}

/* The tracer is a child, which has not got the mapping. All words, both ways. */
static int trace(pid_t target, unsigned long *page, unsigned long *copy,
		 int is_write)
{
	size_t i;

	if (ptrace(PTRACE_SEIZE, target, NULL, NULL) ||
	    ptrace(PTRACE_INTERRUPT, target, NULL, NULL) ||
	    waitpid(target, NULL, __WALL) != target)
		return errno;
	for (i = 0; i < VTL_PAGE_SIZE / sizeof(*page); i++) {
		errno = 0;
		if (is_write)
			ptrace(PTRACE_POKEDATA, target, page + i, copy[i]);
		else
			copy[i] =
				ptrace(PTRACE_PEEKDATA, target, page + i, NULL);
		if (errno)
			return errno;
	}
	return 0;
}

static int by_tracer(void *page, void *copy, int is_write)
{
	pid_t target = syscall(SYS_gettid), child;
	void *shared = mmap(NULL, VTL_PAGE_SIZE, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int status;

	if (shared == MAP_FAILED)
		return -errno;
	memcpy(shared, copy, VTL_PAGE_SIZE);
	child = fork();
	if (!child)
		_exit(trace(target, page, shared, is_write));
	if (child < 0) {
		munmap(shared, VTL_PAGE_SIZE);
		return -errno;
	}
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	memcpy(copy, shared, VTL_PAGE_SIZE);
	munmap(shared, VTL_PAGE_SIZE);
	return WIFEXITED(status) ? -WEXITSTATUS(status) : -ECHILD;
}

static int peek(void *page, void *copy)
{
	return by_tracer(page, copy, 0);
}

static int poke(void *page, void *copy)
{
	return by_tracer(page, copy, 1);
}

int vtl_pipe_pin(void *page)
{
	struct iovec vector = { .iov_base = page, .iov_len = VTL_PAGE_SIZE };
	int ends[2], result = 0;

	if (pipe2(ends, O_CLOEXEC))
		return -errno;
	if (vmsplice(ends[1], &vector, 1, 0) != PAGE)
		result = -errno;
	close(ends[1]);
	if (!result)
		return ends[0];
	close(ends[0]);
	return result;
}

static int splice_out(void *page, void *copy)
{
	int end = vtl_pipe_pin(page), result;

	if (end < 0)
		return end;
	result = read(end, copy, VTL_PAGE_SIZE) == PAGE ? 0 : -EIO;
	close(end);
	return result;
}

static int plain_write(void *page, void *copy)
{
	int ends[2], result = 0;

	if (pipe(ends))
		return -errno;
	if (write(ends[1], page, VTL_PAGE_SIZE) != PAGE)
		result = -errno;
	else if (read(ends[0], copy, VTL_PAGE_SIZE) != PAGE)
		result = -EIO;
	close(ends[0]);
	close(ends[1]);
	return result;
}

static int plain_read(void *page, void *copy)
{
	int ends[2], result = 0;

	if (pipe(ends))
		return -errno;
	if (write(ends[1], copy, VTL_PAGE_SIZE) != PAGE)
		result = -EIO;
	else if (read(ends[0], page, VTL_PAGE_SIZE) != PAGE)
		result = -errno;
	close(ends[0]);
	close(ends[1]);
	return result;
}

/* From the page to the disk by direct I/O, back by the page cache; or reversed. */
static int disk(void *page, void *copy, int is_read)
{
	int buffered = vtl_open_ramdisk(O_RDWR | O_CLOEXEC), result = 0;
	int direct = vtl_open_ramdisk(O_RDWR | O_DIRECT | O_CLOEXEC);

	if (buffered < 0 || direct < 0)
		result = -ENODEV;
	else if (!is_read && pwrite(direct, page, VTL_PAGE_SIZE, 0) != PAGE)
		result = -errno;
	else if (!is_read && pread(buffered, copy, VTL_PAGE_SIZE, 0) != PAGE)
		result = -EIO;
	else if (is_read && (pwrite(buffered, copy, VTL_PAGE_SIZE, 0) != PAGE ||
			     fsync(buffered)))
		result = -EIO;
	else if (is_read && pread(direct, page, VTL_PAGE_SIZE, 0) != PAGE)
		result = -errno;
	close(buffered);
	close(direct);
	return result;
}

static int direct_write(void *page, void *copy)
{
	return disk(page, copy, 0);
}

static int direct_read(void *page, void *copy)
{
	return disk(page, copy, 1);
}

/* A futex in a shared mapping, for which both processes would wait. */
static int futex(void *page, void *copy)
{
	(void)copy;
	return syscall(SYS_futex, page, FUTEX_WAKE, 1, NULL, NULL, 0) < 0 ?
		       -errno :
		       0;
}

static int futex_of_process(void *page, void *copy)
{
	(void)copy;
	return syscall(SYS_futex, page, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0) <
			       0 ?
		       -errno :
		       0;
}

static int watch_faults(void *page, int mode, int features)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	struct uffdio_register range = {
		.range = { .start = (uintptr_t)page, .len = VTL_PAGE_SIZE },
		.mode = mode,
	};
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK), result = 0;

	if (fd < 0 || ioctl(fd, UFFDIO_API, &api) ||
	    ioctl(fd, UFFDIO_REGISTER, &range))
		result = -errno;
	close(fd);
	return result;
}

static int userfault_missing(void *page, void *copy)
{
	(void)copy;
	return watch_faults(page, UFFDIO_REGISTER_MODE_MISSING, 0);
}

#ifndef UFFD_FEATURE_WP_ASYNC
#define UFFD_FEATURE_WP_ASYNC (1 << 15)
#endif

static int userfault_write(void *page, void *copy)
{
	(void)copy;
	return watch_faults(page, UFFDIO_REGISTER_MODE_WP,
			    UFFD_FEATURE_WP_ASYNC);
}

static int lock(void *page, void *copy)
{
	(void)copy;
	if (mlock(page, VTL_PAGE_SIZE))
		return -errno;
	return munlock(page, VTL_PAGE_SIZE) ? -errno : 0;
}

static int which_node(void *page, void *copy)
{
	int node;

	(void)copy;
	/* MPOL_F_NODE | MPOL_F_ADDR */
	return syscall(SYS_get_mempolicy, &node, NULL, 0, page, 3) ? -errno : 0;
}

static int advise(void *page, int advice)
{
	return madvise(page, VTL_PAGE_SIZE, advice) ? -errno : 0;
}

static int populate(void *page, void *copy)
{
	(void)copy;
	return advise(page, 23 /* MADV_POPULATE_WRITE */);
}

static int page_out(void *page, void *copy)
{
	(void)copy;
	return advise(page, 21 /* MADV_PAGEOUT */);
}

static int collapse(void *page, void *copy)
{
	(void)copy;
	return advise(page, 25 /* MADV_COLLAPSE */);
}

static int poison(void *page, void *copy)
{
	(void)copy;
	return advise(page, 100 /* MADV_HWPOISON */);
}

static int inherit(void *page, void *copy)
{
	(void)copy;
	return advise(page, 11 /* MADV_DOFORK */);
}

static int dump(void *page, void *copy)
{
	(void)copy;
	return advise(page, 17 /* MADV_DODUMP */);
}

static int in_core(void *page, void *copy)
{
	return mincore(page, VTL_PAGE_SIZE, copy) ? -errno : 0;
}

static int where_is(void *page, void *copy)
{
	int node = -1;

	(void)copy;
	return syscall(SYS_move_pages, 0, 1, &page, NULL, &node, 0) ? -errno :
								      0;
}

static int read_all(const char *path, void *copy)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t done;

	if (fd < 0)
		return -errno;
	do {
		done = read(fd, copy, VTL_PAGE_SIZE);
	} while (done > 0);
	close(fd);
	return done < 0 ? -errno : 0;
}

static int proc_maps(void *page, void *copy)
{
	int result = read_all("/proc/self/smaps", copy);

	(void)page;
	return result ? result : read_all("/proc/self/numa_maps", copy);
}

static int proc_pagemap(void *page, void *copy)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC), result = 0;
	off_t at = (uintptr_t)page / VTL_PAGE_SIZE * sizeof(uint64_t);

	if (fd < 0)
		return -errno;
	if (pread(fd, copy, sizeof(uint64_t), at) != sizeof(uint64_t))
		result = -EIO;
	close(fd);
	return result;
}

/* References, then soft-dirty bits: what is written afterwards is noticed. */
static int clear_bits(void *page, void *copy)
{
	int fd = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
	int result = 0;

	(void)page;
	(void)copy;
	if (fd < 0)
		return -errno;
	if (write(fd, "1", 1) != 1 || write(fd, "4", 1) != 1)
		result = -errno;
	close(fd);
	return result;
}

const struct kernel_access kernel_accesses[] = {
	{ "pread of /proc/self/mem", ACCESS_READS, proc_mem_read, -EIO, 0, 0 },
	{ "pwrite of /proc/self/mem", ACCESS_WRITES, proc_mem_write, -EIO, 0,
	  0 },
	{ "ptrace PEEK", ACCESS_READS, peek, -EIO, 0, 1 },
	{ "ptrace POKE", ACCESS_WRITES, poke, -EIO, 0, 1 },
	{ "process_vm_readv", ACCESS_READS, vm_readv, -EFAULT, 0, 0 },
	{ "process_vm_writev", ACCESS_WRITES, vm_writev, -EFAULT, 0, 0 },
	{ "vmsplice", ACCESS_READS, splice_out, -EFAULT, 0, 0 },
	{ "write", ACCESS_READS, plain_write, 0, 0, 0 },
	{ "read", ACCESS_WRITES, plain_read, 0, 0, 0 },
	{ "O_DIRECT write", ACCESS_READS, direct_write, -EFAULT, 0, 0 },
	{ "O_DIRECT read", ACCESS_WRITES, direct_read, -EFAULT, 0, 0 },
	{ "io_uring fixed write", ACCESS_READS, vtl_uring_fixed_write, -EFAULT,
	  0, 0 },
	{ "io_uring fixed read", ACCESS_WRITES, vtl_uring_fixed_read, -EFAULT,
	  0, 0 },
	{ "io_uring write", ACCESS_READS, vtl_uring_plain_write, 0, 0, 0 },
	{ "futex", ACCESS_LOOKS, futex, -EFAULT, -EFAULT, 0 },
	{ "private futex", ACCESS_LOOKS, futex_of_process, 0, 0, 0 },
	{ "userfaultfd, missing", ACCESS_LOOKS, userfault_missing, -EINVAL,
	  -EINVAL, 0 },
	{ "userfaultfd, write", ACCESS_LOOKS, userfault_write, -EINVAL, -EINVAL,
	  0 },
	{ "mlock", ACCESS_LOOKS, lock, 0, 0, 0 },
	{ "get_mempolicy", ACCESS_LOOKS, which_node, -EFAULT, 0, 0 },
	{ "MADV_POPULATE_WRITE", ACCESS_LOOKS, populate, -EINVAL, 0, 0 },
	{ "MADV_PAGEOUT", ACCESS_LOOKS, page_out, -EINVAL, 0, 0 },
	{ "MADV_COLLAPSE", ACCESS_LOOKS, collapse, -EINVAL, -EINVAL, 0 },
	{ "MADV_HWPOISON", ACCESS_LOOKS, poison, -EFAULT, -EBUSY, 1 },
	{ "MADV_DOFORK", ACCESS_LOOKS, inherit, -EINVAL, -EINVAL, 0 },
	{ "MADV_DODUMP", ACCESS_LOOKS, dump, -EINVAL, -EINVAL, 0 },
	{ "mincore", ACCESS_LOOKS, in_core, 0, 0, 0 },
	{ "move_pages", ACCESS_LOOKS, where_is, 0, 0, 0 },
	{ "/proc/self/smaps, numa_maps", ACCESS_LOOKS, proc_maps, 0, 0, 1 },
	{ "/proc/self/pagemap", ACCESS_LOOKS, proc_pagemap, 0, 0, 0 },
	{ "/proc/self/clear_refs", ACCESS_LOOKS, clear_bits, 0, 0, 1 },
};

const size_t kernel_access_count = ARRAY_SIZE(kernel_accesses);
