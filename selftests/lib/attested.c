// SPDX-License-Identifier: GPL-2.0
/*
 * A reader of the attested log that believes nothing: it makes every hash itself, of
 * the records as long as they are there and of the leaves after that, and asks the TDX
 * module for the register.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <unistd.h>

#include "attested.h"

#define FIELD_RTMR(word) (0x1310000300000040ULL + (word))
#define REGISTER_WORDS 6
#define SEGMENT 64

#define EXTEND "/sys/kernel/debug/vtl_extend"

#define WRONG(log, ...) \
	(snprintf((log)->why, sizeof((log)->why), __VA_ARGS__), -1)

int attested_state(int fd, struct mshv_vtl_audit_event *state)
{
	memset(state, 0, sizeof(*state));
	state->head.size = sizeof(*state);
	return ioctl(fd, MSHV_VTL_AUDIT_EVENT, state) ? -errno : 0;
}

int attested_read(int fd, uint64_t number, void *event, size_t size)
{
	struct mshv_vtl_audit_event request = {
		.head.size = sizeof(request),
		.number = number,
		.buffer = (uintptr_t)event,
		.size = size,
	};

	if (ioctl(fd, MSHV_VTL_AUDIT_EVENT, &request))
		return -errno;
	return request.size;
}

int64_t attested_checkpoint(int fd, const void *nonce, unsigned int flags)
{
	struct mshv_vtl_audit_checkpoint request = {
		.head.size = sizeof(request),
		.flags = flags,
	};

	if (nonce)
		memcpy(request.nonce, nonce, sizeof(request.nonce));
	if (ioctl(fd, MSHV_VTL_AUDIT_CHECKPOINT, &request))
		return -errno;
	return request.number;
}

int attested_register(int fd, unsigned int index, uint8_t *digest)
{
	uint64_t word;
	int i;

	for (i = 0; i < REGISTER_WORDS; i++) {
		if (vtl_read_field(fd, TDG_VM_RD,
				   FIELD_RTMR(REGISTER_WORDS * index + i),
				   &word))
			return -1;
		memcpy(digest + 8 * i, &word, 8);
	}
	return 0;
}

static void *map(int fd, unsigned int kind, unsigned int cpu, size_t size)
{
	off_t offset =
		(off_t)MSHV_VTL_MMAP_PGOFF((uint64_t)kind, cpu) * VTL_PAGE_SIZE;
	void *at = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, offset);

	return at == MAP_FAILED ? NULL : at;
}

/* The rings of a stream, the control plane's after those of all CPUs. */
static void map_stream(struct attested *log, unsigned int stream)
{
	bool is_control = stream == log->state.streams - 1;
	struct attested_stream *to = &log->streams[stream];
	unsigned int cpu = is_control ? 0 : stream;

	to->records = map(log->fd,
			  is_control ? MSHV_VTL_MMAP_CONTROL_RING :
				       MSHV_VTL_MMAP_AUDIT_RING,
			  cpu, log->audit_records * 64UL);
	to->leaves = map(log->fd,
			 is_control ? MSHV_VTL_MMAP_CONTROL_LEAVES :
				      MSHV_VTL_MMAP_LEAVES,
			 cpu, log->state.leaves * 64UL);
}

int attested_open(struct attested *log, int fd)
{
	struct mshv_vtl_info info = { .head.size = sizeof(info) };
	int mshv = vtl_open(DEV_MSHV), result;
	unsigned int i;

	memset(log, 0, sizeof(*log));
	log->fd = fd;
	result = ioctl(mshv, MSHV_VTL_INFO, &info);
	close(mshv);
	if (result || attested_state(fd, &log->state) ||
	    log->state.streams != info.num_cpus + 1 ||
	    log->state.streams > ATTESTED_CPUS + 1)
		return WRONG(log, "no log, or too many streams");
	log->audit_records = info.audit_records;
	for (i = 0; i < log->state.streams; i++)
		map_stream(log, i);
	return 0;
}

void attested_close(struct attested *log)
{
	unsigned int i;

	for (i = 0; i < log->state.streams; i++) {
		struct attested_stream *stream = &log->streams[i];

		if (stream->records)
			munmap((void *)stream->records,
			       log->audit_records * 64UL);
		if (stream->leaves)
			munmap((void *)stream->leaves,
			       log->state.leaves * 64UL);
	}
}

