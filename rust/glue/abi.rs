// SPDX-License-Identifier: GPL-2.0
//! Bindgen's output for the ABI's header and `helpers.h`, and assertions that the header and
//! `pure::uapi` agree.

// UNSAFETY: generated declarations.
#![allow(unsafe_code)]
#![allow(clippy::all, clippy::undocumented_unsafe_blocks, clippy::ptr_as_ptr)]
#![allow(
    dead_code,
    missing_docs,
    non_camel_case_types,
    non_upper_case_globals,
    non_snake_case
)]
#![allow(
    unreachable_pub,
    improper_ctypes,
    unsafe_op_in_unsafe_fn,
    unused_imports
)]
// `safe_in_c` declares some functions again, and compares their types itself.
#![allow(clashing_extern_declarations)]

use core::ffi::CStr;
use core::marker::PhantomData;
use core::mem::offset_of;
use core::ptr::NonNull;

use kernel::fs::{File, Kiocb};
use kernel::mm::virt::VmaNew;
use kernel::page::Page;
use kernel::types::ForeignOwnable;

use kernel::prelude::Zeroable;

use crate::pure::uapi::{
    checkpoint, event, info, note, policy, run, stats, switch, timer, HVCALL_STATUS,
};

include!(concat!(env!("VTL_OBJ"), "/rust/bindings_generated.rs"));

/// Operands that are read from userspace, and written to it.
macro_rules! plain {
    (FromBytes: $($read:ident)+; AsBytes: $($written:ident)+) => {
        // SAFETY: Integers without padding; asserted below.
        $(unsafe impl kernel::transmute::FromBytes for $read {})+
        // SAFETY: As above.
        $(unsafe impl kernel::transmute::AsBytes for $written {})+
    };
}

plain! {
    FromBytes:
        mshv_tdcall
        mshv_set_poll_file
        mshv_kick_cpus
        mshv_vp_registers
        mshv_register
        mshv_vtl_ram_disposition
        mshv_vtl_hvcall_setup
        mshv_vtl_hvcall
        mshv_vtl_signal_event
        mshv_vtl_sint_post_msg
        mshv_vtl_set_eventfd
        mshv_sint_mask
        mshv_map_device_intr
        mshv_vtl_audit_checkpoint
        mshv_vtl_audit_event
        mshv_vtl_audit_note
        mshv_vtl_head
        mshv_vtl_switch
        mshv_vtl_xsave;
    AsBytes:
        mshv_register
        mshv_tdcall
        mshv_vtl_audit_checkpoint
        mshv_vtl_audit_event
        mshv_vtl_audit_note
        mshv_vtl_head
        mshv_vtl_info
        mshv_vtl_policy
        mshv_vtl_stats
        mshv_vtl_switch
        mshv_vtl_xsave
}

/// A pointer of C as an argument in Rust: valid during a call.
///
/// # Safety
///
/// `Self` has the representation of `C`, and while it exists the pointer is valid for all that a
/// function declared with it may do.
pub(crate) unsafe trait PassedAs<C> {}

// SAFETY: A reference is a valid pointer.
unsafe impl<T> PassedAs<*const T> for &T {}
// SAFETY: As above.
unsafe impl<T> PassedAs<*mut T> for &mut T {}
// SAFETY: As above, for the first of its bytes; the declaration has their number.
unsafe impl<const LEN: usize> PassedAs<*mut u8> for &mut [u8; LEN] {}
// SAFETY: `Valid` is a valid pointer by its invariant.
unsafe impl<T> PassedAs<*const T> for Valid<'_, T> {}
// SAFETY: As above; the owner of the object shares it with the kernel, which changes it as well.
unsafe impl<T> PassedAs<*mut T> for Valid<'_, T> {}

/// A pointer to an object of the kernel.
///
/// # Invariants
///
/// It is valid for `'a`, by the invariant of the type that it was made from.
#[repr(transparent)]
pub(crate) struct Valid<'a, T>(*mut T, PhantomData<&'a ()>);

/// Bytes, as C reads them.
#[repr(transparent)]
pub(crate) struct Bytes<'a>(vtl_bytes, PhantomData<&'a [u8]>);

// SAFETY: A transparent structure around it, which `From` has made of bytes that stay for `'a`.
unsafe impl PassedAs<*const vtl_bytes> for &Bytes<'_> {}

