// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! TDCALL leaves as typed functions on a [`Vtl`]: any leaf with its registers, and metadata of the
//! TD and of the TDX module.
//!
//! Memory rights are in [`crate::rights`]. Leaves that act on one virtual processor are functions
//! of [`crate::Vp`], because they only work on its CPU.

use crate::abi::Tdcall;
use crate::{Error, Result, Status, Vtl, sys};

/// Leaf numbers [ABI 1.2].
pub mod leaf {
    /// TDG.MEM.PAGE.ACCEPT.
    pub const TDG_MEM_PAGE_ACCEPT: u64 = 6;
    /// TDG.VM.RD.
    pub const TDG_VM_RD: u64 = 7;
    /// TDG.VM.WR.
    pub const TDG_VM_WR: u64 = 8;
    /// TDG.VP.RD.
    pub const TDG_VP_RD: u64 = 9;
    /// TDG.VP.WR.
    pub const TDG_VP_WR: u64 = 10;
    /// TDG.SYS.RD.
    pub const TDG_SYS_RD: u64 = 11;
    /// TDG.MEM.PAGE.ATTR.RD.
    pub const TDG_MEM_PAGE_ATTR_RD: u64 = 23;
    /// TDG.MEM.PAGE.ATTR.WR.
    pub const TDG_MEM_PAGE_ATTR_WR: u64 = 24;
    /// TDG.VP.INVGLA.
    pub const TDG_VP_INVGLA: u64 = 27;
    /// TDG.MEM.PAGE.RELEASE.
    pub const TDG_MEM_PAGE_RELEASE: u64 = 30;
}

/// Attempts at a leaf that returns TDX_OPERAND_BUSY before giving up; the host holds such a lock
/// for microseconds.
const BUSY_RETRIES: u32 = 1000;

impl Vtl {
    /// Executes one TDCALL. The callers in this crate pass no address of this process.
    pub(crate) fn call(&self, call: &mut Tdcall) -> Result<()> {
        sys::tdcall(self, call).map_err(|errno| Error::TdcallIoctl(errno.into()))
    }

    /// As [`Self::call`], repeated while the TDX module reports a busy operand.
    pub(crate) fn tdcall_until_idle(&self, call: Tdcall) -> Result<Tdcall> {
        let mut attempt = 0;
        loop {
            let mut this_call = call;
            self.call(&mut this_call)?;
            let status = Status::from_raw(this_call.rax);
            if status.code() != Status::OPERAND_BUSY || attempt == BUSY_RETRIES {
                return Ok(this_call);
            }
            attempt += 1;
        }
    }

    /// Reads a TD-wide field [ABI TDG.VM.RD].
    ///
    /// # Errors
    /// [`Error::Tdcall`] with the status, if the field is not readable.
    pub fn read_vm(&self, field_id: u64) -> Result<u64> {
        self.read_field("TDG.VM.RD", leaf::TDG_VM_RD, field_id)
    }

    /// Reads a field of the TDX module [ABI TDG.SYS.RD].
    ///
    /// # Errors
    /// [`Error::Tdcall`] with the status, if the field is not readable.
    pub fn read_sys(&self, field_id: u64) -> Result<u64> {
        self.read_field("TDG.SYS.RD", leaf::TDG_SYS_RD, field_id)
    }

    pub(crate) fn read_field(&self, name: &'static str, leaf: u64, field_id: u64) -> Result<u64> {
        let mut call = Tdcall {
            rax: leaf,
            rdx: field_id,
            ..Tdcall::default()
        };
        self.call(&mut call)?;
        check(name, field_id, Status::from_raw(call.rax))?;
        Ok(call.r8)
    }

    /// Writes the bits in `mask` of a TD-wide field [ABI TDG.VM.WR]. The kernel only allows
    /// [`crate::field::TD_CTLS_ENABLE_HW_SEAL_KEYS`] of [`crate::field::TD_CTLS`].
    ///
    /// # Errors
    /// [`Error::Tdcall`] with the status.
    pub fn write_vm(&self, field_id: u64, value: u64, mask: u64) -> Result<()> {
        self.write_field("TDG.VM.WR", leaf::TDG_VM_WR, field_id, value, mask)
    }

    pub(crate) fn write_field(
        &self,
        name: &'static str,
        leaf: u64,
        field_id: u64,
        value: u64,
        mask: u64,
    ) -> Result<()> {
        let mut call = Tdcall {
            rax: leaf,
            rdx: field_id,
            r8: value,
            r9: mask,
            ..Tdcall::default()
        };
        self.call(&mut call)?;
        check(name, field_id, Status::from_raw(call.rax))
    }
}

/// Turns a status with the error bit into an [`Error`].
pub(crate) fn check(leaf: &'static str, operand: u64, status: Status) -> Result<()> {
    if status.is_error() {
        return Err(Error::Tdcall {
            leaf,
            operand,
            status,
        });
    }
    Ok(())
}
