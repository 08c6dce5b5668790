// SPDX-License-Identifier: GPL-2.0
//! Safe wrappers for functions of the kernel that its Rust crate has no abstraction for.

// UNSAFETY: FFI calls; no wrapper has requirements for its caller.
#![allow(unsafe_code)]

use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;
use core::sync::atomic::AtomicBool;
use core::sync::atomic::Ordering::{Acquire, Release};

use kernel::bindings;
use kernel::error::to_result;
use kernel::mm::virt::VmaNew;
use kernel::page::Page;
use kernel::prelude::*;
use kernel::processor::cpu_relax;
use kernel::sync::SetOnce;
use kernel::types::Opaque;

use crate::glue::abi::{self, safe_in_c, Bytes, ErrPtr, Made, PassedAs, TakenBack, Valid};
use crate::pure::sleep::Sleep;

// They read state of the caller, the processor, a page or a clock, reschedule, or walk the resource tree
// under its lock, and accept any number.
safe_in_c! {
    fn eventfd_ctx_fdget(
        descriptor: c_int
    ) -> ErrPtr<bindings::eventfd_ctx> as *mut bindings::eventfd_ctx;
    fn vtl_eventfd_signal(eventfd: Valid<'_, bindings::eventfd_ctx> as *mut bindings::eventfd_ctx);
    fn capable(capability: c_int) -> bool;
    fn xfer_to_guest_mode_handle_work() -> c_int;
    fn vtl_page_address(page: Valid<'_, bindings::page> as *mut bindings::page) -> *mut c_void;
    fn vtl_page_phys(page: Valid<'_, bindings::page> as *mut bindings::page) -> u64;
    fn vtl_is_bound_to_cpu() -> bool;
    fn vtl_is_system_ram(start: u64, len_bytes: u64) -> bool;
    fn vtl_without_shared(gpa: u64) -> u64;
    fn vtl_is_user_page(address: u64) -> bool;
    fn vtl_apic_id(cpu: u32) -> u32;
    fn vtl_tsc_khz() -> u32;
    fn vtl_send_reschedule(cpu: u32);
    fn rcuwait_wake_up(sleeper: &Sleeper as *mut bindings::rcuwait) -> c_int;
    fn vtl_need_resched() -> bool;
    fn vtl_has_guest_work() -> bool;
    fn local_clock() -> u64;
    fn vtl_yield() -> bool;
    fn vtl_random(bytes: &mut [u8; 32] as *mut u8);
    fn vtl_sha256(bytes: &Bytes<'_> as *const abi::vtl_bytes, hash: &mut [u8; 32] as *mut u8);
    fn vtl_sha384(bytes: &Bytes<'_> as *const abi::vtl_bytes, digest: &mut [u8; 48] as *mut u8);
    fn vtl_page_sha256(
        page: Valid<'_, bindings::page> as *mut bindings::page,
        offset: u32,
        len: u32,
        hash: &mut [u8; 32] as *mut u8
    );
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

/// SHA-256. Slow while the processor has a lower VTL's state, because SIMD can't be used then.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    vtl_sha256(&bytes.into(), &mut hash);
    hash
}

/// SHA-384, likewise.
pub(crate) fn sha384(bytes: &[u8]) -> [u8; 48] {
    let mut digest = [0; 48];
    vtl_sha384(&bytes.into(), &mut digest);
    digest
}

/// SHA-256 of what of a range is in a page.
pub(crate) fn page_sha256(page: &Page, offset: u32, len_bytes: u32) -> [u8; 32] {
    let mut hash = [0; 32];
    vtl_page_sha256(page.into(), offset, len_bytes, &mut hash);
    hash
}

/// Random bytes, from the kernel's generator.
pub(crate) fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    vtl_random(&mut bytes);
    bytes
}

/// Returns the address of a page by its private alias.
pub(crate) fn without_shared(gpa: u64) -> u64 {
    vtl_without_shared(gpa)
}

/// Returns true if userspace may have a page at an address.
pub(crate) fn is_user_page(address: u64) -> bool {
    vtl_is_user_page(address)
}

/// The time-stamp counter.
pub(crate) fn tsc() -> u64 {
    // SAFETY: x86-64 always has RDTSC, and the kernel may execute it.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Returns the frequency of the time-stamp counter.
pub(crate) fn tsc_khz() -> u32 {
    vtl_tsc_khz()
}

/// Returns the process ID of the current process.
pub(crate) fn process() -> u32 {
    kernel::current!().tgid() as u32 // CAST: never negative
}

/// Returns the x2APIC ID of a possible CPU; for another number, an ID that no CPU has.
pub(crate) fn apic_id(cpu: u32) -> u32 {
    vtl_apic_id(cpu)
}

/// Returns true if the current task has CAP_SYS_ADMIN.
pub(crate) fn has_cap_sys_admin() -> bool {
    capable(bindings::CAP_SYS_ADMIN as c_int) // CAST: 21
}

/// Does the work that the task has before it may enter a guest: signals, rescheduling, task work.
///
/// # Errors
///
/// EINTR if a signal is pending.
pub(crate) fn handle_guest_work() -> Result {
    to_result(xfer_to_guest_mode_handle_work())
}

/// Returns true if the task has such work now.
pub(crate) fn has_guest_work() -> bool {
    vtl_has_guest_work()
}

/// Returns true if the scheduler wants to run another task on this CPU.
pub(crate) fn need_resched() -> bool {
    vtl_need_resched()
}

/// Reads a clock that is monotonic while the task stays on its CPU; it may jump between two CPUs.
pub(crate) fn clock_ns() -> u64 {
    local_clock()
}

/// One iteration of a loop that waits for another CPU.
///
/// # Errors
///
/// EINTR if the task was killed.
pub(crate) fn relax_or_yield() -> Result {
    cpu_relax();
    if vtl_yield() {
        Ok(())
    } else {
        Err(EINTR)
    }
}

/// Returns true if the affinity of the current thread is a single CPU.
pub(crate) fn is_bound_to_cpu() -> bool {
    vtl_is_bound_to_cpu()
}

/// A value that one thread at a time may take. A mutex of the kernel for which nobody ever waits would do,
/// but three calls of C functions are too much on the way of every switch.
///
/// # Invariants
///
/// While `is_taken` is true, one [`Taken`] exists, or is about to.
pub(crate) struct Exclusive<T> {
    is_taken: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: Only one thread at a time has access to the value, as with a mutex.
unsafe impl<T: Send> Sync for Exclusive<T> {}

impl<T> Exclusive<T> {
    /// Starts with nobody having it.
    pub(crate) const fn new(value: T) -> Self {
        Self {
            is_taken: AtomicBool::new(false),
            value: UnsafeCell::new(value),
        }
    }

    /// Takes the value; `None` if another thread has it.
    #[inline]
    pub(crate) fn take(&self) -> Option<Taken<'_, T>> {
        // ORDERING: pairs with the store in `drop`: what the last owner did is seen.
        if self.is_taken.swap(true, Acquire) {
            return None;
        }
        // INVARIANT: nobody else has found false since the last owner stored it.
        Some(Taken(self, PhantomData))
    }
}

/// The right to use a value of [`Exclusive`].
///
/// It has no reference to the value, which would have to be valid until the end of a function that
/// was given the right and drops it; but as one, it may be shared by threads only if the value may.
///
/// # Invariants
///
/// There is no other one for this value.
#[must_use]
pub(crate) struct Taken<'a, T>(&'a Exclusive<T>, PhantomData<&'a mut T>);

impl<T> Deref for Taken<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: By the invariant, references to the value come from this right alone, and the
        // borrow of it keeps mutable ones away.
        unsafe { &*self.0.value.get() }
    }
}

impl<T> DerefMut for Taken<'_, T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: By the invariant, references to the value come from this right alone, and the
        // mutable borrow of it keeps others away.
        unsafe { &mut *self.0.value.get() }
    }
}

impl<T> Drop for Taken<'_, T> {
    fn drop(&mut self) {
        // ORDERING: pairs with `take`.
        self.0.is_taken.store(false, Release);
    }
}

