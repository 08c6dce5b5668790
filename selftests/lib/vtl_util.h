/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the tests share: opening and mapping the devices, TDCALLs, and a small
 * guest at VTL0 in 32-bit protected mode.
 */
#ifndef VTL_UTIL_H
#define VTL_UTIL_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/mshv_vtl_tdx.h>

#define DEV_MSHV "/dev/mshv"
#define DEV_MSHV_VTL "/dev/mshv_vtl"
#define DEV_MSHV_VTL_LOW "/dev/mshv_vtl_low"
#define DEV_MSHV_HVCALL "/dev/mshv_hvcall"
#define DEV_MSHV_SINT "/dev/mshv_sint"

#define VTL_PAGE_SIZE 4096UL
#define VTL_LARGE_SIZE (2UL << 20)
#define VTL_HUGE_SIZE (1UL << 30)

/* TDCALL leaves. */
#define TDG_MEM_PAGE_ACCEPT 6
#define TDG_VM_RD 7
#define TDG_VM_WR 8
#define TDG_VP_RD 9
#define TDG_VP_WR 10
#define TDG_SYS_RD 11
#define TDG_MEM_PAGE_ATTR_RD 23
#define TDG_MEM_PAGE_ATTR_WR 24
#define TDG_VP_ENTER 25
#define TDG_VP_INVGLA 27
#define TDG_MEM_PAGE_RELEASE 30

/* Upper half of a completion status. */
#define TDX_SUCCESS 0x00000000U
#define TDX_OPERAND_INVALID 0xc0000100U
#define TDX_OPERAND_BUSY 0x80000200U
#define TDX_PAGE_ALREADY_ACCEPTED 0x00000b0aU
#define TDX_PAGE_SIZE_MISMATCH 0xc0000b0bU
#define TDX_L2_EXIT_HOST_ROUTED_ASYNC 0x00001100U
#define TDX_L2_EXIT_PENDING_INTERRUPT 0x00001102U
#define TDX_PENDING_INTERRUPT 0x00001120U
#define TDX_L2_EXIT_HOST_ROUTED_ASYNC 0x00001100U

/* Metadata fields. */
#define FIELD_NUM_L2_VMS 0x9010000100000005ULL
#define FIELD_NUM_VCPUS 0x9010000200000001ULL
#define FIELD_NOTIFY_ENABLES 0x9110000300000010ULL
#define FIELD_TD_CTLS 0x1110000300000017ULL
#define FIELD_TDX_FEATURES0 0x0a00000300000008ULL
#define FIELD_L2_CTLS(vm) (0xa020000300000050ULL + (vm))
#define FIELD_TSC_DEADLINE(vm) (0xa020000300000058ULL + (vm))
#define FIELD_MSR_BITMAP(word) (0x2520000300000000ULL + (word))
/* Which of its words an MSR is in: bit MSR % 64. */
#define MSR_BITMAP_WORD(msr, is_write) \
	(((msr) & 0x1fff) / 64 + ((msr) >> 31) * 128 + (is_write) * 256)
/* Fields of the L2 VMCS of VM 1, by size and VMCS encoding. */
#define VMCS16(encoding) (0x2424000100000000ULL + (encoding))
#define VMCS32(encoding) (0x2424000200000000ULL + (encoding))
#define VMCS64(encoding) (0x2424000300000000ULL + (encoding))
#define VMCS_VIRTUAL_APIC_PAGE VMCS64(0x2012)
#define VMCS_GUEST_CR3 VMCS64(0x6802)

/* Basic exit reasons. */
#define EXIT_TRIPLE_FAULT 2
#define EXIT_CPUID 10
#define EXIT_HLT 12
#define EXIT_VMCALL 18
#define EXIT_MOV_DR 29
#define EXIT_IO 30
#define EXIT_RDMSR 31
#define EXIT_WRMSR 32
#define EXIT_EPT_VIOLATION 48

/* Rights of VM 1 on a page. */
#define RIGHT_READ 1
#define RIGHT_WRITE 2
#define RIGHT_EXECUTE 12
#define RIGHTS_ALL (RIGHT_READ | RIGHT_WRITE | RIGHT_EXECUTE)

/* Order of the general registers. */
enum vtl_gpr { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R15 = 15 };

/* A guest of the tests, see lib/guests.S. */
#define DECLARE_GUEST(name) extern const unsigned char name[], name##_end[]
DECLARE_GUEST(vtl_guest_exits);
DECLARE_GUEST(vtl_guest_spin);
DECLARE_GUEST(vtl_guest_registers);
DECLARE_GUEST(vtl_guest_fpu);
DECLARE_GUEST(vtl_guest_debug);
DECLARE_GUEST(vtl_guest_xcr0);
DECLARE_GUEST(vtl_guest_store);
DECLARE_GUEST(vtl_guest_read);
DECLARE_GUEST(vtl_guest_jump);
DECLARE_GUEST(vtl_guest_count);
DECLARE_GUEST(vtl_guest_checksum);
DECLARE_GUEST(vtl_guest_patterns);
DECLARE_GUEST(vtl_guest_ymm);
DECLARE_GUEST(vtl_guest_msrs);
DECLARE_GUEST(vtl_guest_hidden);
DECLARE_GUEST(vtl_guest_undefined);
DECLARE_GUEST(vtl_guest_step);
extern const unsigned char vtl_guest_step_at[], vtl_guest_step_trap[];
DECLARE_GUEST(vtl_guest_swapgs);

