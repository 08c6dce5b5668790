// SPDX-License-Identifier: GPL-2.0
//! Safe functions over what the kernel has no Rust abstraction for.

// UNSAFETY: FFI calls; each wrapper leaves its caller nothing to promise.
#![allow(unsafe_code)]

use core::ptr::NonNull;

use kernel::bindings;
use kernel::error::to_result;
use kernel::mm::virt::VmaNew;
use kernel::page::Page;
use kernel::prelude::*;

use crate::glue::abi::{self, safe_in_c};

// They look at the caller, the processor or a clock, let others run, or walk the resource tree under
// its lock, and take any number there is.
safe_in_c! {
    fn vtl_is_bound_to_cpu() -> bool;
    fn vtl_is_system_ram(start: u64, len_bytes: u64) -> bool;
    fn vtl_without_shared(gpa: u64) -> u64;
    fn vtl_event_allowed(kind: u32) -> bool;
    fn vtl_apic_id(cpu: u32) -> u32;
    fn vtl_tsc_khz() -> u32;
    fn vtl_need_resched() -> bool;
    fn vtl_has_guest_work() -> bool;
    fn vtl_relax();
    fn vtl_clock_ns() -> u64;
    fn vtl_relax_or_yield() -> bool;
}

/// Result of CPUID.
pub(crate) struct Cpuid {
    pub(crate) eax: u32,
    pub(crate) ebx: u32,
    pub(crate) ecx: u32,
    pub(crate) edx: u32,
}

/// Executes CPUID.
pub(crate) fn cpuid(leaf: u32, subleaf: u32) -> Cpuid {
    // SAFETY: x86-64 always has CPUID; unknown leaves return some value.
    let result = unsafe { core::arch::x86_64::__cpuid_count(leaf, subleaf) };
    Cpuid {
        eax: result.eax,
        ebx: result.ebx,
        ecx: result.ecx,
        edx: result.edx,
    }
}

/// The address of a page by its private alias.
pub(crate) fn without_shared(gpa: u64) -> u64 {
    vtl_without_shared(gpa)
}

/// The time-stamp counter.
pub(crate) fn tsc() -> u64 {
    // SAFETY: x86-64 always has RDTSC, and the kernel may execute it.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Frequency of the time-stamp counter.
pub(crate) fn tsc_khz() -> u32 {
    vtl_tsc_khz()
}

/// Number of the current thread.
pub(crate) fn thread() -> u32 {
    kernel::current!().pid() as u32 // CAST: never negative
}

/// Number of the current process.
pub(crate) fn process() -> u32 {
    kernel::current!().tgid() as u32 // CAST: never negative
}

/// Whether an event of a kind may be logged now, or there have been too many.
pub(crate) fn is_event_allowed(kind: u32) -> bool {
    vtl_event_allowed(kind)
}

/// Gives a text to the kernel's audit subsystem, or to its log.
pub(crate) fn log_event(text: &CStr) {
    // SAFETY: The text ends with a NUL and is only read during the call; in a task that may sleep.
    unsafe { abi::vtl_event_log(text.as_char_ptr()) }
}

/// x2APIC ID of a CPU that can exist; for another number, an ID that no CPU has.
pub(crate) fn apic_id(cpu: u32) -> u32 {
    vtl_apic_id(cpu)
}

/// Whether the current task has CAP_SYS_ADMIN.
pub(crate) fn has_cap_sys_admin() -> bool {
    // SAFETY: No requirement.
    unsafe { bindings::capable(bindings::CAP_SYS_ADMIN as c_int) } // CAST: 21
}

/// Does what the task has to do before it may enter a guest: signals, rescheduling, task work.
///
/// # Errors
///
/// EINTR when a signal is pending.
pub(crate) fn handle_guest_work() -> Result {
    // SAFETY: In an ioctl, with interrupts and preemption on: `run.rs` holds no guard that turns
    // either off across this call.
    to_result(unsafe { abi::xfer_to_guest_mode_handle_work() })
}

/// Returns true if the task has such work now.
pub(crate) fn has_guest_work() -> bool {
    vtl_has_guest_work()
}

/// Whether another task wants the CPU.
pub(crate) fn need_resched() -> bool {
    vtl_need_resched()
}

/// Leaves the core to its other thread for a moment.
pub(crate) fn relax() {
    vtl_relax()
}

/// A clock that goes on steadily as long as the task stays on its CPU; between two CPUs it may jump.
pub(crate) fn clock_ns() -> u64 {
    vtl_clock_ns()
}

/// One turn of a loop that waits for another CPU.
///
/// # Errors
///
/// EINTR when the task was killed.
pub(crate) fn relax_or_yield() -> Result {
    if vtl_relax_or_yield() {
        Ok(())
    } else {
        Err(EINTR)
    }
}

/// Whether the current thread can run on one CPU only.
pub(crate) fn is_bound_to_cpu() -> bool {
    vtl_is_bound_to_cpu()
}

/// Calls a function on a CPU, with interrupts off, and waits for it. `None` when it is offline.
pub(crate) fn on_cpu<T>(cpu: u32, function: &(impl Fn() -> T + Sync)) -> Option<T> {
    let mut answer = None;
    let mut call = || answer = Some(function());
    call_on_cpu(cpu, &mut call);
    answer
}

fn call_on_cpu<F: FnMut()>(cpu: u32, function: &mut F) {
    extern "C" fn trampoline<F: FnMut()>(function: *mut c_void) {
        // SAFETY: The pointer is the one given below, exclusively borrowed until the call is over.
        unsafe { (*function.cast::<F>())() }
    }
    let function = core::ptr::from_mut(function).cast();
    // SAFETY: The call waits until the function has returned, so the borrow outlives it. What the
    // function is, `on_cpu` promises to be usable from another CPU.
    unsafe { abi::smp_call_function_single(cpu as c_int, Some(trampoline::<F>), function, true) };
}

/// Kernel address of a page.
pub(crate) fn page_address(page: &Page) -> Option<NonNull<u8>> {
    // SAFETY: The page is valid by the invariant of `Page`.
    NonNull::new(unsafe { abi::vtl_page_address(page.as_ptr()) }.cast())
}

/// Physical address of a page.
pub(crate) fn page_phys(page: &Page) -> u64 {
    // SAFETY: The page is valid by the invariant of `Page`.
    unsafe { abi::vtl_page_phys(page.as_ptr()) }
}

/// Returns true if any byte of a physical range is memory in use by this Linux.
pub(crate) fn is_system_ram(start: u64, len_bytes: u64) -> bool {
    vtl_is_system_ram(start, len_bytes)
}

/// Offset of a mapping in pages.
pub(crate) fn page_offset(vma: &VmaNew) -> u64 {
    // SAFETY: The area is valid by the invariant of `VmaNew`; nobody else changes it yet.
    unsafe { (*vma.as_ptr()).vm_pgoff as u64 } // CAST: unsigned long has 64 bits
}

/// Shares a page with the host.
///
/// # Errors
///
/// What the conversion says; the state of the page is then unknown.
pub(crate) fn share_page(page: &Page) -> Result {
    // SAFETY: The page is valid by the invariant of `Page`; in a task that may sleep.
    to_result(unsafe { abi::vtl_share_page(page.as_ptr()) })
}

/// Takes a page back from the host.
///
/// # Errors
///
/// As [`share_page`].
pub(crate) fn unshare_page(page: &Page) -> Result {
    // SAFETY: As in `share_page`.
    to_result(unsafe { abi::vtl_unshare_page(page.as_ptr()) })
}