/*
 * Takes the leaf of a segment from the ring of leaves, and compares it with the records
 * if all of them are there still.
 */
static int take_leaf(struct attested *log, unsigned int index,
		     const struct attested_head *head, uint64_t first,
		     uint32_t count, uint8_t *hash)
{
	const struct attested_stream *stream = &log->streams[index];
	struct mshv_vtl_audit_leaf leaf;
	uint64_t segment = head->segments + 1;
	uint8_t records[SEGMENT][64], own[SHA256_BYTES];
	uint32_t i;

	if (!stream->leaves || !stream->records)
		return WRONG(log, "stream %u has records and no rings",
			     head->id);
	memcpy(&leaf,
	       (const void *)&stream->leaves[segment % log->state.leaves],
	       sizeof(leaf));
	if (leaf.segment != segment || leaf.first != first ||
	    leaf.count != count || leaf.stream != head->id || leaf.reserved)
		return WRONG(log,
			     "stream %u: leaf %llu from %llu is %llu from %llu",
			     head->id, (unsigned long long)segment,
			     (unsigned long long)first,
			     (unsigned long long)leaf.segment,
			     (unsigned long long)leaf.first);
	memcpy(hash, leaf.leaf, SHA256_BYTES);
	for (i = 0; i < count; i++) {
		uint64_t slot = (first + i) % log->audit_records;
		uint64_t sequence;

		memcpy(records[i], (const uint8_t *)stream->records + 64 * slot,
		       64);
		memcpy(&sequence, records[i], sizeof(sequence));
		if (sequence != first + i)
			return 0; /* overwritten */
	}
	sha256(records, 64UL * count, own);
	if (memcmp(own, hash, sizeof(own)))
		return WRONG(log, "stream %u: the leaf is not that of %llu",
			     head->id, (unsigned long long)first);
	return 0;
}

/* Goes on from one head of a stream to the next, segment by segment. */
static int follow(struct attested *log, unsigned int index,
		  struct attested_head *head, const struct attested_head *to)
{
	uint8_t link[96];

	while (head->next < to->next) {
		uint64_t first = head->next, last = first | (SEGMENT - 1);
		uint32_t count;

		if (last > to->next - 1)
			last = to->next - 1;
		count = last - first + 1;
		memset(link, 0, sizeof(link));
		memcpy(link, "VTLAUDIT-CHAIN", 14);
		memcpy(link + 16, &head->id, 4);
		memcpy(link + 20, &count, 4);
		memcpy(link + 24, &first, 8);
		memcpy(link + 32, head->chain, SHA256_BYTES);
		if (take_leaf(log, index, head, first, count, link + 64))
			return -1;
		sha256(link, sizeof(link), head->chain);
		head->next = last + 1;
		head->segments++;
	}
	if (head->next != to->next || head->segments != to->segments ||
	    to->lost || memcmp(head->chain, to->chain, SHA256_BYTES))
		return WRONG(log, "stream %u: another chain at record %llu",
			     head->id, (unsigned long long)to->next);
	return 0;
}

static int check_event(struct attested *log, const struct attested_event *event,
		       const struct attested_event *before, int size)
{
	size_t wanted = sizeof(*event) + 64UL * log->state.streams +
			(before ? 0 : ATTESTED_OPEN_BYTES);
	uint8_t input[48] = "VTLAUDIT-COMMIT", commit[SHA256_BYTES];
	unsigned long long number = event->number;

	if (size != (int)wanted || memcmp(event->magic, "VTLATEVT", 8) ||
	    event->version != 1 || event->streams != log->state.streams ||
	    event->index != log->state.rtmr)
		return WRONG(log, "event %llu is none", number);
	if (event->kind == ATTESTED_KIND_OPEN ? before != NULL : !before)
		return WRONG(log, "event %llu has kind %u", number,
			     event->kind);
	if (memcmp(event->prev, log->replayed, sizeof(log->replayed)) ||
	    memcmp(event->prev, event->seen, sizeof(event->seen)))
		return WRONG(log, "event %llu: another register", number);
	if (!before)
		return 0;
	memcpy(input + 16, event->reveal, SHA256_BYTES);
	sha256(input, sizeof(input), commit);
	if (memcmp(commit, before->commit, sizeof(commit)))
		return WRONG(log, "event %llu: another secret", number);
	if (memcmp(event->session, before->session, sizeof(event->session)) ||
	    event->number != before->number + 1 ||
	    before->flags & ATTESTED_LAST)
		return WRONG(log, "event %llu does not follow", number);
	return 0;
}