impl<'a> From<&'a [u8]> for Bytes<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        let (start, len) = (bytes.as_ptr(), bytes.len());
        Self(vtl_bytes { start, len }, PhantomData)
    }
}

impl<'a> From<&'a Page> for Valid<'a, page> {
    fn from(page: &'a Page) -> Self {
        Self(page.as_ptr(), PhantomData)
    }
}

impl<'a> From<&'a File> for Valid<'a, file> {
    fn from(file: &'a File) -> Self {
        Self(file.as_ptr(), PhantomData)
    }
}

impl<'a> From<&'a VmaNew> for Valid<'a, vm_area_struct> {
    fn from(area: &'a VmaNew) -> Self {
        Self(area.as_ptr(), PhantomData)
    }
}

impl<'a, T: ForeignOwnable> From<&'a Kiocb<'_, T>> for Valid<'a, kiocb> {
    fn from(kiocb: &'a Kiocb<'_, T>) -> Self {
        Self(kiocb.as_raw(), PhantomData)
    }
}

impl<'a> From<&'a CStr> for Valid<'a, kernel::ffi::c_char> {
    fn from(text: &'a CStr) -> Self {
        Self(text.as_ptr().cast_mut().cast(), PhantomData)
    }
}

/// An object that a function of C has made. The drop passes it to `TAKE_BACK`.
///
/// # Invariants
///
/// The pointer is valid, and only the drop passes it to `TAKE_BACK`.
pub(crate) struct Made<T: TakenBack>(NonNull<T>);

/// Result of a function of C that makes an object: a pointer to the object, which the caller then owns,
/// or an error pointer.
///
/// # Invariants
///
/// If it is not an error, it is valid until `TAKE_BACK` is called, and only its owner calls that.
#[must_use]
#[repr(transparent)]
pub(crate) struct ErrPtr<T>(*mut T);

// SAFETY: A transparent structure around that pointer. A declaration that returns `ErrPtr` asserts the
// invariant for its function.
unsafe impl<T> PassedAs<*mut T> for ErrPtr<T> {}

impl<T: TakenBack> ErrPtr<T> {
    /// Returns the object.
    ///
    /// # Errors
    ///
    /// The answer's; ENOMEM for a null pointer.
    pub(crate) fn made(self) -> Result<Made<T>, kernel::error::Error> {
        let made = NonNull::new(kernel::error::from_err_ptr(self.0)?);
        // INVARIANT: that of the answer, which is consumed.
        made.map(Made).ok_or(kernel::error::code::ENOMEM)
    }
}

/// A type of C whose objects a function of C frees.
///
/// # Safety
///
/// The function may be called once for each [`Made`], by any task.
pub(crate) unsafe trait TakenBack: Sized {
    /// The function.
    const TAKE_BACK: unsafe extern "C" fn(*mut Self);
}

// SAFETY: It belongs to no thread, by the requirement of `TakenBack`; a reference to it only yields
// a pointer.
unsafe impl<T: TakenBack> Send for Made<T> {}
// SAFETY: As above.
unsafe impl<T: TakenBack> Sync for Made<T> {}

impl<T: TakenBack> Made<T> {
    /// Takes ownership of the result of a function of C.
    ///
    /// # Errors
    ///
    /// The answer's; ENOMEM for a null pointer.
    ///
    /// # Safety
    ///
    /// If the answer is not an error, it is valid until `TAKE_BACK` is called, and nobody else calls that.
    pub(crate) unsafe fn new(answer: *mut T) -> Result<Self, kernel::error::Error> {
        // INVARIANT: as the caller promises.
        ErrPtr(answer).made()
    }
}

impl<T: TakenBack> Drop for Made<T> {
    fn drop(&mut self) {
        // SAFETY: By the invariant; `self` is dropped.
        unsafe { (T::TAKE_BACK)(self.0.as_ptr()) }
    }
}

impl<'a, T: TakenBack> From<&'a Made<T>> for Valid<'a, T> {
    fn from(made: &'a Made<T>) -> Self {
        Self(made.0.as_ptr(), PhantomData)
    }
}

