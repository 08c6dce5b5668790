// SPDX-License-Identifier: GPL-2.0
/*
 * kexec_into KERNEL INITRAMFS COMMAND_LINE: starts another kernel in this TD, while a
 * lower VTL runs on each CPU and its paravisor does all it can to enter again. VM 2
 * has a virtual APIC page, in memory that the next kernel will use. No test: see
 * scripts/init.
 */
#include <fcntl.h>
#include <linux/reboot.h>
#include <stdio.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vtl_util.h"

static void *never_leave(void *argument)
{
	int cpu = *(int *)argument;
	struct vtl_guest guest;

	if (vtl_guest_open(&guest, cpu) ||
	    vtl_guest_load(&guest, vtl_guest_spin, vtl_guest_spin_end)) {
		fprintf(stderr, "kexec_into: CPU %d: %s\n", cpu, guest.why);
		return NULL;
	}
	for (;;) {
		guest.run->cancel = 0;
		vtl_enter(&guest);
	}
}

static int give_apic_page(void)
{
	static struct vtl_guest guest;

	return vtl_guest_open(&guest, 0) || vtl_guest_use_vm(&guest, 2) ||
	       vtl_guest_give_apic_page(&guest);
}

int main(int argc, char **argv)
{
	static int cpus[] = { 0, 1 };
	pthread_t threads[2];
	long online = sysconf(_SC_NPROCESSORS_ONLN);
	int kernel, initramfs, i;

	if (argc != 4)
		return 2;
	kernel = open(argv[1], O_RDONLY);
	initramfs = open(argv[2], O_RDONLY);
	if (syscall(SYS_kexec_file_load, kernel, initramfs, strlen(argv[3]) + 1,
		    argv[3], 0)) {
		perror("kexec_into: kexec_file_load");
		return 1;
	}
	if (give_apic_page()) {
		fprintf(stderr, "kexec_into: no APIC page for VM 2\n");
		return 1;
	}
	for (i = 0; i < 2 && i < online; i++)
		if (vtl_thread_on(&threads[i], cpus[i], never_leave, &cpus[i]))
			return 1;
	usleep(200000);
	reboot(LINUX_REBOOT_CMD_KEXEC);
	perror("kexec_into: reboot");
	return 1;
}
