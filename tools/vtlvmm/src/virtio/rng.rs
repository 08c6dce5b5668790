// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Random numbers [VIRTIO 5.4], from this level's kernel.

use std::fs::File;
use std::io::Read as _;

use virtio_queue::DescriptorChain;

use super::buffers::Buffers;
use crate::memory::{Protected, Ram};

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
    pub(super) fn serve<M: Ram>(
        &mut self,
        memory: &M,
        protected: &Protected,
        chain: DescriptorChain<&M>,
    ) -> Option<u32> {
        const MOST: usize = 64 << 10;
        let mut to_guest = Buffers::new(memory, protected, chain)?;
        let mut bytes = vec![0; to_guest.room().min(MOST)];
        self.0.read_exact(&mut bytes).ok()?;
        to_guest.put(&bytes)?;
        u32::try_from(bytes.len()).ok()
    }
}
