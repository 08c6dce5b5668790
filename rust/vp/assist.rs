// SPDX-License-Identifier: GPL-2.0
//! VTL1's VP assist page, and the runs in which it is used.
//!
//! Userspace states the page's address in its own address space, so the kernel accesses nothing to
//! which the caller has no right, and needs neither a mapping nor a pin. The page may be missing:
//! faults are not handled, and a failed access is an ordinary result. [TLFS 15.5]

// UNSAFETY: declares C functions.
#![allow(unsafe_code)]

use core::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

use kernel::mm::Mm;
use kernel::prelude::*;
use kernel::sync::aref::ARef;
use kernel::sync::{new_mutex, Mutex, SetOnce};

use crate::cpu::fpu::Section;
use crate::glue::abi::safe_in_c;
use crate::glue::ffi;

// They only access memory of the current process, and handle no fault: for any context of a task.
safe_in_c! {
    fn vtl_user_write_u32(address: u64, value: u32) -> c_int;
    fn vtl_user_write_u8(address: u64, value: u8) -> c_int;
    fn vtl_user_read_u8(address: u64) -> c_int;
    fn vtl_user_read_pair(
        first: &mut u64 as *mut u64,
        second: &mut u64 as *mut u64,
        address: u64
    ) -> c_int;
}

/// Offset of the reason why VTL1 was entered, a u32.
const ENTRY_REASON: u64 = 0x08;
/// The reason for a VTL call.
const REASON_CALL: u32 = 1;
/// Offset of VINA, a u8; asserted if bit 0 is set.
const VINA_ASSERTED: u64 = 0x0c;
/// Offset of RAX and RCX of VTL0 after a return, two u64.
const RETURN_REGISTERS: u64 = 0x10;

/// The page was missing, or could not be accessed in that way.
pub(crate) struct NotThere;

/// Address of an assist page in the current process.
#[derive(Clone, Copy)]
pub(crate) struct Assist(u64);

impl Assist {
    /// Tells VTL1 that it is entered by a call.
    pub(crate) fn write_call(self, _section: &Section) -> Result<(), NotThere> {
        there(vtl_user_write_u32(self.0 + ENTRY_REASON, REASON_CALL)).map(|_| ())
    }

    /// Reads the RAX and RCX that VTL0 gets.
    pub(crate) fn read_return(self, _section: &Section) -> Result<[u64; 2], NotThere> {
        let (mut rax, mut rcx) = (0, 0);
        let address = self.0 + RETURN_REGISTERS;
        there(vtl_user_read_pair(&mut rax, &mut rcx, address))?;
        Ok([rax, rcx])
    }

    /// Returns true if VTL1 has been notified of an interrupt for VTL0 and has not consumed the
    /// notice.
    pub(crate) fn is_asserted(self) -> Result<bool, NotThere> {
        there(vtl_user_read_u8(self.0 + VINA_ASSERTED)).map(|byte| byte & 1 != 0)
    }

    /// Withdraws that notice.
    pub(crate) fn clear_asserted(self, _section: &Section) -> Result<(), NotThere> {
        there(vtl_user_write_u8(self.0 + VINA_ASSERTED, 0)).map(|_| ())
    }
}

/// C returns what it has read, zero if it only writes, or a negative errno.
fn there(result: c_int) -> Result<c_int, NotThere> {
    match result {
        0.. => Ok(result),
        _ => Err(NotThere),
    }
}

/// VPs for which the kernel switches between VTLs, in runs through one VTL file.
///
/// The addresses belong to the process, more precisely the address space, that set the first one; in
/// a run by another one, for instance a child after `fork()`, they are not used.
#[pin_data]
pub(crate) struct Assists {
    /// True if there is an address. This and the addresses are `core`'s atomics, because each
    /// access to the kernel's is a call of a C function, and every run checks this.
    is_used: AtomicU32,
    /// Indexed by CPU number; 0 for none.
    pages: KVec<AtomicU64>,
    process: SetOnce<ARef<Mm>>,
    /// Held while `process` is set: a second thread has to wait for the first one.
    #[pin]
    setting: Mutex<()>,
}

impl Assists {
    /// Starts without any.
    ///
    /// # Errors
    ///
    /// ENOMEM.
    pub(crate) fn new(num_cpus: u32) -> Result<impl PinInit<Self>> {
        let mut pages = KVec::new();
        for _ in 0..num_cpus {
            pages.push(AtomicU64::new(0), GFP_KERNEL)?;
        }
        Ok(pin_init!(Self {
            is_used: AtomicU32::new(0),
            pages,
            process: SetOnce::new(),
            setting <- new_mutex!((), "mshv_vtl_tdx::assists"),
        }))
    }

    /// Sets the page of a VP, or removes it with 0, on behalf of the current process.
    ///
    /// # Errors
    ///
    /// EINVAL if it is not the address of a page. EBUSY if a page was set before in another address
    /// space: by another process, or before `exec()`.
    /// ENXIO if there is no such CPU.
    pub(crate) fn set(&self, cpu: u32, address: u64) -> Result {
        let page = self.pages.get(cpu as usize).ok_or(ENXIO)?; // CAST: u32 fits
        if !ffi::is_user_page(address) {
            return Err(EINVAL);
        }
        // ORDERING: as in `of`.
        if address == 0 && self.is_used.load(Acquire) == 0 {
            return Ok(());
        }
        let task = kernel::current!();
        let current = task.mm().ok_or(EINVAL)?;
        {
            let _setting = self.setting.lock();
            self.process.populate(ARef::from(&**current));
        }
        if !self.is_own_process() {
            return Err(EBUSY);
        }
        page.store(address, Relaxed);
        // ORDERING: a thread that sees this also sees the address.
        self.is_used.store(1, Release);
        Ok(())
    }

    fn is_own_process(&self) -> bool {
        let task = kernel::current!();
        // The reference keeps the structure allocated, so no other process has one at the same
        // address.
        matches!((self.process.as_ref(), task.mm()), (Some(first), Some(current))
            if core::ptr::eq::<Mm>(&**first, &**current))
    }

    /// The page of a VP, in a run by the current process.
    #[inline]
    pub(crate) fn of(&self, cpu: u32) -> Option<Assist> {
        // ORDERING: pairs with the store in `set`.
        if self.is_used.load(Acquire) == 0 {
            return None;
        }
        self.find(cpu)
    }

    #[cold]
    fn find(&self, cpu: u32) -> Option<Assist> {
        let address = self.pages.get(cpu as usize)?.load(Relaxed); // CAST: u32 fits
        (address != 0 && self.is_own_process()).then_some(Assist(address))
    }
}
