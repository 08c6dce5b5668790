// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Commands of `/dev/mshv` and of a VTL file.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::Errno;
use rustix::ioctl::Opcode;
use zerocopy::{FromBytes, FromZeros as _, IntoBytes};

use super::request::{InPlace, Request};
use crate::abi::operands::{self, Head};
use crate::abi::{SwitchSetup, Tdcall, command};
use crate::xsave::XsaveImage;
use crate::{Error, Vtl};

/// Queries capability `number`; returns the kernel's answer.
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
    // SAFETY: CREATE_VTL accesses at most 1 byte, the operand's size.
    let raw = unsafe { rustix::ioctl::ioctl(fd, request) }?;
    // SAFETY: the kernel has just created this descriptor for us, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Runs the virtual processor of the current CPU until it has to come back.
pub(crate) fn return_to_lower_vtl(fd: impl AsFd) -> Result<(), Errno> {
    let request = Request::<{ command::RETURN_TO_LOWER_VTL }, ()> { operand: () };
    // SAFETY: RETURN_TO_LOWER_VTL has no operand. It writes the run page, which
    // is accessed by atomic loads and stores only (`Mapping`).
    unsafe { rustix::ioctl::ioctl(fd, request) }?;
    Ok(())
}

/// Executes one TDCALL; all of its registers are in `call` afterwards.
pub(crate) fn tdcall(fd: impl AsFd, call: &mut Tdcall) -> Result<(), Errno> {
    let request = InPlace::<{ command::TDCALL }, _>(call);
    // SAFETY: the operand has the 56 bytes of the command number. The kernel's policy keeps a TDCALL
    // away from memory of this process, but for pages that the operand names; the safe functions
    // name none but that of `Vp::new_apic_page`, and `Vtl::tdcall` leaves it to its caller.
    unsafe { rustix::ioctl::ioctl(fd, request) }?;
    Ok(())
}

impl Vtl {
    /// Executes one TDCALL leaf with exactly these registers.
    ///
    /// On return `call` has the outputs, including the status: a refusal by the TDX module or by
    /// the kernel's policy is a status, not an error.
    ///
    /// # Safety
    /// The kernel's policy keeps the TDX module away from memory of others, but it allows the caller
    /// to name pages of its own, by their physical addresses: a virtual-APIC page, which a VM writes
    /// to from then on, and a list of addresses to invalidate. The caller must not use such a page
    /// for anything else, for as long as the TDX module has it.
    ///
    /// # Errors
    /// [`Error::TdcallIoctl`].
    pub unsafe fn tdcall(&self, call: &mut Tdcall) -> Result<(), Error> {
        self.call(call)
    }
}

/// A structure that may grow: it begins with its head.
pub(crate) trait Grows: FromBytes + IntoBytes {
    fn head(&mut self) -> &mut Head;
}

/// Fills `answer` by COMMAND, with `selector`.
pub(crate) fn query<const COMMAND: Opcode, T: Grows>(
    fd: impl AsFd,
    selector: u32,
    answer: &mut T,
) -> Result<(), Errno> {
    const {
        assert!(size_of::<T>() <= 4096, "the kernel takes no more");
    }
    *answer.head() = Head {
        // CAST: see the assertion.
        size: size_of::<T>() as u32,
        selector,
    };
    let request = InPlace::<COMMAND, T>(answer);
    // SAFETY: the kernel reads and writes as many bytes as the head says, which is the size of
    // the structure; whatever it writes is a value (`FromBytes`).
    unsafe { rustix::ioctl::ioctl(fd, request) }?;
    Ok(())
}

/// Reads an event of the attested log; how many bytes it has.
pub(crate) fn read_event(fd: impl AsFd, number: u64, event: &mut [u8]) -> Result<usize, Errno> {
    let mut operand = operands::AuditEvent::new_zeroed();
    operand.number = number;
    operand.buffer = address_mut(event);
    // An event never has 4 GiB; the kernel writes no more than there is room.
    operand.size = u32::try_from(event.len()).unwrap_or(u32::MAX);
    // The kernel accesses the operand as `query` says, and writes the event, no more bytes of
    // which than the size says: the slice is borrowed for the call.
    query::<{ command::VTL_AUDIT_EVENT }, _>(fd, 0, &mut operand)?;
    // CAST: u32 fits.
    Ok(operand.size as usize)
}