/// Makes the drop of a guard call the function of C that ends what another has begun. Each guard
/// stands for one call of that other function, and nobody else calls the named one; if both have to
/// be called by the same task, the guard is not `Send`.
macro_rules! ends_in_c {
    ($($guard:ty: $end:ident;)+) => {$(
        impl Drop for $guard {
            fn drop(&mut self) {
                // SAFETY: Ends the call that this guard stands for, in a context where that is
                // allowed.
                unsafe { $crate::glue::abi::$end() }
            }
        }
    )+};
}
pub(crate) use ends_in_c;

/// Declares functions of C that have no requirements for their caller as safe, and asserts that the
/// headers declare the same types. `as` gives the C type of a pointer.
macro_rules! safe_in_c {
    ($($(#[$doc:meta])* $visible:vis fn $name:ident(
        $($argument:ident: $type:ty $(as $pointer:ty)?),*
    ) $(-> $result:ty $(as $answer:ty)?)?;)+) => {
        // Bindgen's declarations differ only in being unsafe.
        #[allow(clashing_extern_declarations, improper_ctypes)]
        unsafe extern "C" {
            $($(#[$doc])* $visible safe fn $name($($argument: $type),*) $(-> $result)?;)+
        }
        $(
            const _: unsafe extern "C" fn(
                $($crate::glue::abi::safe_in_c!(@in_c $type $(as $pointer)?)),*
            ) $(-> $crate::glue::abi::safe_in_c!(@in_c $result $(as $answer)?))? =
                $crate::glue::abi::$name;
            $($($crate::glue::abi::safe_in_c!(@passed $type as $pointer);)?)*
            $($($crate::glue::abi::safe_in_c!(@passed $result as $answer);)?)?
        )+
    };
    (@in_c $type:ty as $pointer:ty) => { $pointer };
    (@in_c $type:ty) => { $type };
    (@passed $type:ty as $pointer:ty) => {
        const _: fn() = || {
            fn is_passed<R: $crate::glue::abi::PassedAs<C>, C>() {}
            is_passed::<$type, $pointer>();
        };
    };
}
pub(crate) use safe_in_c;

// Functions of the kernel itself that its bindings have.
pub(crate) use kernel::bindings::{capable, rcuwait_wake_up};

/// Asserts at compile time that fields have the offsets of the ABI.
macro_rules! assert_offsets {
    ($($type:ty: { $($($field:ident).+ => $offset:expr,)+ })+) => {
        $($(const _: () = assert!(offset_of!($type, $($field).+) == $offset);)+)+
    };
}

assert_offsets! {
    mshv_vtl_ram_disposition: {
        start_pfn => 0, last_pfn => 8,
    }
    mshv_vtl_signal_event: { connection_id => 0, flag => 4, }
    mshv_vtl_sint_post_msg: {
        message_type => 0, connection_id => 8, payload_size => 12, payload_ptr => 16,
    }
    mshv_vtl_set_eventfd: { fd => 0, flag => 4, }
    mshv_sint_mask: { mask => 0, reserved => 1, }
    mshv_vtl_hvcall_setup: {
        bitmap_array_size => 0, allow_bitmap_ptr => 8,
    }
    mshv_vtl_hvcall: {
        control => 0, input_size => 8, input_ptr => 16, status => HVCALL_STATUS,
        output_size => 32, output_ptr => 40,
    }
    mshv_tdcall: {
        rax => 0, rcx => 8, rdx => 16, r8 => 24, r9 => 32, r10_out => 40, r11_out => 48,
    }
    mshv_vtl_run: {
        cancel => run::CANCEL,
        vtl_ret_action_size => run::VTL_RET_ACTION_SIZE,
        flags => run::FLAGS,
        scan_proxy_irr => run::SCAN_PROXY_IRR,
        offload_flags => run::OFFLOAD_FLAGS,
        enter_mode => run::ENTER_MODE,
        exit_message => run::EXIT_MESSAGE,
        tdx.exit_info.rax => run::EXIT_INFO,
        tdx.exit_info.rcx => run::EXIT_INFO + 8,
        tdx.exit_info.rdx => run::EXIT_INFO + 16,
        tdx.exit_info.rsi => run::EXIT_INFO + 24,
        tdx.exit_info.rdi => run::EXIT_INFO + 32,
        tdx.exit_info.r8 => run::EXIT_INFO + 40,
        tdx.exit_info.r9 => run::EXIT_INFO + 48,
        tdx.exit_info.r10 => run::EXIT_INFO + 56,
        tdx.exit_info.r11 => run::EXIT_INFO + 64,
        tdx.exit_info.r12 => run::EXIT_INFO + 72,
        tdx.exit_info.r13 => run::EXIT_INFO + 80,
        tdx.vp_state.msr_kernel_gs_base => run::MSR_KERNEL_GS_BASE,
        tdx.vp_state.msr_star => run::MSR_STAR,
        tdx.vp_state.msr_lstar => run::MSR_LSTAR,
        tdx.vp_state.msr_sfmask => run::MSR_SFMASK,
        tdx.vp_state.msr_xss => run::MSR_XSS,
        tdx.vp_state.cr2 => run::CR2,
        tdx.vp_state.msr_tsc_aux => run::MSR_TSC_AUX,
        tdx.vp_state.flags => run::VP_FLAGS,
        tdx.entry_rcx => run::ENTRY_RCX,
        tdx.l2_enter_guest_state => run::GUEST_STATE,
        tdx.l2_enter_guest_state.rflags => run::GUEST_STATE + 0x80,
        tdx.l2_enter_guest_state.rip => run::GUEST_STATE_RIP,
        tdx.l2_enter_guest_state.ssp => run::GUEST_STATE + 0x90,
        tdx.l2_enter_guest_state.rvi => run::GUEST_STATE + 0x98,
        tdx.l2_enter_guest_state.svi => run::GUEST_STATE + 0x99,
        tdx.l2_tsc_deadline.deadline => run::TSC_DEADLINE,
        tdx.l2_tsc_deadline.update => run::TSC_DEADLINE_UPDATE,
        tdx.fx_state => run::FX_STATE,
        vtl_ret_actions => run::VTL_RET_ACTIONS,
        proxy_irr => run::PROXY_IRR,
        target_vtl => run::TARGET_VTL,
        proxy_irr_blocked => run::PROXY_IRR_BLOCKED,
        proxy_irr_exit_mask => run::PROXY_IRR_EXIT_MASK,
        reserved => run::END,
    }
    mshv_vtl_info: {
        head.size => 0,
        head.selector => info::FLAGS,
        version => info::VERSION,
        capabilities => info::CAPABILITIES,
        tdx_features0 => info::TDX_FEATURES0,
        attributes => info::ATTRIBUTES,
        xfam => info::XFAM,
        tsc_khz => info::TSC_KHZ,
        num_l2_vms => info::NUM_L2_VMS,
        num_cpus => info::NUM_CPUS,
        audit_records => info::AUDIT_RECORDS,
        exit_kinds => info::EXIT_KINDS,
    }
    mshv_vtl_policy: {
        leaf => policy::LEAF, lines => policy::LINES, name => policy::NAME,
        reason => policy::REASON,
    }
    mshv_vtl_stats: {
        head.selector => stats::CPU,
        refused => stats::REFUSED,
        exit_kinds => stats::EXIT_KINDS,
        exits => stats::EXITS,
        refused_hvcalls => stats::REFUSED_HVCALLS,
        stalls => stats::STALLS,
        exit_storms => stats::EXIT_STORMS,
        storm_ticks => stats::STORM_TICKS,
        shortest_storm_ticks => stats::SHORTEST_STORM_TICKS,
        vtl_calls => stats::VTL_CALLS,
        vtl_returns => stats::VTL_RETURNS,
        vtl_fast_returns => stats::VTL_FAST_RETURNS,
        vtl_left => stats::VTL_LEFT,
        vtl_flushes => stats::VTL_FLUSHES,
        vtl_proxied => stats::VTL_PROXIED,
    }
    mshv_vtl_switch: { head => 0, assist => 8, flags => 16, }
    mshv_vtl_switch_page: {
        enable => switch::ENABLE,
        active_vm => switch::ACTIVE_VM,
        left => switch::LEFT,
        flush => switch::FLUSH,
        flushed => switch::FLUSHED,
        parked => switch::PARKED,
    }
    mshv_vtl_parked: {
        rsp => 0, rip => 8, rflags => 16, ssp => 24, rvi => 32, svi => 33, halt => 34,
        msr_kernel_gs_base => 40, msr_star => 48, msr_lstar => 56, msr_sfmask => 64, msr_xss => 72,
        msr_tsc_aux => 80,
    }
    mshv_vtl_timer: { deadline => timer::DEADLINE, vector => timer::VECTOR, }
    mshv_map_device_intr: { vector => 0, apic_id => 4, create_mapping => 8, padding => 9, }
    mshv_vtl_xsave: { size => 0, flags => 4, xfeatures => 8, image => 16, }
    mshv_vtl_exit_stats: { count => 0, handled => 8, cycles => 16, }
    mshv_vtl_audit_record: {
        sequence => 0, entry_tsc => 8, cycles => 16, status => 24, qualification => 32,
        rip => 40, thread => 48, vp => 52, vm => 54, entry_reason => 55, exit_kind => 56,
        flags => 57,
    }
    mshv_vtl_control_record: {
        sequence => 0, tsc => 8, result => 16, operands => 24, process => 48, op => 52,
        reserved1 => 54, user => 56, reserved2 => 60,
    }
    mshv_vtl_audit_leaf: {
        segment => 0, first => 8, count => 16, stream => 20, reserved => 24, leaf => 32,
    }
    mshv_vtl_audit_checkpoint: {
        nonce => checkpoint::NONCE, flags => checkpoint::FLAGS, number => checkpoint::NUMBER,
    }
    mshv_vtl_audit_event: {
        number => event::NUMBER, buffer => event::BUFFER, size => event::ROOM,
        state => event::STATE, first => event::FIRST, next => event::NEXT, mode => event::MODE,
        rtmr => event::RTMR, streams => event::STREAMS, leaves => event::LEAVES,
        interval => event::INTERVAL, batch => event::BATCH,
    }
    mshv_vtl_audit_note: { words => note::WORDS, }
}

// SAFETY: Integers, for all of which zero is a value.
unsafe impl Zeroable for mshv_vtl_stats {}

const _: () = assert!(size_of::<mshv_vtl_head>() == 8);
const _: () = assert!(size_of::<mshv_vtl_info>() == info::SIZE);
const _: () = assert!(size_of::<mshv_vtl_policy>() == policy::SIZE);
const _: () = assert!(size_of::<mshv_vtl_stats>() == stats::SIZE);
const _: () = assert!(size_of::<mshv_vtl_xsave>() == 24);
const _: () = assert!(size_of::<mshv_vtl_switch>() == 24);
const _: () = assert!(size_of::<mshv_vtl_parked>() == switch::PARKED_SIZE);
const _: () = assert!(size_of::<mshv_vtl_switch_page>() == switch::END);
const _: () = assert!(size_of::<mshv_vtl_audit_record>() == 64);
const _: () = assert!(size_of::<mshv_vtl_control_record>() == 64);
const _: () = assert!(size_of::<mshv_vtl_audit_leaf>() == 64);
const _: () = assert!(size_of::<mshv_vtl_audit_checkpoint>() == checkpoint::SIZE);
const _: () = assert!(size_of::<mshv_vtl_audit_event>() == event::SIZE);
const _: () = assert!(size_of::<mshv_vtl_audit_note>() == note::SIZE);
const _: () = assert!(size_of::<mshv_vtl_signal_event>() == 8);
const _: () = assert!(size_of::<mshv_vtl_sint_post_msg>() == 24);
const _: () = assert!(size_of::<mshv_vtl_set_eventfd>() == 8);
const _: () = assert!(size_of::<mshv_sint_mask>() == 8);
const _: () = assert!(size_of::<mshv_vtl_hvcall_setup>() == 16);
const _: () = assert!(size_of::<mshv_vtl_hvcall>() == 48);
const _: () = assert!(size_of::<mshv_tdcall>() == 56);
const _: () = assert!(size_of::<mshv_set_poll_file>() == 8);
const _: () = assert!(size_of::<mshv_vp_registers>() == 16);
const _: () = assert!(size_of::<mshv_register>() == 32);
const _: () = assert!(size_of::<mshv_kick_cpus>() == 24);
const _: () = assert!(size_of::<mshv_map_device_intr>() == 16);
const _: () = assert!(size_of::<mshv_vtl_ram_disposition>() == 16);
const _: () = assert!(size_of::<mshv_tdx_exit_info>() == 88);
const _: () = assert!(size_of::<mshv_tdx_vp_context>() == 1024);
const _: () = assert!(size_of::<mshv_vtl_run>() == run::END + 4);
const _: () = assert!(size_of::<mshv_vtl_timer>() == timer::SIZE);
const _: () = assert!(MSHV_VTL_RUN_TIMER as usize == run::TIMER);