static int check_events(struct attested *log, struct attested_head *heads)
{
	static _Alignas(8) uint8_t bytes[ATTESTED_EVENT_BYTES];
	const struct attested_event *event = (const void *)bytes;
	const struct attested_head *to = (const void *)(bytes + sizeof(*event));
	struct attested_event before;
	uint8_t extended[2 * SHA384_BYTES];
	uint64_t number;
	unsigned int i;
	int size;

	for (number = 0; number < log->state.next; number++) {
		size = attested_read(log->fd, number, bytes, sizeof(bytes));
		if (size < 0)
			return WRONG(log, "event %llu: %s",
				     (unsigned long long)number,
				     strerror(-size));
		if (!number)
			memcpy(log->replayed, event->seen,
			       sizeof(log->replayed));
		if (check_event(log, event, number ? &before : NULL, size))
			return -1;
		for (i = 0; i < log->state.streams; i++) {
			if (heads[i].id != to[i].id)
				return WRONG(log, "stream %u has id %u", i,
					     to[i].id);
			if (follow(log, i, &heads[i], &to[i]))
				return -1;
		}
		memcpy(extended, log->replayed, SHA384_BYTES);
		sha384(bytes, size, extended + SHA384_BYTES);
		sha384(extended, sizeof(extended), log->replayed);
		before = *event;
	}
	return 0;
}

int attested_verify(struct attested *log)
{
	struct attested_head heads[ATTESTED_CPUS + 1] = {};
	uint8_t real[SHA384_BYTES];
	unsigned int i;

	if (attested_state(log->fd, &log->state))
		return WRONG(log, "no state");
	for (i = 0; i < log->state.streams; i++) {
		heads[i].id = i == log->state.streams - 1 ?
				      MSHV_VTL_CONTROL_STREAM :
				      i;
		heads[i].next = 1;
		if (!log->streams[i].leaves)
			map_stream(log, i); /* it may have come online */
	}
	if (check_events(log, heads))
		return -1;
	if (attested_register(log->fd, log->state.rtmr, real))
		return WRONG(log, "the register can't be read");
	if (memcmp(real, log->replayed, sizeof(real)))
		return WRONG(log, "the register holds something else");
	return 0;
}

const char *attested_verdict(struct attested *log)
{
	return attested_verify(log) ? log->why : "";
}

int attested_load(struct attested *log, const char *parameters)
{
	int fd;

	memset(log, 0, sizeof(*log));
	if (vtl_unload_module(0) || vtl_load_module_with(parameters))
		return WRONG(log, "the module can't be loaded anew");
	fd = vtl_create();
	if (fd < 0)
		return WRONG(log, "no VTL file");
	return attested_open(log, fd) ? -1 : fd;
}

int attested_unload(struct attested *log)
{
	attested_close(log);
	close(log->fd);
	vtl_unload_module(0);
	return vtl_load_module();
}

int attested_start(struct attested *log, struct vtl_guest *guest)
{
	memset(log, 0, sizeof(*log));
	if (vtl_guest_open(guest, 0) ||
	    vtl_guest_load(guest, vtl_guest_exits, vtl_guest_exits_end))
		return WRONG(log, "%s", guest->why);
	return attested_open(log, guest->fd);
}

void attested_stop(struct attested *log, struct vtl_guest *guest)
{
	if (!log->state.streams)
		return;
	attested_close(log);
	vtl_guest_close(guest);
	log->state.streams = 0;
}

bool attested_has_helpers(void)
{
	/* Mounted already, most often. */
	mount("debugfs", "/sys/kernel/debug", "debugfs", 0, NULL);
	return !vtl_load_helper("vtl_extend") &&
	       !vtl_load_helper("vtl_debug_port") && !access(EXTEND, F_OK);
}

int attested_extend(unsigned int index)
{
	char text = '0' + index;
	int fd = open(EXTEND, O_WRONLY), result;

	if (fd < 0)
		return -errno;
	result = write(fd, &text, 1) == 1 ? 0 : -errno;
	close(fd);
	return result;
}