/// Has Linux's driver `tdx-guest` make a TDREPORT.
pub(crate) fn tdx_report(fd: impl AsFd, data: &[u8; 64]) -> Result<[u8; 1024], Errno> {
    const GET_REPORT0: Opcode = 0xc440_5401;
    let mut operand = operands::TdxReport {
        data: *data,
        report: [0; 1024],
    };
    let request = InPlace::<GET_REPORT0, _>(&mut operand);
    // SAFETY: the command reads and writes 1088 bytes, as its number says: the operand's size.
    unsafe { rustix::ioctl::ioctl(fd, request) }?;
    Ok(operand.report)
}

/// Makes the virtual processor of the current CPU new.
pub(crate) fn reset(fd: impl AsFd) -> Result<(), Errno> {
    let operand = Head {
        size: 8,
        selector: 0,
    };
    let request = Request::<{ command::VTL_RESET }, _> { operand };
    // SAFETY: the kernel reads as many bytes as the head says, which is the operand's size.
    unsafe { rustix::ioctl::ioctl(fd, request) }?;
    Ok(())
}

/// Lets the kernel carry out VTL switches on `cpu`, with VTL1's assist page at `assist`; 0 ends it.
pub(crate) fn set_up_switch(fd: impl AsFd, cpu: u32, assist: u64) -> Result<(), Errno> {
    let operand = SwitchSetup {
        size: SwitchSetup::SIZE,
        cpu,
        assist,
        flags: 0,
    };
    let request = Request::<{ command::VTL_SWITCH_SETUP }, _> { operand };
    // SAFETY: the kernel reads as many bytes as the head says, which is the operand's size. It
    // accesses the page at `assist` as this process could, and only words that are shared with a
    // lower VTL (`Mapping`).
    unsafe { rustix::ioctl::ioctl(fd, request) }?;
    Ok(())
}

/// Reads the extended state of the current CPU's virtual processor into an image, if one is given;
/// returns size and components of an image in any case.
pub(crate) fn xsave_get(
    fd: impl AsFd,
    image: Option<&mut XsaveImage>,
) -> Result<(u32, u64), Errno> {
    let mut operand = operands::Xsave::default();
    if let Some(image) = image {
        operand.size = image.size();
        operand.image = address_mut(image.bytes_mut());
    }
    let request = InPlace::<{ command::VTL_XSAVE_GET }, _>(&mut operand);
    // SAFETY: the operand has the 24 bytes of the command number. The kernel writes at most `size`
    // bytes to the image, which is that long, is borrowed exclusively for the call, and may hold
    // any value; without an image, `size` is 0.
    unsafe { rustix::ioctl::ioctl(fd, request) }?;
    Ok((operand.size, operand.xfeatures))
}

/// Replaces the extended state of the current CPU's virtual processor.
pub(crate) fn xsave_set(fd: impl AsFd, image: &XsaveImage) -> Result<(), Errno> {
    let operand = operands::Xsave {
        size: image.size(),
        flags: 0,
        xfeatures: image.xfeatures(),
        image: address(image.bytes()),
    };
    let request = Request::<{ command::VTL_XSAVE_SET }, _> { operand };
    // SAFETY: the operand has the 24 bytes of the command number. The kernel reads `size` bytes of
    // the image, which is that long.
    unsafe { rustix::ioctl::ioctl(fd, request) }?;
    Ok(())
}

/// Reads registers; on failure also which one was refused.
pub(crate) fn get_registers(
    fd: impl AsFd,
    list: &mut [operands::Register],
) -> Result<(), (Errno, u32)> {
    let mut operand = operands::VpRegisters {
        count: u32::try_from(list.len()).unwrap_or(u32::MAX),
        failed: u32::MAX,
        registers: address_mut(list.as_mut_bytes()),
    };
    let request = InPlace::<{ command::GET_VP_REGISTERS }, _>(&mut operand);
    // SAFETY: the operand has the 16 bytes of the command number. The kernel reads and writes
    // `count` registers of 32 bytes, which the list has (a count that does not fit is refused),
    // and which take any value.
    let outcome = unsafe { rustix::ioctl::ioctl(fd, request) };
    outcome.map(drop).map_err(|errno| (errno, operand.failed))
}

