// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Memory for one request and its reply, and the form of both. One request at a time.
//!
//! No address of a process ever reaches VTL1: what it reads and writes is this memory.

// UNSAFETY: memory shared with VTL1, and a lock that is initialised at run time.
#![expect(unsafe_code)]

use kernel::device::{Bound, Device};
use kernel::dma::Coherent;
use kernel::prelude::*;

use crate::call::{vtl_call, Reply};

/// Version of the interface that this driver knows.
pub(crate) const VERSION: u32 = 1;
/// Most bytes of an input or output: those of 16 KiB that are sealed.
pub(crate) const MOST: usize = (16 << 10) + 44;

const REQUEST_LEN: usize = 64;
/// Where input and output are, after the request: page by page, so that nothing overlaps.
const INPUT: usize = 0x1000;
const OUTPUT: usize = INPUT + MOST.next_multiple_of(0x1000);
const LEN: usize = OUTPUT + MOST.next_multiple_of(0x1000);

/// A service of VTL1. *protect* is not among them: it would have processes name physical addresses,
/// and VTL0's kernel could not know any more where it can write.
#[derive(Clone, Copy)]
pub(crate) enum Command {
    Identify = 1,
    Sign = 2,
    Count = 3,
    Seal = 4,
    Unseal = 5,
}

impl Command {
    /// The service of this number.
    pub(crate) fn new(number: u32) -> Option<Self> {
        Some(match number {
            1 => Self::Identify,
            2 => Self::Sign,
            3 => Self::Count,
            4 => Self::Seal,
            5 => Self::Unseal,
            _ => return None,
        })
    }
}

/// What VTL1 says about itself.
pub(crate) struct Identity {
    pub(crate) version: u32,
    /// Identifier of its keys, big-endian.
    pub(crate) keys: [u64; 2],
}

kernel::sync::global_lock! {
    // SAFETY: `init` is called when the module begins, before its driver and its files exist.
    unsafe(uninit) static CHANNEL: Mutex<Option<Channel>> = None;
}

/// To be called once, before anything else here.
pub(crate) fn init() {
    // SAFETY: only `Module::init` calls this, once for each time the module is loaded.
    unsafe { CHANNEL.init() };
}

/// Files can use the channel as long as this exists; then they get ENODEV.
pub(crate) struct Open(());

/// Makes the channel available to files.
///
/// # Errors
///
/// EBUSY if there is one already.
pub(crate) fn open(channel: Channel) -> Result<Open> {
    let mut current = CHANNEL.lock();
    if current.is_some() {
        return Err(EBUSY);
    }
    *current = Some(channel);
    Ok(Open(()))
}

impl Drop for Open {
    fn drop(&mut self) {
        *CHANNEL.lock() = None;
    }
}

/// Has VTL1 carry out a command; returns the output.
///
/// # Errors
///
/// ENODEV without VTL1; those of [`Channel::ask`].
pub(crate) fn ask(command: Command, input: &[u8]) -> Result<KVec<u8>> {
    let mut current = CHANNEL.lock();
    current.as_mut().ok_or(ENODEV)?.ask(command, input)
}

/// The memory.
pub(crate) struct Channel {
    memory: Coherent<[u8]>,
}

impl Channel {
    /// Without an IOMMU, and this device has none, an address for DMA is a guest-physical one; the
    /// memory is contiguous, and the first byte at the begin of a page.
    pub(crate) fn new(device: &Device<Bound>) -> Result<Self> {
        Ok(Self {
            memory: Coherent::zeroed_slice(device, LEN, GFP_KERNEL)?,
        })
    }

    /// # Errors
    ///
    /// As [`Self::ask`], and EIO for a reply that is none.
    pub(crate) fn identify(&mut self) -> Result<Identity> {
        let bytes = self.ask(Command::Identify, &[])?;
        let (version, rest) = bytes.split_first_chunk().ok_or(EIO)?;
        let (_most_bytes, rest) = rest.split_first_chunk::<4>().ok_or(EIO)?;
        let (high, rest) = rest.split_first_chunk().ok_or(EIO)?;
        let (low, _) = rest.split_first_chunk().ok_or(EIO)?;
        Ok(Identity {
            version: u32::from_le_bytes(*version),
            keys: [u64::from_be_bytes(*high), u64::from_be_bytes(*low)],
        })
    }

    /// # Errors
    ///
    /// EMSGSIZE for an input that is too long, ENOMEM, ENXIO, and what [`outcome`] makes of VTL1's
    /// status.
    fn ask(&mut self, command: Command, input: &[u8]) -> Result<KVec<u8>> {
        if input.len() > MOST {
            return Err(EMSGSIZE);
        }
        self.put(INPUT, input);
        self.put(0, &self.request(command, input.len()));
        let reply = vtl_call(self.memory.dma_address());
        let output = reply
            .and_then(outcome)
            .and_then(|len| self.take_output(len));
        self.zero(INPUT, input.len());
        output
    }

    /// The 64 bytes of `Documentation/vtl1.rst`.
    fn request(&self, command: Command, input_len: usize) -> [u8; REQUEST_LEN] {
        let base = self.memory.dma_address();
        // CAST: a command number; widening.
        let first = u64::from(u32::from_le_bytes(*b"VTL1")) | ((command as u64) << 32);
        let words = [
            first,
            base + INPUT as u64,
            input_len as u64,
            base + OUTPUT as u64,
            MOST as u64,
            0,
            0,
            0,
        ];
        let mut bytes = [0; REQUEST_LEN];
        for (place, byte) in bytes
            .iter_mut()
            .zip(words.iter().flat_map(|it| it.to_le_bytes()))
        {
            *place = byte;
        }
        bytes
    }

    /// Copies the first `len` bytes of the output, and erases them here.
    fn take_output(&mut self, len: usize) -> Result<KVec<u8>> {
        let mut output = KVec::with_capacity(len, GFP_KERNEL);
        if let Ok(output) = &mut output {
            let bytes = self.bytes().get(OUTPUT..OUTPUT + len).ok_or(EIO)?;
            output.extend_from_slice(bytes, GFP_KERNEL)?;
        }
        self.zero(OUTPUT, len);
        Ok(output?)
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        for (place, byte) in self.bytes().iter_mut().skip(at).zip(bytes) {
            *place = *byte;
        }
    }

    fn zero(&mut self, at: usize, len: usize) {
        for place in self.bytes().iter_mut().skip(at).take(len) {
            *place = 0;
        }
    }

    /// The memory, between calls.
    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: VTL1 accesses this memory during a call, which `ask` makes while it has no such
        // reference; and `&mut self` excludes another reference.
        unsafe { self.memory.as_mut() }
    }
}

/// Returns the length of the output, or the error that VTL1's status stands for.
fn outcome(reply: Reply) -> Result<usize> {
    match reply.status {
        0 => usize::try_from(reply.value)
            .ok()
            .filter(|len| *len <= MOST)
            .ok_or(EIO),
        // Malformed: a length that the command does not take.
        2 => Err(EINVAL),
        // An unknown command.
        3 => Err(EOPNOTSUPP),
        // Not sealed here, or changed.
        7 => Err(EBADMSG),
        // The counter is at its end.
        8 => Err(EOVERFLOW),
        // Addresses and ranges are this driver's: VTL1 does not know this memory as VTL0's.
        1 | 4..=6 => Err(EIO),
        // The hypervisor's answer where there is no VTL1.
        _ => Err(ENODEV),
    }
}