/// A reference to an eventfd.
pub(crate) struct EventFd(Made<bindings::eventfd_ctx>);

// SAFETY: Any task may release a reference to an eventfd.
unsafe impl TakenBack for bindings::eventfd_ctx {
    const TAKE_BACK: unsafe extern "C" fn(*mut Self) = abi::eventfd_ctx_put;
}

impl EventFd {
    /// Takes a reference to the eventfd of a file descriptor.
    ///
    /// # Errors
    ///
    /// EBADF: no such file. EINVAL: it is not an eventfd.
    pub(crate) fn new(descriptor: i32) -> Result<Self> {
        eventfd_ctx_fdget(descriptor).made().map(Self)
    }

    /// Wakes all that wait for it. In any context except hard interrupts.
    pub(crate) fn signal(&self) {
        vtl_eventfd_signal((&self.0).into());
    }
}

/// A place where one thread sleeps, and others wake it.
///
/// # Invariants
///
/// Initialised.
#[repr(transparent)]
pub(crate) struct Sleeper(Opaque<bindings::rcuwait>);

// SAFETY: A rcuwait may be woken by any thread.
unsafe impl Send for Sleeper {}
// SAFETY: As above. If two threads slept, one would not be woken; callers ensure that only one
// does.
unsafe impl Sync for Sleeper {}
// SAFETY: A reference to a transparent structure around a rcuwait, which is valid by the invariant.
unsafe impl PassedAs<*mut bindings::rcuwait> for &Sleeper {}

