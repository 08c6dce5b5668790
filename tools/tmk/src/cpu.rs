// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The processor as L1 sees it: TDCALL, MSRs, the interrupt table, memory by address. What a TDX
//! module does not switch is in `leaky`.

// UNSAFETY: instructions, and memory shared with an L2. Processors share no memory except atomics,
// and what one of them passes to its own L2.
#![expect(unsafe_code)]

use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicU64, Ordering};

global_asm!(include_str!("start.S"), options(att_syntax));
global_asm!(include_str!("guest.S"), options(att_syntax));

/// Most processors this program has room for.
pub const CPUS: usize = 8;

/// General registers in the order of their numbers. RSP's place is not used.
pub type Registers = [u64; 16];

unsafe extern "C" {
    fn tmk_tdcall(registers: *mut u64);
    static tmk_l1_vectors: u8;
    static tmk_ap_start: u8;
    static tmk_ap_stack: u8;
    static tmk_image_start: u8;
    static tmk_image_end: u8;
}

pub mod leaky;

/// Executes TDCALL.
pub fn tdcall(registers: &mut Registers) {
    // SAFETY: start.S reads and writes the sixteen words and keeps what a callee has to keep. No
    // leaf is used that takes away memory of this program.
    unsafe { tmk_tdcall(registers.as_mut_ptr()) };
}

/// Pages of this program.
pub fn image() -> (u64, u64) {
    (
        &raw const tmk_image_start as u64,
        &raw const tmk_image_end as u64,
    )
}

/// Where another processor starts.
pub fn ap_start() -> u64 {
    &raw const tmk_ap_start as u64
}

/// Where it finds the address of its stack.
pub fn ap_stack() -> u64 {
    &raw const tmk_ap_stack as u64
}

/// Reads 8 bytes of memory.
pub fn peek(address: u64) -> u64 {
    // SAFETY: the tests pass addresses of this program's pages or of accepted memory, all of
    // which is identity mapped; no reference to it exists.
    unsafe { (address as *const u64).read_volatile() }
}

/// Writes 8 bytes of memory.
pub fn poke(address: u64, value: u64) {
    // SAFETY: as for `peek`; the tests write only into pages that are L2's or buffers.
    unsafe { (address as *mut u64).write_volatile(value) };
}

/// Reads 4 bytes of memory.
pub fn peek32(address: u64) -> u32 {
    // SAFETY: as for `peek`.
    unsafe { (address as *const u32).read_volatile() }
}

/// Writes 4 bytes of memory.
pub fn poke32(address: u64, value: u32) {
    // SAFETY: as for `poke`.
    unsafe { (address as *mut u32).write_volatile(value) };
}

/// RDMSR.
pub fn rdmsr(index: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reading has no effect; a refusal ends in the interrupt table, which reports it.
    unsafe { asm!("rdmsr", in("ecx") index, out("eax") low, out("edx") high, options(nostack)) };
    (u64::from(high) << 32) | u64::from(low)
}

/// WRMSR of a register that this program does not depend on.
pub fn wrmsr(index: u32, value: u64) {
    // CAST: halves.
    let (low, high) = (value as u32, (value >> 32) as u32);
    // SAFETY: the tests pass registers of the interrupt controller and of system calls, which
    // this program does not use.
    unsafe { asm!("wrmsr", in("ecx") index, in("eax") low, in("edx") high, options(nostack)) };
}

/// RDTSC.
pub fn rdtsc() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: no effect.
    unsafe { asm!("rdtsc", out("eax") low, out("edx") high, options(nostack, nomem)) };
    (u64::from(high) << 32) | u64::from(low)
}

/// Root of this program's page tables.
pub fn read_cr3() -> u64 {
    let value: u64;
    // SAFETY: no effect.
    unsafe { asm!("mov {}, cr3", out(reg) value, options(nostack, nomem)) };
    value & !0xfff
}

/// CPUID.
pub fn cpuid(leaf: u32, subleaf: u32) -> core::arch::x86_64::CpuidResult {
    // SAFETY: every 64-bit processor has CPUID.
    unsafe { core::arch::x86_64::__cpuid_count(leaf, subleaf) }
}

/// APIC id of this processor, which counts from 0.
pub fn index() -> usize {
    (cpuid(1, 0).ebx >> 24) as usize // CAST: eight bits
}

/// Lets pending interrupts in.
pub fn take_interrupts() {
    // SAFETY: the interrupt table has all vectors.
    unsafe { asm!("sti", "nop", "nop", "cli") };
}

/// Faults where no handler can be reached.
pub fn triple_fault() -> ! {
    let nowhere = [0u64; 2];
    // SAFETY: ends the machine.
    unsafe {
        asm!("lidt [{}]", "ud2", in(reg) nowhere.as_ptr(), options(readonly, nostack, noreturn));
    }
}

static IDT: [AtomicU64; 512] = [const { AtomicU64::new(0) }; 512];
static LAST_VECTORS: [AtomicU64; CPUS] = [const { AtomicU64::new(0) }; CPUS];
static TIMES_TAKEN: [[AtomicU64; 256]; CPUS] = [const { [const { AtomicU64::new(0) }; 256] }; CPUS];

/// The vector of the latest interrupt of this processor, 0 if there was none since the last call.
pub fn taken_vector() -> u64 {
    LAST_VECTORS[index()].swap(0, Ordering::SeqCst)
}

/// The two words of a 64-bit interrupt gate.
pub fn gate(handler: u64, selector: u64, dpl: u64) -> [u64; 2] {
    let low = (handler & 0xffff) | (selector << 16) | ((0x8e00 | (dpl << 13)) << 32);
    [low | (((handler >> 16) & 0xffff) << 48), handler >> 32]
}

