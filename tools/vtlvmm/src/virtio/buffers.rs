// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The buffers of a request that a device writes to.
//!
//! VTL1 may protect pages at any time, and waits then for the writes that have begun. A request can be
//! long, so each piece is a write of its own, to what is not protected when it begins.

use std::collections::VecDeque;

use virtio_queue::DescriptorChain;
use vm_memory::{Address as _, Bytes as _, GuestAddress};

use crate::memory::{Protected, Ram};

/// The buffers, as far as they are not written.
pub(super) struct Buffers<'a, M> {
    memory: &'a M,
    protected: &'a Protected,
    left: VecDeque<(GuestAddress, usize)>,
}

impl<'a, M: Ram> Buffers<'a, M> {
    /// Those of a chain; `None` if one of them is not in memory, or is protected already.
    pub(super) fn new(
        memory: &'a M,
        protected: &'a Protected,
        chain: DescriptorChain<&M>,
    ) -> Option<Self> {
        let left: VecDeque<_> = chain
            .writable()
            // CAST: widening.
            .map(|buffer| (buffer.addr(), buffer.len() as usize))
            .collect();
        let is_in_memory = |(at, len): &(GuestAddress, usize)| memory.get_slice(*at, *len).is_ok();
        left.iter().all(is_in_memory).then_some(Self {
            memory,
            protected,
            left,
        })
    }

    /// How many bytes have room: less than 4 GiB, as in any chain.
    pub(super) fn room(&self) -> usize {
        self.left.iter().map(|(_, len)| len).sum()
    }

    /// Splits off the last byte; `None` if there is none.
    pub(super) fn split_last(&mut self) -> Option<Self> {
        let (at, len) = loop {
            let (at, len) = self.left.pop_back()?;
            if let Some(rest) = len.checked_sub(1) {
                break (at, rest);
            }
        };
        self.left.push_back((at, len));
        Some(Self {
            memory: self.memory,
            protected: self.protected,
            // CAST: widening.
            left: [(at.checked_add(len as u64)?, 1)].into(),
        })
    }

    /// Writes `bytes` after those of the last call; `None` if there is no room for them, or what is there
    /// was protected meanwhile. Buffers that were filled before are no room then.
    pub(super) fn put(&mut self, mut bytes: &[u8]) -> Option<()> {
        let _writing = self.protected.writing();
        while !bytes.is_empty() {
            let (at, len) = self.left.front_mut()?;
            let (now, later) = bytes.split_at(bytes.len().min(*len));
            if !now.is_empty() {
                self.memory.write_slice(now, *at).ok()?;
            }
            // CAST: widening.
            *at = at.checked_add(now.len() as u64)?;
            *len -= now.len();
            if *len == 0 {
                self.left.pop_front();
            }
            bytes = later;
        }
        Some(())
    }
}
