// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Commands of `/dev/mshv_hvcall` and `/dev/mshv_sint`, which exist where the host is Hyper-V.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use rustix::io::Errno;

use super::request::{InPlace, Request};
use super::vtl::{address, address_mut};
use crate::abi::{command, operands};

/// Says which hypercalls a file is going to make: bit n of byte m is code 8 m + n.
pub(crate) fn hvcall_setup(fd: impl AsFd, list: &[u8]) -> Result<(), Errno> {
    let operand = operands::HvcallSetup {
        // CAST: widening.
        bitmap_array_size: list.len() as u64,
        allow_bitmap_ptr: address(list),
    };
    let request = Request::<{ command::HVCALL_SETUP }, _> { operand };
    // SAFETY: HVCALL_SETUP reads 16 bytes, the operand's size, and the list, whose length and
    // address are those of a slice.
    unsafe { rustix::ioctl::ioctl(fd, request) }?;
    Ok(())
}

/// Makes a hypercall; the host's status.
pub(crate) fn hvcall(
    fd: impl AsFd,
    control: u64,
    input: &[u8],
    output: &mut [u8],
) -> Result<u64, Errno> {
    let mut operand = operands::Hvcall {
        control,
        // CAST: widening.
        input_size: input.len() as u64,
        input_ptr: address(input),
        status: 0,
        output_size: output.len() as u64,
        output_ptr: address_mut(output),
    };
    let request = InPlace::<{ command::HVCALL }, _>(&mut operand);
    // SAFETY: the operand has the 48 bytes of the command number. The kernel reads the input and
    // writes the output, each of the length it was given; both are borrowed for the call.
    unsafe { rustix::ioctl::ioctl(fd, request) }?;
    Ok(operand.status)
}

/// Signals an event; the host's status.
pub(crate) fn sint_event(fd: impl AsFd, operand: operands::SignalEvent) -> Result<u16, Errno> {
    let request = Request::<{ command::SINT_SIGNAL_EVENT }, _> { operand };
    // SAFETY: SINT_SIGNAL_EVENT reads 8 bytes, the operand's size.
    let answer = unsafe { rustix::ioctl::ioctl(fd, request) }?;
    // CAST: a status of the host has 16 bits.
    Ok(answer as u16)
}

/// Posts a message; the host's status.
pub(crate) fn sint_post(
    fd: impl AsFd,
    connection_id: u32,
    message_type: u32,
    payload: &[u8],
) -> Result<u16, Errno> {
    let operand = operands::PostMessage {
        message_type: message_type.into(),
        connection_id,
        payload_size: u32::try_from(payload.len()).unwrap_or(u32::MAX),
        payload_ptr: address(payload),
    };
    let request = Request::<{ command::SINT_POST_MESSAGE }, _> { operand };
    // SAFETY: SINT_POST_MESSAGE reads 24 bytes, the operand's size, and the payload, of the
    // length it was given (one that does not fit is refused).
    let answer = unsafe { rustix::ioctl::ioctl(fd, request) }?;
    // CAST: a status of the host has 16 bits.
    Ok(answer as u16)
}

/// Has an eventfd signalled for an event flag of the host, or nothing.
pub(crate) fn sint_eventfd(
    fd: impl AsFd,
    flag: u32,
    eventfd: Option<BorrowedFd<'_>>,
) -> Result<(), Errno> {
    const NONE: RawFd = -1;
    let operand = operands::SetEventfd {
        fd: eventfd.map_or(NONE, |eventfd| eventfd.as_raw_fd()),
        flag,
    };
    let request = Request::<{ command::SINT_SET_EVENTFD }, _> { operand };
    // SAFETY: SINT_SET_EVENTFD reads 8 bytes, the operand's size. The kernel takes its own
    // reference to the eventfd.
    unsafe { rustix::ioctl::ioctl(fd, request) }?;
    Ok(())
}

/// Pauses the stream of messages and events (1), or resumes it (0).
pub(crate) fn sint_pause(fd: impl AsFd, mask: u8) -> Result<(), Errno> {
    let operand = operands::SintMask {
        mask,
        reserved: [0; 7],
    };
    let request = Request::<{ command::SINT_PAUSE_MESSAGE_STREAM }, _> { operand };
    // SAFETY: SINT_PAUSE_MESSAGE_STREAM reads 8 bytes, the operand's size.
    unsafe { rustix::ioctl::ioctl(fd, request) }?;
    Ok(())
}
