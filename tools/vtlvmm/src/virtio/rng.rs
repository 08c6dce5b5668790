// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Random numbers [VIRTIO 5.4], from this level's kernel.

use std::fs::File;
use std::io::{Read as _, Write as _};

use virtio_queue::DescriptorChain;

use crate::memory::Ram;

/// A source of random numbers.
#[derive(Debug)]
pub struct Random(File);

impl Random {
    /// Where the kernel gives them.
    pub const SOURCE: &'static str = "/dev/urandom";

    /// From an open file of [`Self::SOURCE`].
    pub const fn new(source: File) -> Self {
        Self(source)
    }

    /// Fills the guest's buffers, up to 64 KiB. Returns `None` if the chain is no valid request.
    pub(super) fn serve<M: Ram>(&mut self, memory: &M, chain: DescriptorChain<&M>) -> Option<u32> {
        const MOST: usize = 64 << 10;
        let mut writer = chain.writer(memory).ok()?;
        let mut bytes = vec![0; writer.available_bytes().min(MOST)];
        self.0.read_exact(&mut bytes).ok()?;
        writer.write_all(&bytes).ok()?;
        u32::try_from(bytes.len()).ok()
    }
}
