// SPDX-License-Identifier: GPL-2.0
/*
 * The module, and drivers of the kernel that tests need and its image does not
 * contain.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vtl_util.h"

#define NAME "mshv_vtl_tdx"

static int open_with(const char *path, int flags, const char *driver,
		     const char *options)
{
	int fd = open(path, flags), module;

	if (fd >= 0)
		return fd;
	module = open(driver, O_RDONLY);
	if (module < 0)
		return -1;
	syscall(SYS_finit_module, module, options, 0);
	close(module);
	return open(path, flags);
}

int vtl_unload_module(int flags)
{
	return syscall(SYS_delete_module, NAME, O_NONBLOCK | flags) ? -errno :
								      0;
}

int vtl_load_module_with(const char *parameters)
{
	int file = open("/lib/" NAME ".ko", O_RDONLY | O_CLOEXEC), result = 0;

	if (file < 0)
		return -errno;
	if (syscall(SYS_finit_module, file, parameters, 0))
		result = -errno;
	close(file);
	return result;
}

int vtl_load_module(void)
{
	return vtl_load_module_with("");
}

int vtl_load_helper(const char *name)
{
	char path[64];
	int file, result = 0;

	snprintf(path, sizeof(path), "/lib/%s.ko", name);
	file = open(path, O_RDONLY | O_CLOEXEC);
	if (file < 0)
		return -errno;
	if (syscall(SYS_finit_module, file, "", 0) && errno != EEXIST)
		result = -errno;
	close(file);
	return result;
}

int vtl_open_ramdisk(int flags)
{
	return open_with("/dev/ram0", flags, "/lib/brd.ko",
			 "rd_nr=1 rd_size=8192");
}

int vtl_open_msrs(int cpu)
{
	char path[32];

	snprintf(path, sizeof(path), "/dev/cpu/%d/msr", cpu);
	return open_with(path, O_RDWR, "/lib/msr.ko", "allow_writes=on");
}
