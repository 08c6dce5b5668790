// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The system calls of the ABI: eight ioctls, one mmap, and the time-stamp
//! counter. Nothing else touches the kernel with a raw pointer.
//!
//! Below [`crate::device`], [`crate::run_page`] and [`crate::memory`].

// UNSAFETY: ioctl with a pointer argument, mmap, one instruction.
#![expect(unsafe_code)]

use core::ffi::c_void;
use core::ptr::NonNull;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode};
use rustix::mm::{MapFlags, ProtFlags};

use crate::abi::{self, command};
use crate::xsave::XsaveImage;

/// An ioctl of the ABI: its number, its operand, and its answer, which the
/// kernel gives as the system call's return value.
struct Request<const COMMAND: Opcode, T> {
    operand: T,
}

// SAFETY:
// 1. `as_ptr` points at `operand`, which lives in the request for the whole
//    call, and every caller below pairs COMMAND with the operand type whose
//    size the command number encodes (tests in `abi`), so the kernel reads and
//    writes no more than the operand.
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

/// Asks for capability `number`; the answer is what the kernel returned.
pub(crate) fn check_extension(fd: impl AsFd, number: u32) -> Result<u32, Errno> {
    let request = Request::<{ command::CHECK_EXTENSION }, u32> { operand: number };
    // SAFETY: CHECK_EXTENSION reads 4 bytes, the operand's size.
    let answer = unsafe { rustix::ioctl::ioctl(fd, request) }?;
    // CAST: a successful answer is never negative.
    Ok(answer as u32)
}

/// Makes a VTL file.
pub(crate) fn create_vtl(fd: impl AsFd) -> Result<OwnedFd, Errno> {
    let request = Request::<{ command::CREATE_VTL }, u8> { operand: 0 };
    // SAFETY: CREATE_VTL touches at most 1 byte, the operand's size.
    let raw = unsafe { rustix::ioctl::ioctl(fd, request) }?;
    // SAFETY: the kernel has just made this descriptor for us, and nobody else
    // knows its number yet.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Runs the virtual processor of the current CPU until it has to come back.
pub(crate) fn return_to_lower_vtl(fd: impl AsFd) -> Result<(), Errno> {
    let request = Request::<{ command::RETURN_TO_LOWER_VTL }, ()> { operand: () };
    // SAFETY: the command takes no operand. It changes the run page, which is
    // only ever accessed by volatile or atomic operations (`run_page`).
    unsafe { rustix::ioctl::ioctl(fd, request) }.map(drop)
}

/// An ioctl that borrows its operand, so that the outputs arrive there.
struct InPlace<'a, const COMMAND: Opcode, T: ?Sized>(&'a mut T);

// SAFETY: the pointer is the operand, exclusively borrowed for the whole call;
// every caller below says why the kernel writes no more than that.
unsafe impl<const COMMAND: Opcode, T: ?Sized> Ioctl for InPlace<'_, COMMAND, T> {
    type Output = ();

    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        COMMAND
    }

    fn as_ptr(&mut self) -> *mut c_void {
        core::ptr::from_mut(self.0).cast()
    }

    unsafe fn output_from_ptr(
        _answer: IoctlOutput,
        _operand: *mut c_void,
    ) -> rustix::io::Result<()> {
        Ok(())
    }
}

/// Executes one TDCALL; all of its registers are in `call` afterwards.
pub(crate) fn tdcall(fd: impl AsFd, call: &mut abi::Tdcall) -> Result<(), Errno> {
    let request = InPlace::<{ command::TDCALL }, _>(call);
    // SAFETY: the operand has the 56 bytes of the command number. What a TDCALL
    // may do to memory of this process is bounded by the kernel's policy, not
    // by this crate.
    unsafe { rustix::ioctl::ioctl(fd, request) }
}

/// Fills `words`, a structure that may grow, by COMMAND. The first word becomes
/// its head: size, and `selector`.
///
/// Only for commands whose operand begins with its size.
pub(crate) fn query<const COMMAND: Opcode>(
    fd: impl AsFd,
    selector: u32,
    words: &mut [u64],
) -> Result<(), Errno> {
    let Some(head) = words.first_mut() else {
        return Err(Errno::INVAL);
    };
    // Little-endian: the size is the low half. One word is left for it.
    *head = u64::from(selector) << 32;
    let len = u32::try_from(size_of_val(words)).map_err(|_| Errno::TOOBIG)?;
    words[0] |= u64::from(len);
    let request = InPlace::<COMMAND, [u64]>(words);
    // SAFETY: the kernel reads and writes as many bytes as the operand's first
    // word says, and that is the length of the slice.
    unsafe { rustix::ioctl::ioctl(fd, request) }
}

