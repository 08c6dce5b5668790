// SPDX-License-Identifier: GPL-2.0
//! Pages that the host can read and write.
//!
//! What stands in one is the host's word: it is copied once and checked as a copy.

use kernel::page::PAGE_SIZE;
use kernel::prelude::*;

use crate::glue::ffi;
use crate::glue::page::SharedPage;

const WORD: usize = size_of::<u64>();

/// A page shared with the host as long as this lives. It is never mapped by userspace.
///
/// # Invariants
///
/// `page` is `Some` until `drop`, and shared with the host.
pub(crate) struct HostPage {
    page: Option<SharedPage>,
}

impl HostPage {
    /// Allocates a page and shares it; it is zeroed.
    ///
    /// # Errors
    ///
    /// ENOMEM, and what the conversion says. The page is then lost: nobody knows whose it is.
    pub(crate) fn new() -> Result<Self> {
        let page = SharedPage::new()?;
        if let Err(error) = ffi::share_page(page.page()) {
            pr_err!("the host did not take a page to share; it is lost\n");
            core::mem::forget(page);
            return Err(error);
        }
        // INVARIANT: just shared.
        Ok(Self { page: Some(page) })
    }

    /// Its guest-physical address, without the SHARED bit; zero for none, which never is.
    pub(crate) fn phys(&self) -> u64 {
        self.page.as_ref().map_or(0, SharedPage::phys)
    }

    /// Writes `bytes` from the start of the page on, as far as there is room, with zeros up to the
    /// next whole word.
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

    /// Copies from a multiple of a word on, each byte once.
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

    /// Reads a word, once.
    pub(crate) fn read_u32(&self, offset: usize) -> u32 {
        self.page.as_ref().map_or(0, |page| page.read_u32(offset))
    }

    /// Reads a word, once.
    pub(crate) fn read_u64(&self, offset: usize) -> u64 {
        self.page.as_ref().map_or(0, |page| page.read_u64(offset))
    }

    /// Writes a word, once.
    pub(crate) fn write_u32(&self, offset: usize, value: u32) {
        if let Some(page) = &self.page {
            page.write_u32(offset, value);
        }
    }

    /// Reads a word and leaves zero, in one step.
    pub(crate) fn take_u64(&self, offset: usize) -> u64 {
        let take = |page: &SharedPage| match page.read_u64(offset) {
            0 => 0, // as good as always, and cheaper to find out
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
        if ffi::unshare_page(page.page()).is_err() {
            pr_err!("the host did not give a shared page back; it is lost\n");
            // The kernel must not use as its own what the host can still read.
            core::mem::forget(page);
        }
    }
}
