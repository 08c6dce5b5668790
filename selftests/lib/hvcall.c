// SPDX-License-Identifier: GPL-2.0
/* Hypercalls through /dev/mshv_hvcall. */
#include <errno.h>
#include <sys/ioctl.h>

#include "hvcall.h"

/* Lists the calls of hvcall.h, one bit for each. */
int hvcall_allow(int fd, size_t size)
{
	unsigned char list[64] = { 0 };
	struct mshv_vtl_hvcall_setup setup = {
		.bitmap_array_size = size,
		.allow_bitmap_ptr = (uintptr_t)list,
	};
	static const unsigned int codes[] = {
		ENABLE_PARTITION_VTL,
		ENABLE_VP_VTL,
		GET_VP_REGISTERS,
		SET_VP_REGISTERS,
		NO_SUCH_CALL,
		RETARGET_DEVICE_INTERRUPT,
		MODIFY_HOST_VISIBILITY,
		MODIFY_VTL_PROTECTION,
		MMIO_READ,
		MMIO_WRITE,
		0,
	};
	const unsigned int *code;

	for (code = codes; *code; code++)
		list[*code / 8] |= 1 << *code % 8;
	return ioctl(fd, MSHV_HVCALL_SETUP, &setup);
}

int hvcall(struct mshv_vtl_hvcall *call, int fd, uint64_t control,
	   const void *input, size_t input_size, void *output,
	   size_t output_size)
{
	call->control = control;
	call->input_ptr = (uintptr_t)input;
	call->input_size = input_size;
	call->output_ptr = (uintptr_t)output;
	call->output_size = output_size;
	return ioctl(fd, MSHV_HVCALL, call);
}

int hvcall_show_host(int fd, uint64_t gpa, uint64_t visibility)
{
	struct visibility input = {
		.partition = ~0ULL,
		.visibility = visibility,
		.pages = { gpa / VTL_PAGE_SIZE, gpa / VTL_PAGE_SIZE + 1,
			   gpa / VTL_PAGE_SIZE + 2, gpa / VTL_PAGE_SIZE + 3 }
	};
	struct mshv_vtl_hvcall call = {};

	if (hvcall(&call, fd, MODIFY_HOST_VISIBILITY | REPS(4), &input,
		   sizeof(input), NULL, 0))
		return -errno;
	return call.status == REPS(4) ? 0 : -ENOMEM;
}
