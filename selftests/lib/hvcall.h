/* SPDX-License-Identifier: GPL-2.0 */
/* Hypercalls of a Hyper-V host, as the tests make them. */
#ifndef VTL_HVCALL_H
#define VTL_HVCALL_H

#include "vtl_util.h"

#define ENABLE_PARTITION_VTL 0x0d
#define ENABLE_VP_VTL 0x0f
#define GET_VP_REGISTERS 0x50
#define SET_VP_REGISTERS 0x51
#define POST_MESSAGE 0x5c
#define RETARGET_DEVICE_INTERRUPT 0x7e
#define MODIFY_HOST_VISIBILITY 0xdb
#define MODIFY_VTL_PROTECTION 0x0c
#define MMIO_READ 0x106
#define MMIO_WRITE 0x107
/* Allowed, and not offered by the emulated host. */
#define NO_SUCH_CALL 0x9a
#define REPS(count) ((uint64_t)(count) << 32)
#define DONE(count) ((uint64_t)(count) << 48)

#define VSM_CAPABILITIES 0xd0006
#define VSM_PARTITION_CONFIG 0xd0007
#define NO_SUCH_REGISTER 0x7fffffff
#define SINT2 0xa0002
#define SIFP 0xa0012
#define SIPP 0xa0013
#define VTL0 0x10

/* Header of the register calls, and what follows it. */
struct register_call {
	uint64_t partition;
	uint32_t vp;
	uint8_t vtl, zero[3];
	union {
		uint32_t names[4];
		struct {
			uint32_t name, zero[3];
			uint64_t value[2];
		} set[2];
	};
};

#define SELF { .partition = ~0ULL, .vp = 0xfffffffe }

struct visibility {
	uint64_t partition, visibility, pages[4];
};

/* Visibility of a page: the host may read and write it. */
#define FOR_HOST 3

int hvcall_allow(int fd, size_t size);
int hvcall(struct mshv_vtl_hvcall *call, int fd, uint64_t control,
	   const void *input, size_t input_size, void *output,
	   size_t output_size);
/*
 * Makes four pages visible to the host (FOR_HOST), or private again (0); @fd may call by
 * hvcall_allow(). Returns 0 or a negative errno.
 */
int hvcall_show_host(int fd, uint64_t gpa, uint64_t visibility);

#endif /* VTL_HVCALL_H */