/// Reads the extended state of the current CPU's virtual processor into an
/// image, if there is one; tells size and components of an image in any case.
pub(crate) fn xsave_get(
    fd: impl AsFd,
    image: Option<&mut XsaveImage>,
) -> Result<(u32, u64), Errno> {
    let mut operand = abi::Xsave::default();
    if let Some(image) = image {
        operand.size = image.size();
        // CAST: widening.
        operand.image = image.lines_mut().as_mut_ptr().expose_provenance() as u64;
    }
    let request = InPlace::<{ command::VTL_XSAVE_GET }, _>(&mut operand);
    // SAFETY: the operand has the 24 bytes of the command number. The kernel
    // writes at most `size` bytes to the image, which has them, is borrowed
    // exclusively for the call, and takes any value; without one, `size` is 0.
    unsafe { rustix::ioctl::ioctl(fd, request) }?;
    Ok((operand.size, operand.xfeatures))
}

/// Replaces the extended state of the current CPU's virtual processor.
pub(crate) fn xsave_set(fd: impl AsFd, image: &XsaveImage) -> Result<(), Errno> {
    let mut operand = abi::Xsave {
        size: image.size(),
        flags: 0,
        xfeatures: image.xfeatures(),
        // CAST: widening.
        image: image.lines().as_ptr().expose_provenance() as u64,
    };
    let request = InPlace::<{ command::VTL_XSAVE_SET }, _>(&mut operand);
    // SAFETY: the operand has the 24 bytes of the command number. The kernel
    // reads `size` bytes of the image, which has them.
    unsafe { rustix::ioctl::ioctl(fd, request) }
}

/// A shared mapping, unmapped on drop.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: a mapping is an address range, valid in every thread of the process;
// who accesses it how is up to the owner types, which restrict themselves.
unsafe impl Send for Mapping {}
// SAFETY: as for `Send`; `&Mapping` only gives out the address.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `len` bytes of `fd` at `offset`, readable and writable, shared.
    pub(crate) fn new(fd: impl AsFd, offset: u64, len: usize) -> Result<Self, Errno> {
        Self::with(fd, offset, len, ProtFlags::READ | ProtFlags::WRITE)
    }

    /// Maps `len` bytes of `fd` at `offset`, readable, shared.
    pub(crate) fn read_only(fd: impl AsFd, offset: u64, len: usize) -> Result<Self, Errno> {
        Self::with(fd, offset, len, ProtFlags::READ)
    }

    fn with(fd: impl AsFd, offset: u64, len: usize, protection: ProtFlags) -> Result<Self, Errno> {
        // SAFETY: the kernel chooses an unused address, so no existing memory
        // is replaced.
        let start = unsafe {
            rustix::mm::mmap(
                core::ptr::null_mut(),
                len,
                protection,
                MapFlags::SHARED,
                fd,
                offset,
            )
        }?;
        let start = NonNull::new(start.cast()).ok_or(Errno::INVAL)?;
        Ok(Self { start, len })
    }

    /// Anonymous memory in place of a device page.
    #[cfg(test)]
    pub(crate) fn anonymous(len: usize) -> Result<Self, Errno> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: as in `new`.
        let start = unsafe {
            rustix::mm::mmap_anonymous(core::ptr::null_mut(), len, protection, MapFlags::PRIVATE)
        }?;
        let start = NonNull::new(start.cast()).ok_or(Errno::INVAL)?;
        Ok(Self { start, len })
    }

    /// First byte.
    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Length in bytes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `start` and `len` are what mmap gave in the constructor, and
        // every user of the address borrows or owns this mapping.
        let unmapped = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.len) };
        debug_assert_eq!(unmapped, Ok(()));
    }
}

/// The time-stamp counter, read in program order.
pub fn tsc() -> u64 {
    #[allow(
        unused_unsafe,
        reason = "safe with newer compilers than the oldest supported"
    )]
    // SAFETY: every x86-64 CPU has LFENCE.
    unsafe {
        core::arch::x86_64::_mm_lfence();
    }
    #[allow(
        unused_unsafe,
        reason = "safe with newer compilers than the oldest supported"
    )]
    // SAFETY: every x86-64 CPU has RDTSC, and Linux leaves it enabled in user
    // mode unless a process asks otherwise, which ends in SIGSEGV.
    unsafe {
        core::arch::x86_64::_rdtsc()
    }
}
