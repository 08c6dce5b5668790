/* SPDX-License-Identifier: GPL-2.0 */
/* Reads the records that the audit ring of a VP gets from some moment on. */
#ifndef AUDIT_LOG_H
#define AUDIT_LOG_H

#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vtl_util.h"

struct audit_log {
	volatile struct mshv_vtl_audit_record *ring;
	uint32_t records;
	uint64_t last; /* number of the record that was read last */
};

/* What follows is new. */
static inline void audit_skip(struct audit_log *log)
{
	uint32_t i;

	for (i = 0; i < log->records; i++)
		if (log->ring[i].sequence > log->last)
			log->last = log->ring[i].sequence;
}

static inline int audit_open(struct audit_log *log, int fd, int cpu)
{
	struct mshv_vtl_info info = { .head.size = sizeof(info) };
	int mshv = vtl_open(DEV_MSHV);

	if (mshv < 0 || ioctl(mshv, MSHV_VTL_INFO, &info))
		return -1;
	close(mshv);
	*log = (struct audit_log){ .records = info.audit_records };
	log->ring =
		mmap(NULL, log->records * sizeof(*log->ring), PROT_READ,
		     MAP_SHARED, fd,
		     (off_t)MSHV_VTL_MMAP_PGOFF(MSHV_VTL_MMAP_AUDIT_RING, cpu) *
			     VTL_PAGE_SIZE);
	if (log->ring == MAP_FAILED)
		return -1;
	audit_skip(log);
	return 0;
}

/* The next record, while the VP does not run; NULL if there is none. */
static inline const volatile struct mshv_vtl_audit_record *
audit_next(struct audit_log *log)
{
	const volatile struct mshv_vtl_audit_record *record =
		&log->ring[(log->last + 1) % log->records];

	if (record->sequence != log->last + 1)
		return NULL;
	log->last++;
	return record;
}

static inline void audit_close(struct audit_log *log)
{
	munmap((void *)log->ring, log->records * sizeof(*log->ring));
}

#endif /* AUDIT_LOG_H */