impl Sleeper {
    /// Returns a sleeper in which no thread sleeps.
    pub(crate) fn new() -> Self {
        Self(Opaque::new(bindings::rcuwait::default()))
    }

    /// Makes the sleeping thread evaluate its condition again. A full barrier.
    pub(crate) fn wake(&self) {
        rcuwait_wake_up(self);
    }

    /// Sleeps until `question` is answered with true, or until the time of `most` is over.
    ///
    /// # Errors
    ///
    /// EINTR if a signal is pending.
    pub(crate) fn sleep<Q>(&self, question: &Q, most: Sleep) -> Result
    where
        Q: Callback<About = Q, Output = bool>,
    {
        let about = core::ptr::from_ref(question).cast_mut().cast();
        let is_awake = Some(call_back::<Q, _> as unsafe extern "C" fn(*mut c_void) -> bool);
        let Sleep { ns, slack_ns } = most;
        // SAFETY: The rcuwait is valid by the invariant; `question` lives until the call returns.
        to_result(unsafe { abi::vtl_sleep(self.0.get(), is_awake, about, ns, slack_ns) })
    }
}

/// Sends a CPU, if it is online, an interrupt that has no further effect.
pub(crate) fn send_reschedule(cpu: u32) {
    vtl_send_reschedule(cpu);
}

/// Calls a function on a CPU, with interrupts off, and waits for it. `None` if the CPU is offline.
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
    // SAFETY: The call waits until the function has returned, so `asked` outlives it. Another CPU
    // may use it, because its parts are `Sync` and `Send`.
    unsafe { abi::smp_call_function_single(cpu as c_int, Some(function), about, true) };
    asked.answer.copy()
}

/// A function to be called on another CPU, and its result.
struct Asked<'a, F, T> {
    function: &'a F,
    answer: SetOnce<T>,
}

impl<F: Fn() -> T + Sync, T: Send + Sync> Callback for Asked<'_, F, T> {
    type About = Self;
    type Output = ();

    fn call(about: &Self) {
        about.answer.populate((about.function)());
    }
}

/// A function that C calls.
pub(crate) trait Callback {
    /// Type of the argument, to which C has a pointer.
    type About;
    /// Type of the result.
    type Output;

    /// Called in the context that the function of C documents.
    fn call(about: &Self::About) -> Self::Output;
}

/// A [`Callback`] as a function of C; `P` is an untyped pointer.
///
/// # Safety
///
/// `about` points to a `C::About` that lives until the call returns.
pub(crate) unsafe extern "C" fn call_back<C: Callback, P: Untyped>(about: P) -> C::Output {
    // SAFETY: As the caller promises ("points to a `C::About`").
    C::call(unsafe { &*about.address().cast::<C::About>() })
}

/// Returns the function of C for a callback that is its own argument.
fn call_back_about<C: Callback<About = C, Output = ()>>(
    _about: &C,
) -> unsafe extern "C" fn(*mut c_void) {
    call_back::<C, *mut c_void>
}

/// Untyped pointers of C.
pub(crate) trait Untyped {
    /// Returns the address.
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

/// Returns the kernel address of a page.
pub(crate) fn page_address(page: &Page) -> Option<NonNull<u8>> {
    NonNull::new(vtl_page_address(page.into()).cast())
}

/// Returns the physical address of a page.
pub(crate) fn page_phys(page: &Page) -> u64 {
    vtl_page_phys(page.into())
}

/// Returns true if any byte of a physical range is memory in use by this Linux.
pub(crate) fn is_system_ram(start: u64, len_bytes: u64) -> bool {
    vtl_is_system_ram(start, len_bytes)
}

/// Returns the offset of a mapping in pages.
pub(crate) fn page_offset(vma: &VmaNew) -> u64 {
    // SAFETY: The VMA is valid by the invariant of `VmaNew`; nobody else changes it yet.
    unsafe { (*vma.as_ptr()).vm_pgoff as u64 } // CAST: unsigned long has 64 bits
}

/// Returns true if a tracepoint of this module is enabled. The kernel crate's own macro knows only
/// those of the kernel itself.
macro_rules! is_traced {
    ($key:ident) => {
        // SAFETY: The key is that of a tracepoint of this module, which exists as long as code of
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
