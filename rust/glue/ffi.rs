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
use kernel::processor::cpu_relax;
use kernel::sync::SetOnce;
use kernel::types::Opaque;

use crate::glue::abi::{self, safe_in_c, Answer, Made, PassedAs, TakenBack, Valid};
use crate::pure::sleep::Sleep;

// They look at the caller, the processor, a page or a clock, let others run, or walk the resource tree
// under its lock, and take any number there is.
safe_in_c! {
    fn eventfd_ctx_fdget(
        descriptor: c_int
    ) -> Answer<bindings::eventfd_ctx> as *mut bindings::eventfd_ctx;
    fn vtl_eventfd_signal(eventfd: Valid<'_, bindings::eventfd_ctx> as *mut bindings::eventfd_ctx);
    fn capable(capability: c_int) -> bool;
    fn xfer_to_guest_mode_handle_work() -> c_int;
    fn vtl_page_address(page: Valid<'_, bindings::page> as *mut bindings::page) -> *mut c_void;
    fn vtl_page_phys(page: Valid<'_, bindings::page> as *mut bindings::page) -> u64;
    fn vtl_is_bound_to_cpu() -> bool;
    fn vtl_is_system_ram(start: u64, len_bytes: u64) -> bool;
    fn vtl_without_shared(gpa: u64) -> u64;
    fn vtl_apic_id(cpu: u32) -> u32;
    fn vtl_tsc_khz() -> u32;
    fn vtl_send_reschedule(cpu: u32);
    fn rcuwait_wake_up(sleeper: &Sleeper as *mut bindings::rcuwait) -> c_int;
    fn vtl_need_resched() -> bool;
    fn vtl_has_guest_work() -> bool;
    fn local_clock() -> u64;
    fn vtl_yield() -> bool;
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

/// x2APIC ID of a CPU that can exist; for another number, an ID that no CPU has.
pub(crate) fn apic_id(cpu: u32) -> u32 {
    vtl_apic_id(cpu)
}

/// Whether the current task has CAP_SYS_ADMIN.
pub(crate) fn has_cap_sys_admin() -> bool {
    capable(bindings::CAP_SYS_ADMIN as c_int) // CAST: 21
}

/// Does what the task has to do before it may enter a guest: signals, rescheduling, task work.
///
/// # Errors
///
/// EINTR when a signal is pending.
pub(crate) fn handle_guest_work() -> Result {
    to_result(xfer_to_guest_mode_handle_work())
}

/// Returns true if the task has such work now.
pub(crate) fn has_guest_work() -> bool {
    vtl_has_guest_work()
}

/// Whether another task wants the CPU.
pub(crate) fn need_resched() -> bool {
    vtl_need_resched()
}

/// A clock that goes on steadily as long as the task stays on its CPU; between two CPUs it may jump.
pub(crate) fn clock_ns() -> u64 {
    local_clock()
}

/// One turn of a loop that waits for another CPU.
///
/// # Errors
///
/// EINTR when the task was killed.
pub(crate) fn relax_or_yield() -> Result {
    cpu_relax();
    if vtl_yield() {
        Ok(())
    } else {
        Err(EINTR)
    }
}

/// Whether the current thread can run on one CPU only.
pub(crate) fn is_bound_to_cpu() -> bool {
    vtl_is_bound_to_cpu()
}

/// An eventfd, held.
pub(crate) struct EventFd(Made<bindings::eventfd_ctx>);

// SAFETY: A reference to an eventfd may be let go by any task.
unsafe impl TakenBack for bindings::eventfd_ctx {
    const TAKE_BACK: unsafe extern "C" fn(*mut Self) = abi::eventfd_ctx_put;
}

impl EventFd {
    /// The eventfd of a file descriptor.
    ///
    /// # Errors
    ///
    /// EBADF: no such file. EINVAL: it is no eventfd.
    pub(crate) fn new(descriptor: i32) -> Result<Self> {
        eventfd_ctx_fdget(descriptor).made().map(Self)
    }

    /// Wakes whoever waits for it. In any context but an interrupt itself.
    pub(crate) fn signal(&self) {
        vtl_eventfd_signal((&self.0).into());
    }
}

/// Where one thread sleeps, and others wake it.
///
/// # Invariants
///
/// Initialised.
#[repr(transparent)]
pub(crate) struct Sleeper(Opaque<bindings::rcuwait>);

// SAFETY: A rcuwait is made to be woken from anywhere.
unsafe impl Send for Sleeper {}
// SAFETY: As above. Of two threads that sleep, which callers do not let happen, one is not woken.
unsafe impl Sync for Sleeper {}
// SAFETY: A reference to a transparent structure around a rcuwait, which is valid by the invariant.
unsafe impl PassedAs<*mut bindings::rcuwait> for &Sleeper {}

impl Sleeper {
    /// Nobody sleeps.
    pub(crate) fn new() -> Self {
        Self(Opaque::new(bindings::rcuwait::default()))
    }

    /// Has the thread ask again. A full barrier.
    pub(crate) fn wake(&self) {
        rcuwait_wake_up(self);
    }

    /// Sleeps until `question` is answered with true, or until the time of `most` is over.
    ///
    /// # Errors
    ///
    /// EINTR when a signal is pending.
    pub(crate) fn sleep<Q>(&self, question: &Q, most: Sleep) -> Result
    where
        Q: Callback<About = Q, Answer = bool>,
    {
        let about = core::ptr::from_ref(question).cast_mut().cast();
        let is_awake = Some(call_back::<Q, _> as unsafe extern "C" fn(*mut c_void) -> bool);
        let Sleep { ns, slack_ns } = most;
        // SAFETY: The rcuwait is valid by the invariant; `question` is there until the call returns.
        to_result(unsafe { abi::vtl_sleep(self.0.get(), is_awake, about, ns, slack_ns) })
    }
}

/// Sends a CPU an interrupt that does nothing but arrive, if it is online.
pub(crate) fn send_reschedule(cpu: u32) {
    vtl_send_reschedule(cpu);
}

/// Calls a function on a CPU, with interrupts off, and waits for it. `None` when it is offline.
pub(crate) fn on_cpu<T: Copy + Send + Sync>(
    cpu: u32,
    function: &(impl Fn() -> T + Sync),
) -> Option<T> {
    let asked = Asked {
        function,
        answer: SetOnce::new(),
    };
    let about = core::ptr::from_ref(&asked).cast_mut().cast();
    let function = call_back_about(&asked);
    // SAFETY: The call waits until the function has returned, so `asked` outlives it. Another CPU may
    // use it, as it may its parts.
    unsafe { abi::smp_call_function_single(cpu as c_int, Some(function), about, true) };
    asked.answer.copy()
}

/// What another CPU is asked for.
struct Asked<'a, F, T> {
    function: &'a F,
    answer: SetOnce<T>,
}

impl<F: Fn() -> T + Sync, T: Send + Sync> Callback for Asked<'_, F, T> {
    type About = Self;
    type Answer = ();

    fn call(about: &Self) {
        about.answer.populate((about.function)());
    }
}

/// Something that C calls.
pub(crate) trait Callback {
    /// What C has a pointer to, for its caller.
    type About;
    /// What C wants to know.
    type Answer;

    /// Called in the context that C says.
    fn call(about: &Self::About) -> Self::Answer;
}

/// A [`Callback`] as a function of C's; `P` is a pointer to anything.
///
/// # Safety
///
/// `about` points to a `C::About`, which is there until the call returns.
pub(crate) unsafe extern "C" fn call_back<C: Callback, P: Untyped>(about: P) -> C::Answer {
    // SAFETY: As the caller promises ("points to a `C::About`").
    C::call(unsafe { &*about.address().cast::<C::About>() })
}

/// The function for something that calls itself.
fn call_back_about<C: Callback<About = C, Answer = ()>>(
    _about: &C,
) -> unsafe extern "C" fn(*mut c_void) {
    call_back::<C, *mut c_void>
}

/// C's pointers to anything.
pub(crate) trait Untyped {
    /// The address.
    fn address(self) -> *const c_void;
}

impl Untyped for *const c_void {
    fn address(self) -> *const c_void {
        self
    }
}

impl Untyped for *mut c_void {
    fn address(self) -> *const c_void {
        self
    }
}

/// Kernel address of a page.
pub(crate) fn page_address(page: &Page) -> Option<NonNull<u8>> {
    NonNull::new(vtl_page_address(page.into()).cast())
}

/// Physical address of a page.
pub(crate) fn page_phys(page: &Page) -> u64 {
    vtl_page_phys(page.into())
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

/// Returns true if a tracepoint of this module is on. The kernel crate's own macro knows only those of
/// the kernel itself.
macro_rules! is_traced {
    ($key:ident) => {
        // SAFETY: The key is that of a tracepoint of this module, which is there as long as code of
        // the module runs.
        unsafe {
            kernel::jump_label::static_branch_unlikely!(
                $crate::glue::abi::$key,
                kernel::bindings::tracepoint,
                key
            )
        }
    };
}
pub(crate) use is_traced;
