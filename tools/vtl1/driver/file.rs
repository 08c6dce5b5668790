// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! `/dev/vtl1`: one write is one request, and what is read afterwards is its output, as with a TPM.
//!
//! A request is a command number and a zero, both u32, then the input. A write that fails leaves
//! nothing to read. Each open file has a reply of its own, which is read once and from its beginning,
//! whatever offset a read names.

use kernel::fs::{File, Kiocb};
use kernel::iov::{IovIterDest, IovIterSource};
use kernel::miscdevice::{MiscDevice, MiscDeviceRegistration};
use kernel::new_mutex;
use kernel::prelude::*;
use kernel::sync::Mutex;

use crate::channel::{self, Command};

const HEADER_LEN: usize = 8;

/// A file of a process.
#[pin_data]
pub(crate) struct OpenFile {
    #[pin]
    reply: Mutex<Reply>,
}

/// What is read next.
struct Reply {
    bytes: Secret,
    /// How many have been read.
    read: usize,
}

impl Reply {
    const NONE: Self = Self {
        bytes: Secret(KVec::new()),
        read: 0,
    };
}

/// Bytes that are erased when they are not needed any more.
struct Secret(KVec<u8>);

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.fill(0);
    }
}

#[vtable]
impl MiscDevice for OpenFile {
    type Ptr = Pin<KBox<Self>>;

    fn open(_file: &File, _node: &MiscDeviceRegistration<Self>) -> Result<Self::Ptr> {
        KBox::try_pin_init(
            try_pin_init!(Self {
                reply <- new_mutex!(Reply::NONE),
            }),
            GFP_KERNEL,
        )
    }

    fn write_iter(about: Kiocb<'_, Self::Ptr>, from: &mut IovIterSource<'_>) -> Result<usize> {
        let file = about.file();
        *file.reply.lock() = Reply::NONE;
        let len = from.len();
        if len > HEADER_LEN + channel::MOST {
            return Err(EMSGSIZE);
        }
        // All of it, and before any lock: copying may wait for the process.
        let mut request = Secret(KVec::new());
        if from.copy_from_iter_vec(&mut request.0, GFP_KERNEL)? != len {
            return Err(EFAULT);
        }
        let mut reply = file.reply.lock();
        // That of another thread's request.
        *reply = Reply::NONE;
        reply.bytes.0 = carry_out(&request.0)?;
        Ok(len)
    }

    fn read_iter(about: Kiocb<'_, Self::Ptr>, to: &mut IovIterDest<'_>) -> Result<usize> {
        let file = about.file();
        let mut reply = file.reply.lock();
        let Reply { bytes, read } = &mut *reply;
        let rest = &bytes.0[*read..];
        let is_over = rest.is_empty() || to.is_empty();
        let copied = to.copy_to_iter(rest);
        *read += copied;
        if copied == 0 && !is_over {
            return Err(EFAULT);
        }
        Ok(copied)
    }
}

/// Returns the output for a request.
fn carry_out(request: &[u8]) -> Result<KVec<u8>> {
    let (number, rest) = request.split_first_chunk().ok_or(EINVAL)?;
    let (zero, input) = rest.split_first_chunk::<4>().ok_or(EINVAL)?;
    if *zero != [0; 4] {
        return Err(EINVAL);
    }
    let command = Command::new(u32::from_le_bytes(*number)).ok_or(EOPNOTSUPP)?;
    channel::ask(command, input)
}