/// Writes registers; likewise.
pub(crate) fn set_registers(
    fd: impl AsFd,
    list: &[operands::Register],
) -> Result<(), (Errno, u32)> {
    let mut operand = operands::VpRegisters {
        count: u32::try_from(list.len()).unwrap_or(u32::MAX),
        failed: u32::MAX,
        registers: address(list.as_bytes()),
    };
    let request = InPlace::<{ command::SET_VP_REGISTERS }, _>(&mut operand);
    // SAFETY: the operand has the 16 bytes of the command number. The kernel reads `count`
    // registers of 32 bytes, which the list has (a count that does not fit is refused).
    let outcome = unsafe { rustix::ioctl::ioctl(fd, request) };
    outcome.map(drop).map_err(|errno| (errno, operand.failed))
}

/// Has `file` cancel runs of the virtual processor of `cpu`, or nothing.
pub(crate) fn set_poll_file(
    fd: impl AsFd,
    cpu: u32,
    file: Option<BorrowedFd<'_>>,
) -> Result<(), Errno> {
    const NONE: RawFd = -1;
    let operand = operands::PollFile {
        cpu,
        fd: file.map_or(NONE, |file| file.as_raw_fd()),
    };
    let request = Request::<{ command::SET_POLL_FILE }, _> { operand };
    // SAFETY: SET_POLL_FILE reads 8 bytes, the operand's size. The kernel takes its own reference
    // to the file.
    unsafe { rustix::ioctl::ioctl(fd, request) }?;
    Ok(())
}

/// Brings the virtual processors of `mask` out of lower VTLs: bit n of byte m is CPU 8 m + n.
pub(crate) fn kick(fd: impl AsFd, mask: &[u8], flags: u64) -> Result<(), Errno> {
    let operand = operands::RawKick {
        // CAST: widening.
        len_bits: mask.len() as u64 * 8,
        cpu_mask: address(mask),
        flags,
    };
    let request = Request::<{ command::KICK_CPUS }, _> { operand };
    // SAFETY: KICK_CPUS reads 24 bytes, the operand's size, and `len_bits` bits of the mask, which
    // is that long.
    unsafe { rustix::ioctl::ioctl(fd, request) }?;
    Ok(())
}

/// Makes or removes the mapping of a redirected interrupt; returns the vector.
pub(crate) fn map_interrupt(
    fd: impl AsFd,
    mut operand: operands::MapInterrupt,
) -> Result<u32, Errno> {
    let request = InPlace::<{ command::MAP_REDIRECTED_DEVICE_INTERRUPT }, _>(&mut operand);
    // SAFETY: the operand has the 16 bytes of the command number.
    unsafe { rustix::ioctl::ioctl(fd, request) }?;
    Ok(operand.vector)
}

/// Registers memory, from its first page frame to its last, exclusive.
pub(crate) fn add_memory(fd: impl AsFd, operand: operands::RamDisposition) -> Result<(), Errno> {
    let request = Request::<{ command::ADD_VTL0_MEMORY }, _> { operand };
    // SAFETY: ADD_VTL0_MEMORY reads 16 bytes, the operand's size.
    unsafe { rustix::ioctl::ioctl(fd, request) }?;
    Ok(())
}

/// Which bits of CR4 a lower VTL may set.
pub(crate) fn cr4_fixed1(fd: impl AsFd) -> Result<u64, Errno> {
    let mut operand = 0u64;
    let request = InPlace::<{ command::READ_VMX_CR4_FIXED1 }, _>(&mut operand);
    // SAFETY: READ_VMX_CR4_FIXED1 writes 8 bytes, the operand's size.
    unsafe { rustix::ioctl::ioctl(fd, request) }?;
    Ok(operand)
}

/// Sets the time of the partition, which the kernel refuses.
pub(crate) fn restore_time(fd: impl AsFd, operand: operands::PartitionTime) -> Result<(), Errno> {
    let request = Request::<{ command::RESTORE_PARTITION_TIME }, _> { operand };
    // SAFETY: RESTORE_PARTITION_TIME reads at most 24 bytes, the operand's size.
    unsafe { rustix::ioctl::ioctl(fd, request) }?;
    Ok(())
}

/// Address of bytes that the kernel reads.
pub(super) fn address(bytes: &[u8]) -> u64 {
    // CAST: widening.
    bytes.as_ptr().expose_provenance() as u64
}

/// Address of bytes that the kernel writes.
pub(super) fn address_mut(bytes: &mut [u8]) -> u64 {
    // CAST: widening.
    bytes.as_mut_ptr().expose_provenance() as u64
}
