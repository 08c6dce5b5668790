// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Two forms of an ioctl: one that is answered by its return value, one whose operand the kernel
//! fills.

use core::ffi::c_void;

use rustix::ioctl::{Ioctl, IoctlOutput, Opcode};

/// An ioctl of the ABI: its number, its operand, and its answer, which the
/// kernel gives as the system call's return value.
pub(super) struct Request<const COMMAND: Opcode, T> {
    pub(super) operand: T,
}

// SAFETY:
// 1. `as_ptr` points at `operand`, which lives in the request for the whole
//    call, and every caller pairs COMMAND with the operand type whose size the
//    command number encodes (tests in `abi`), so the kernel reads and writes no
//    more than the operand.
// 2. `IS_MUTATING` is true, so the operand is never in read-only memory.
unsafe impl<const COMMAND: Opcode, T> Ioctl for Request<COMMAND, T> {
    type Output = IoctlOutput;

    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        COMMAND
    }

    fn as_ptr(&mut self) -> *mut c_void {
        (&raw mut self.operand).cast()
    }

    unsafe fn output_from_ptr(
        answer: IoctlOutput,
        _operand: *mut c_void,
    ) -> rustix::io::Result<IoctlOutput> {
        Ok(answer)
    }
}

/// An ioctl that reads and writes its operand in place.
pub(super) struct InPlace<'a, const COMMAND: Opcode, T: ?Sized>(pub(super) &'a mut T);

// SAFETY: the operand is borrowed exclusively for as long as the request lives. The code that makes
// the request is responsible for the kernel accessing no more than the operand: see each use.
unsafe impl<const COMMAND: Opcode, T: ?Sized> Ioctl for InPlace<'_, COMMAND, T> {
    type Output = IoctlOutput;

    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        COMMAND
    }

    fn as_ptr(&mut self) -> *mut c_void {
        core::ptr::from_mut(self.0).cast()
    }

    unsafe fn output_from_ptr(
        answer: IoctlOutput,
        _operand: *mut c_void,
    ) -> rustix::io::Result<IoctlOutput> {
        Ok(answer)
    }
}
