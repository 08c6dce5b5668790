// SPDX-License-Identifier: GPL-2.0
/* A block device for tests of direct I/O: the kernel's own ramdisk. */
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vtl_util.h"

/* The ramdisk, loaded if need be; -1 where there is none. */
int vtl_open_ramdisk(int flags)
{
	const char *path = "/dev/ram0";
	int fd = open(path, flags), module;

	if (fd >= 0)
		return fd;
	module = open("/lib/brd.ko", O_RDONLY);
	if (module < 0)
		return -1;
	syscall(SYS_finit_module, module, "rd_nr=1 rd_size=8192", 0);
	close(module);
	return open(path, flags);
}
