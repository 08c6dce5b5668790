/* SPDX-License-Identifier: GPL-2.0 */
/* A reader of the attested log that believes nothing, see Documentation/audit-format.rst. */
#ifndef VTL_ATTESTED_H
#define VTL_ATTESTED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/mshv_vtl_tdx.h>

#include "sha2.h"
#include "vtl_util.h"

#define ATTESTED_CPUS 64
/* What the first event has after the heads; RTMR0 to 2 are its end. */
#define ATTESTED_OPEN_BYTES (128 + 3 * SHA384_BYTES)
#define ATTESTED_EVENT_BYTES \
	(256 + 64 * (ATTESTED_CPUS + 1) + ATTESTED_OPEN_BYTES)
#define ATTESTED_KIND_OPEN 1
#define ATTESTED_KIND_CHECKPOINT 2
#define ATTESTED_KIND_CLOSE 3
#define ATTESTED_ASKED 1
#define ATTESTED_FOREIGN 2
#define ATTESTED_LAST 4
#define ATTESTED_OFFLINE 1

/* Begin of an event. */
struct attested_event {
	char magic[8];
	uint16_t version, kind;
	uint32_t streams;
	uint64_t number, boot_ns, tsc;
	uint8_t session[16];
	uint32_t flags, index;
	uint8_t prev[SHA384_BYTES], seen[SHA384_BYTES];
	uint8_t reveal[SHA256_BYTES], commit[SHA256_BYTES], nonce[32];
};

struct attested_head {
	uint32_t id, flags;
	uint64_t next, lost, segments;
	uint8_t chain[SHA256_BYTES];
};

/* The rings of a stream; not mapped for a CPU that was never online. */
struct attested_stream {
	const volatile void *records;
	const volatile struct mshv_vtl_audit_leaf *leaves;
};

struct attested {
	int fd;
	uint32_t audit_records;
	struct mshv_vtl_audit_event state;
	struct attested_stream streams[ATTESTED_CPUS + 1];
	/* After the newest event, as the events make it. */
	uint8_t replayed[SHA384_BYTES];
	/* What is wrong. */
	char why[160];
};

int attested_state(int fd, struct mshv_vtl_audit_event *state);
int attested_read(int fd, uint64_t number, void *event, size_t size);
/* The number of the event, or the negative errno. */
int64_t attested_checkpoint(int fd, const void *nonce, unsigned int flags);
/* A register by TDG.VM.RD. */
int attested_register(int fd, unsigned int index, uint8_t *digest);

int attested_open(struct attested *log, int fd);
void attested_close(struct attested *log);
/* 0 if all events, the chains of all streams and the register agree. */
int attested_verify(struct attested *log);
/* What is wrong then; an empty text for nothing. */
const char *attested_verdict(struct attested *log);

/* The module with these parameters, a VTL file of it, and its log. Returns the file. */
int attested_load(struct attested *log, const char *parameters);
/* Ends both, and loads the module as it was. */
int attested_unload(struct attested *log);
/* A guest of exits, and the log of the module as it is loaded. */
int attested_start(struct attested *log, struct vtl_guest *guest);
/* Ends both, if they are there. */
void attested_stop(struct attested *log, struct vtl_guest *guest);

/* The modules for tests that break attestation are loaded. */
bool attested_has_helpers(void);
/* Somebody else extends a register. */
int attested_extend(unsigned int index);

#endif /* VTL_ATTESTED_H */
