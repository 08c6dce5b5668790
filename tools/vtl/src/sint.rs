// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! `/dev/mshv_sint`: messages and events of the host, if it is Hyper-V.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use zerocopy::{FromZeros as _, IntoBytes as _};

use crate::abi::operands;
use crate::{Error, Result, abi, device, sys};

/// The stream of messages and events from `/dev/mshv_sint`. It starts paused; use [`AsFd`] for
/// `poll`.
///
/// ```no_run
/// use vtl::sint::MessageFile;
///
/// # fn main() -> Result<(), vtl::Error> {
/// let file = MessageFile::open()?;
/// file.resume()?;
/// while let Some(message) = file.read()? {
///     println!("{:#x}: {:x?}", message.message_type, message.payload);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct MessageFile {
    fd: OwnedFd,
}

/// A message of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Type of the message, not zero.
    pub message_type: u32,
    /// The sender's partition or port.
    pub sender: u64,
    /// At most 240 bytes.
    pub payload: Vec<u8>,
}

impl Message {
    fn new(raw: &operands::RawMessage) -> Self {
        let len = usize::from(raw.payload_size).min(raw.payload.len());
        Self {
            message_type: raw.message_type,
            sender: raw.sender,
            payload: raw.payload[..len].to_vec(),
        }
    }
}

/// The host's answer: 0, or a 16-bit HV_STATUS code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostStatus(pub u16);

impl HostStatus {
    /// The host has no room for another message now.
    pub const INSUFFICIENT_BUFFERS: Self = Self(0x13);

    /// Returns true if the call succeeded.
    pub const fn is_success(self) -> bool {
        self.0 == 0
    }
}

impl MessageFile {
    /// Opens the device.
    ///
    /// # Errors
    /// [`Error::Open`]: ENOENT if the host is not Hyper-V, or the kernel's own driver uses the
    /// SynIC.
    pub fn open() -> Result<Self> {
        Ok(Self {
            fd: device::open(abi::DEV_MSHV_SINT)?,
        })
    }

    /// Waits for a message and takes it; `None` if the stream is paused and all messages have been
    /// read.
    ///
    /// # Errors
    /// [`Error::Command`]: EINTR if a signal is pending.
    pub fn read(&self) -> Result<Option<Message>> {
        let mut raw = operands::RawMessage::new_zeroed();
        let read = |errno: Errno| Error::Command {
            command: "read of a message",
            errno: errno.into(),
        };
        match rustix::io::read(&self.fd, raw.as_mut_bytes()).map_err(read)? {
            0 => Ok(None),
            _ => Ok(Some(Message::new(&raw))),
        }
    }

    /// Signals flag `flag`, below 2048, of a connection to the host.
    ///
    /// # Errors
    /// [`Error::Command`].
    pub fn signal_event(&self, connection_id: u32, flag: u32) -> Result<HostStatus> {
        let operand = operands::SignalEvent {
            connection_id,
            flag,
        };
        let status = sys::sint_event(&self.fd, operand);
        status
            .map(HostStatus)
            .map_err(Error::command("SINT_SIGNAL_EVENT"))
    }

    /// Posts a message of at most 240 bytes to a connection of the host.
    ///
    /// # Errors
    /// [`Error::Command`].
    pub fn post_message(
        &self,
        connection_id: u32,
        message_type: u32,
        payload: &[u8],
    ) -> Result<HostStatus> {
        let status = sys::sint_post(&self.fd, connection_id, message_type, payload);
        status
            .map(HostStatus)
            .map_err(Error::command("SINT_POST_MESSAGE"))
    }

    /// Makes the kernel signal `eventfd` when the host sets event flag `flag`, below 2048. It
    /// replaces an earlier eventfd, and is removed when this file is closed.
    ///
    /// # Errors
    /// [`Error::Command`].
    pub fn set_eventfd(&self, flag: u32, eventfd: impl AsFd) -> Result<()> {
        sys::sint_eventfd(&self.fd, flag, Some(eventfd.as_fd()))
            .map_err(Error::command("SINT_SET_EVENTFD"))
    }

    /// Removes the eventfd of a flag.
    ///
    /// # Errors
    /// [`Error::Command`].
    pub fn clear_eventfd(&self, flag: u32) -> Result<()> {
        sys::sint_eventfd(&self.fd, flag, None).map_err(Error::command("SINT_SET_EVENTFD"))
    }

    /// Pauses messages and events, for all files and CPUs.
    ///
    /// # Errors
    /// [`Error::Command`].
    pub fn pause(&self) -> Result<()> {
        sys::sint_pause(&self.fd, 1).map_err(Error::command("SINT_PAUSE_MESSAGE_STREAM"))
    }

    /// Resumes messages and events.
    ///
    /// # Errors
    /// [`Error::Command`].
    pub fn resume(&self) -> Result<()> {
        sys::sint_pause(&self.fd, 0).map_err(Error::command("SINT_PAUSE_MESSAGE_STREAM"))
    }
}

impl AsFd for MessageFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use zerocopy::FromBytes as _;

    proptest! {
        #[test]
        fn no_message_of_a_host_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 256)) {
            let raw = operands::RawMessage::read_from_bytes(&bytes);
            let message = raw.map(|raw| Message::new(&raw)).unwrap_or_default();
            prop_assert_eq!(message.payload.len(), usize::from(bytes[4]).min(240));
            prop_assert_eq!(&bytes[16..16 + message.payload.len()], &message.payload[..]);
            prop_assert_eq!(message.sender.to_le_bytes(), &bytes[8..16]);
        }
    }
}