/// Loads the interrupt table.
pub fn load_idt() {
    let vectors = &raw const tmk_l1_vectors as u64;
    for number in 0..256 {
        let words = gate(vectors + 16 * number as u64, 8, 0);
        IDT[2 * number].store(words[0], Ordering::SeqCst);
        IDT[2 * number + 1].store(words[1], Ordering::SeqCst);
    }
    let base = IDT.as_ptr() as u64;
    // 16 bits limit and 64 bits base.
    let pointer = [0x0fffu64 << 48, base];
    // SAFETY: the table is complete and never moves.
    unsafe { asm!("lidt [{}]", in(reg) pointer.as_ptr() as u64 + 6, options(readonly, nostack)) };
}

static VE_REASONS: [AtomicU64; CPUS] = [const { AtomicU64::new(0) }; CPUS];
/// The next #VE is a result, not a fault of this program.
const VE_WANTED: u64 = u64::MAX;

/// The reason of the #VE that an instruction raises, which is then stepped over; `None` without one.
pub fn catch_ve(instruction: impl FnOnce()) -> Option<u64> {
    let reason = &VE_REASONS[index()];
    reason.store(VE_WANTED, Ordering::SeqCst);
    instruction();
    let reason = reason.swap(0, Ordering::SeqCst);
    (reason != VE_WANTED).then_some(reason)
}

/// The same, with the category of the #VE in the upper half.
pub fn catch_ve_with_category(instruction: impl FnOnce()) -> Option<u64> {
    const VERSION_1: u64 = 1 << 16;
    VEINFO_VERSION.store(VERSION_1, Ordering::SeqCst);
    let reason = catch_ve(instruction);
    VEINFO_VERSION.store(0, Ordering::SeqCst);
    reason
}

static VEINFO_VERSION: AtomicU64 = AtomicU64::new(0);

/// Length of an instruction that may raise #GP, which is then stepped over; 0 without one.
static MAY_FAULT: [AtomicU64; CPUS] = [const { AtomicU64::new(0) }; CPUS];

/// Returns true if RDMSR raises #GP.
pub fn rdmsr_faults(index_of_msr: u32) -> bool {
    const LENGTH: u64 = 2;
    let may_fault = &MAY_FAULT[index()];
    may_fault.store(LENGTH, Ordering::SeqCst);
    rdmsr(index_of_msr);
    may_fault.swap(0, Ordering::SeqCst) == 0
}

/// How often a processor has handled a vector.
pub fn times_taken(cpu: usize, vector: u64) -> u64 {
    TIMES_TAKEN[cpu][vector as usize].load(Ordering::SeqCst) // CAST: below 256
}

#[unsafe(no_mangle)]
extern "C" fn tmk_event(vector: u64, error: u64, rip: &mut u64) {
    const X2APIC_EOI: u32 = 0x80b;
    const NMI: u64 = 2;
    const GP: u64 = 13;
    const VE: u64 = 20;
    let cpu = index();
    if vector == VE && VE_REASONS[cpu].load(Ordering::SeqCst) == VE_WANTED {
        // TDG.VP.VEINFO.GET: reason in RCX, length of the instruction in R10.
        let leaf = 3 | VEINFO_VERSION.load(Ordering::SeqCst);
        let info = crate::tdx::call(leaf, 0, 0, 0, 0);
        VE_REASONS[cpu].store(info[1], Ordering::SeqCst);
        *rip += info[10] & 0xffff_ffff;
        return;
    }
    if vector == GP && MAY_FAULT[cpu].load(Ordering::SeqCst) != 0 {
        *rip += MAY_FAULT[cpu].swap(0, Ordering::SeqCst);
        return;
    }
    assert!(
        vector >= 32 || vector == NMI,
        "L1 took exception {vector}, error code {error:#x}, at {rip:#x}"
    );
    LAST_VECTORS[cpu].store(vector, Ordering::SeqCst);
    // CAST: below 256.
    TIMES_TAKEN[cpu][vector as usize].fetch_add(1, Ordering::SeqCst);
    if vector != NMI {
        wrmsr(X2APIC_EOI, 0);
    }
}

/// Labels of guest.S.
pub mod guest {
    macro_rules! labels {
        ($($name:ident)+) => {$(
            #[doc = concat!("`", stringify!($name), "` of guest.S.")]
            pub fn $name() -> u64 {
                unsafe extern "C" { static $name: u8; }
                &raw const $name as u64
            }
        )+};
    }
    labels! {
        l2_real_mode l2_loop l2_gdt_pointer l2_tss_descriptor l2_vectors l2_idt
        l2_task l2_stack_top l2_pml4
        l2_nop l2_cpuid l2_sti l2_mov_ss l2_spin l2_hlt l2_ud l2_int3 l2_int80 l2_divide l2_trap_flag
        l2_invd l2_wbinvd l2_xsetbv l2_pause l2_rdtsc l2_rdpmc l2_monitor_mwait
        l2_tdcall l2_out l2_rep_outs l2_read_cr0 l2_write_cr0 l2_cr3 l2_read_cr4 l2_write_cr4
        l2_read_cr8 l2_write_cr8 l2_clts l2_lmsw l2_read_dr7 l2_write_dr0 l2_invlpg l2_sgdt
        l2_read_drs l2_write_drs l2_read_cr2 l2_write_cr2 l2_xgetbv l2_ymm
        l2_vmx l2_rdtscp l2_lgdt l2_lidt l2_str l2_lldt l2_ltr l2_far_return
        l2_sldt l2_rdmsr l2_wrmsr l2_read l2_write l2_jump l2_xmm l2_user l2_user_vmcall
    }
}
