// SPDX-License-Identifier: GPL-2.0
//! The operand of a command: reads it, writes the answer, and follows pointers in it.
//!
//! Reading makes a copy; each field is read once, and the copy is checked.

use core::marker::PhantomData;

use kernel::prelude::*;
use kernel::transmute::{AsBytes, FromBytes};
use kernel::uaccess::{UserPtr, UserSlice};

use crate::glue::abi::mshv_vtl_head;

/// Memory of the calling process: the operand of a command, or what a field of it points to.
/// Accesses fail with EFAULT if it is not the process's.
#[derive(Clone, Copy)]
pub(crate) struct Argument(UserPtr);

impl Argument {
    /// The argument of the ioctl.
    pub(crate) fn new(argument: usize) -> Self {
        Self(UserPtr::from_addr(argument))
    }

    /// The target of a pointer in a field.
    pub(crate) fn pointer(address: u64) -> Self {
        Self::new(address as usize) // CAST: usize has 64 bits
    }

    /// A field of the operand at an offset.
    pub(crate) fn field(self, offset: usize) -> Self {
        Self(self.0.wrapping_byte_add(offset))
    }

    /// A slice of `len_bytes`, for reading or writing piece by piece.
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

    /// Reads a list of bytes. An empty list may have any address.
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

/// Limit for the size of a structure that may grow.
const MAX_BYTES: usize = 4096;
const HEAD_BYTES: usize = size_of::<mshv_vtl_head>();

/// An operand that begins with [`mshv_vtl_head`], in which the caller says its size, and that may
/// grow.
///
/// A caller with an older structure gets as much as fits in it. One with a newer structure gets
/// what this module knows, and is refused only if it has set a field that this module does not
/// know.
pub(crate) struct Growing<T> {
    argument: Argument,
    /// What the caller asks for.
    pub(crate) selector: u32,
    /// Size of the part that both the caller and this module know.
    len_bytes: usize,
    known: PhantomData<T>,
}

impl<T: AsBytes> Growing<T> {
    /// Reads the head of a structure whose first version has `min_bytes`, and checks the part that
    /// this module does not know.
    ///
    /// # Errors
    ///
    /// EFAULT. EINVAL: too small. E2BIG: a field is set that this module does not know, or it is
    /// far too large.
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

    /// Writes the part of an answer that both sides know, and its size.
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
