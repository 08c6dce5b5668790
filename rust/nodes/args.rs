// SPDX-License-Identifier: GPL-2.0
//! The argument of a command: reads it, writes the answer, and follows the pointers in it.
//!
//! What is read is a copy, to be read once and checked as a copy.

use core::marker::PhantomData;

use kernel::prelude::*;
use kernel::transmute::{AsBytes, FromBytes};
use kernel::uaccess::{UserPtr, UserSlice};

use crate::glue::abi::mshv_vtl_head;

/// Memory of the calling process: the argument of a command, or what a field of it points to. EFAULT,
/// whenever it is used, if it is not the process's.
#[derive(Clone, Copy)]
pub(crate) struct Argument(UserPtr);

impl Argument {
    /// What the command got.
    pub(crate) fn new(argument: usize) -> Self {
        Self(UserPtr::from_addr(argument))
    }

    /// What a field of an operand points to.
    pub(crate) fn pointer(address: u64) -> Self {
        Self::new(address as usize) // CAST: usize has 64 bits
    }

    /// A field of the operand, by its offset.
    pub(crate) fn field(self, offset: usize) -> Self {
        Self(self.0.wrapping_byte_add(offset))
    }

    /// So many bytes, for whoever reads or writes them one by one.
    pub(crate) fn bytes(self, len_bytes: usize) -> UserSlice {
        UserSlice::new(self.0, len_bytes)
    }

    /// Reads a value.
    pub(crate) fn read<T: FromBytes>(self) -> Result<T> {
        self.bytes(size_of::<T>()).reader().read()
    }

    /// Writes a value.
    pub(crate) fn write<T: AsBytes>(self, value: &T) -> Result {
        self.bytes(size_of::<T>()).writer().write(value)
    }

    /// Reads a list of bytes. An empty one may have any address.
    ///
    /// # Errors
    ///
    /// EFAULT, ENOMEM.
    pub(crate) fn read_list(self, len_bytes: usize) -> Result<KVec<u8>> {
        let mut list = KVec::new();
        if len_bytes != 0 {
            self.bytes(len_bytes).read_all(&mut list, GFP_KERNEL)?;
        }
        Ok(list)
    }
}

/// No growing structure is longer.
const MAX_BYTES: usize = 4096;
const HEAD_BYTES: usize = size_of::<mshv_vtl_head>();

/// An operand that begins with [`mshv_vtl_head`], which has the size that the caller gives it, and that
/// may grow.
///
/// A caller with an older structure gets as much as it has room for. One with a newer structure gets what
/// this module knows, and is refused only when it has set what this module does not know.
pub(crate) struct Growing<T> {
    argument: Argument,
    /// What the caller asks about.
    pub(crate) selector: u32,
    /// What both the caller and this module know.
    len_bytes: usize,
    known: PhantomData<T>,
}

impl<T: AsBytes> Growing<T> {
    /// Reads the head of a structure whose first version has `min_bytes`, and checks what is after
    /// the part that this module knows.
    ///
    /// # Errors
    ///
    /// EFAULT. EINVAL: too small. E2BIG: something set that this module does not know, or far too large.
    pub(crate) fn read(argument: Argument, min_bytes: usize) -> Result<Self> {
        let mshv_vtl_head { size, selector } = argument.read()?;
        let size = size as usize; // CAST: u32 fits
        if size < min_bytes {
            return Err(EINVAL);
        }
        if size > MAX_BYTES {
            return Err(E2BIG);
        }
        let len_bytes = size.min(size_of::<T>());
        let mut tail = argument.field(len_bytes).bytes(size - len_bytes).reader();
        while !tail.is_empty() {
            if tail.read::<u8>()? != 0 {
                return Err(E2BIG);
            }
        }
        Ok(Self {
            argument,
            selector,
            len_bytes,
            known: PhantomData,
        })
    }

    /// Writes as much of an answer as both know, and how much that is.
    ///
    /// # Errors
    ///
    /// EFAULT.
    pub(crate) fn answer(self, answer: &T) -> Result<isize> {
        self.argument.write(&mshv_vtl_head {
            size: self.len_bytes as u32, // CAST: at most `MAX_BYTES`
            selector: self.selector,
        })?;
        let known = HEAD_BYTES..self.len_bytes;
        let body = answer.as_bytes().get(known).unwrap_or_default();
        let to = self.argument.field(HEAD_BYTES);
        to.bytes(body.len()).writer().write_slice(body)?;
        Ok(0)
    }
}