/* A virtual processor with a guest, before its first instruction. */
struct vtl_guest {
	int fd;
	int cpu;
	int vm; /* 1, unless vtl_guest_use_vm() says otherwise */
	volatile struct mshv_vtl_run *run;
	uint64_t base; /* VTL0's memory; the guest's code is at its start */
	uint64_t size;
	char why[160]; /* the reason, after a call that returned -1 */
};

int vtl_open(const char *path);
int vtl_create(void);
/* Memory of the lower VTLs, as stated. */
struct vtl_range {
	uint64_t start, size;
};

int vtl_memory_ranges(struct vtl_range *ranges, int most);
bool vtl_memory(uint64_t *base, uint64_t *size);
bool vtl_middle_memory(uint64_t *gpa);
bool vtl_huge_memory(uint64_t *gpa);
/* A page of this kernel's own memory. */
bool vtl_system_ram(uint64_t *gpa);
/* The first page of its code. */
bool vtl_kernel_text(uint64_t *gpa);
/* A page that the firmware's memory map says to keep away from. */
bool vtl_unusable_memory(uint64_t *gpa);
void *vtl_map_page(int fd, unsigned int kind, unsigned int cpu);
void *vtl_map_low(uint64_t gpa, size_t size);
/* At an address that is equal to @gpa modulo 1 GiB. */
void *vtl_map_low_large(uint64_t gpa, size_t size);
/* MSHV_ADD_VTL0_MEMORY of whole pieces of 2 MiB: 0 or the negative errno. */
int vtl_register(int fd, uint64_t gpa, uint64_t size);
/*
 * Returns true if a page can be pinned because it is still registered. Waits
 * for what the kernel releases with a delay.
 */
bool vtl_stays_registered(uint64_t gpa);
/* The first page that /proc/iomem names so. */
bool vtl_memory_named(const char *name, uint64_t *gpa);
/* A line of the kernel's log that says that something is wrong, printed, or NULL. */
const char *vtl_kernel_complaint(void);
int vtl_pin(int cpu);
/* The next one of random numbers that are the same each time. */
uint64_t vtl_roll(uint64_t *dice);
/* A number from the environment. */
unsigned long vtl_setting(const char *name, unsigned long otherwise);
/* Of a clock that never goes back. */
uint64_t vtl_now_ms(void);
/* From now on SIGALRM interrupts a call, and does nothing else. */
int vtl_catch_alarms(void);
/* Has one come after so many milliseconds; 0: no more. */
void vtl_alarm_ms(unsigned int ms);
/* Has them come until the next call: the first one may be too early for a run. */
void vtl_alarm_every_ms(unsigned int ms);
int vtl_thread_on(pthread_t *thread, int cpu, void *(*run)(void *argument),
		  void *argument);
int vtl_thread_anywhere(pthread_t *thread, void *(*run)(void *argument),
			void *argument);
long vtl_times_slept(void);
/* Prints where each thread of a process is in the kernel, then kills it. */
void vtl_name_and_kill(pid_t pid);
bool vtl_is_noexec(const char *path);

int vtl_tdcall(int fd, struct mshv_tdcall *call);
uint32_t vtl_status(const struct mshv_tdcall *call);
int vtl_read_field(int fd, uint64_t leaf, uint64_t id, uint64_t *value);
int vtl_accept(int fd, uint64_t base, uint64_t size);
int vtl_set_rights(int fd, uint64_t base, uint64_t size, unsigned int rights);
int vtl_set_rights_of(int fd, int vm, uint64_t base, uint64_t size,
		      unsigned int rights);
/* The module itself: 0 or the negative errno. */
int vtl_load_module(void);
int vtl_load_module_with(const char *parameters);
int vtl_unload_module(int flags);
/* A module for tests, which may be loaded already: 0 or the negative errno. */
int vtl_load_helper(const char *name);
/* Drivers of the kernel, loaded if necessary; -1 if there is none. */
int vtl_open_ramdisk(int flags);
int vtl_open_msrs(int cpu);

int vtl_guest_open(struct vtl_guest *guest, int cpu);
int vtl_guest_use_vm(struct vtl_guest *guest, int vm);
int vtl_guest_give_apic_page(struct vtl_guest *guest);
uint64_t vtl_guest_field(const struct vtl_guest *guest, uint64_t id);
int vtl_guest_write_field(struct vtl_guest *guest, uint64_t id, uint64_t value,
			  uint64_t mask);
int vtl_guest_load(struct vtl_guest *guest, const unsigned char *code,
		   const unsigned char *end);
int vtl_guest_start(struct vtl_guest *guest);
void vtl_guest_close(struct vtl_guest *guest);
int vtl_enter(struct vtl_guest *guest);
/* MSHV_KICK_CPUS of the guest's CPU: 0 or the negative errno. */
int vtl_kick(const struct vtl_guest *guest, uint64_t flags);
int vtl_run(struct vtl_guest *guest);
unsigned int vtl_exit_reason(const struct vtl_guest *guest);
void vtl_step_over(struct vtl_guest *guest);

#endif /* VTL_UTIL_H */
