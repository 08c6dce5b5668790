// SPDX-License-Identifier: GPL-2.0
//! Pages that the host can read and write.
//!
//! The contents are whatever the host writes: they are copied once, and the copy is checked.

use kernel::error::to_result;
use kernel::page::PAGE_SIZE;
use kernel::prelude::*;

use super::c;
use crate::glue::page::SharedPage;

const WORD: usize = size_of::<u64>();

/// A page that is shared with the host while this exists. Userspace never maps it.
///
/// # Invariants
///
/// `page` is `Some` until `drop`, and is shared with the host.
pub(crate) struct HostPage {
    page: Option<SharedPage>,
}

impl HostPage {
    /// Allocates a page and shares it. It is zeroed.
    ///
    /// # Errors
    ///
    /// ENOMEM, or the error of the conversion. The page is leaked then: its state is unknown.
    pub(crate) fn new() -> Result<Self> {
        let page = SharedPage::new()?;
        if let Err(error) = to_result(c::vtl_share_page(page.page().into())) {
            pr_err!("the host refused to share a page; the page is leaked\n");
            core::mem::forget(page);
            return Err(error);
        }
        // INVARIANT: the conversion above succeeded.
        Ok(Self { page: Some(page) })
    }

    /// Its guest-physical address, without the SHARED bit.
    pub(crate) fn phys(&self) -> u64 {
        self.page.as_ref().map_or(0, SharedPage::phys)
    }

    /// Writes `bytes` to the start of the page, as far as they fit, and zeros up to the next whole
    /// word.
    pub(crate) fn write(&self, bytes: &[u8]) {
        let Some(page) = &self.page else { return };
        for (index, chunk) in bytes.chunks(WORD).take(PAGE_SIZE / WORD).enumerate() {
            let mut word = [0; WORD];
            for (to, from) in word.iter_mut().zip(chunk) {
                *to = *from;
            }
            page.write_u64(index * WORD, u64::from_le_bytes(word));
        }
    }

    /// Copies from `offset`, a multiple of 8, reading each byte once.
    pub(crate) fn read_at(&self, offset: usize, bytes: &mut [u8]) {
        let Some(page) = &self.page else { return };
        for (index, chunk) in bytes.chunks_mut(WORD).take(PAGE_SIZE / WORD).enumerate() {
            let word = page.read_u64(offset + index * WORD).to_le_bytes();
            for (to, from) in chunk.iter_mut().zip(word) {
                *to = from;
            }
        }
    }

    /// Reads a byte, once.
    pub(crate) fn read_u8(&self, offset: usize) -> u8 {
        self.page.as_ref().map_or(0, |page| page.read_u8(offset))
    }

    /// Reads a 4-byte word, once.
    pub(crate) fn read_u32(&self, offset: usize) -> u32 {
        self.page.as_ref().map_or(0, |page| page.read_u32(offset))
    }

    /// Reads an 8-byte word, once.
    pub(crate) fn read_u64(&self, offset: usize) -> u64 {
        self.page.as_ref().map_or(0, |page| page.read_u64(offset))
    }

    /// Writes a 4-byte word, once.
    pub(crate) fn write_u32(&self, offset: usize, value: u32) {
        if let Some(page) = &self.page {
            page.write_u32(offset, value);
        }
    }

    /// Atomically reads an 8-byte word and sets it to zero.
    pub(crate) fn take_u64(&self, offset: usize) -> u64 {
        let take = |page: &SharedPage| match page.read_u64(offset) {
            0 => 0, // the common case, which needs no locked access
            _ => page.take_u64(offset),
        };
        self.page.as_ref().map_or(0, take)
    }

    /// Zeroes the first bytes, up to a whole word.
    pub(crate) fn clear(&self, len_bytes: usize) {
        let Some(page) = &self.page else { return };
        for index in 0..len_bytes.min(PAGE_SIZE).div_ceil(WORD) {
            page.write_u64(index * WORD, 0);
        }
    }
}

impl Drop for HostPage {
    fn drop(&mut self) {
        let Some(page) = self.page.take() else { return };
        if to_result(c::vtl_unshare_page(page.page().into())).is_err() {
            pr_err!("the host refused to return a shared page; the page is leaked\n");
            // The host can still access it, so the kernel must not reuse it.
            core::mem::forget(page);
        }
    }
}
