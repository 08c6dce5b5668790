// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! A disk [VIRTIO 5.2] backed by a file.
//!
//! The thread of the processor that notifies carries out the requests, one by one.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::Ordering;

use virtio_bindings::virtio_blk as name;
use virtio_queue::DescriptorChain;

use super::buffers::Buffers;
use super::mmio::{Limits, QUEUE_LEN};
use crate::memory::Ram;

/// Bytes of a sector.
pub const SECTOR: u64 = 512;

/// A disk.
#[derive(Debug)]
pub struct Block {
    file: File,
    len_sectors: u64,
    is_read_only: bool,
}

/// The first part of a request.
#[derive(Clone, Copy, Debug)]
struct Header {
    kind: u32,
    sector: u64,
}

/// Why a request is not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    Failed = name::VIRTIO_BLK_S_IOERR as isize,
    Unsupported = name::VIRTIO_BLK_S_UNSUPP as isize,
}

impl From<io::Error> for Refusal {
    fn from(_: io::Error) -> Self {
        Self::Failed
    }
}

/// Bytes that are moved at once: whoever protects a page, or ends the machine, waits for so many.
pub(super) const PIECE: usize = 64 << 10;

impl Block {
    /// A disk of the whole sectors of `file`, which has `len_bytes`.
    pub const fn new(file: File, len_bytes: u64, is_read_only: bool) -> Self {
        Self {
            file,
            len_sectors: len_bytes / SECTOR,
            is_read_only,
        }
    }

    /// Device-specific feature bits.
    pub(super) const fn features(&self) -> u64 {
        let read_only = if self.is_read_only {
            1 << name::VIRTIO_BLK_F_RO
        } else {
            0
        };
        read_only | (1 << name::VIRTIO_BLK_F_FLUSH) | (1 << name::VIRTIO_BLK_F_SEG_MAX)
    }

    /// A byte of the configuration: capacity, and pieces that a request may have.
    pub(super) fn config(&self, offset: usize) -> u8 {
        const PIECES_MOST: u32 = QUEUE_LEN as u32 - 2;
        const PIECES_AT: usize = 12;
        match offset {
            0..8 => self.len_sectors.to_le_bytes()[offset],
            PIECES_AT..16 => PIECES_MOST.to_le_bytes()[offset - PIECES_AT],
            _ => 0,
        }
    }

    /// Carries out a request. Returns the number of bytes written to the guest; `None` if the chain
    /// is no valid request, has no room for a status, or that is protected. If the machine ends meanwhile,
    /// the rest is not carried out.
    pub(super) fn serve<M: Ram>(
        &mut self,
        memory: &M,
        limits: &Limits<'_>,
        chain: DescriptorChain<&M>,
    ) -> Option<u32> {
        let mut reader = chain.clone().reader(memory).ok()?;
        let mut to_guest = Buffers::new(memory, limits.protected, chain)?;
        let mut status = to_guest.split_last()?;
        let data_len = to_guest.room();
        let mut head = [0; 16];
        reader.read_exact(&mut head).ok()?;
        let outcome = self.carry_out(limits, Header::from(head), &mut reader, &mut to_guest);
        let answer = match outcome {
            Ok(()) => name::VIRTIO_BLK_S_OK as u8, // CAST: 0
            Err(refusal) => refusal as u8,         // CAST: 1 or 2
        };
        status.put(&[answer])?;
        // A chain of more bytes than there is memory repeats itself; its length means nothing.
        let written = u32::try_from(data_len - to_guest.room()).unwrap_or(u32::MAX);
        Some(written.saturating_add(1))
    }

    fn carry_out<M: Ram>(
        &self,
        limits: &Limits<'_>,
        header: Header,
        from_guest: &mut impl DataOut,
        to_guest: &mut Buffers<'_, M>,
    ) -> Result<(), Refusal> {
        match header.kind {
            name::VIRTIO_BLK_T_IN => {
                let len = to_guest.room();
                let at = self.place(header.sector, len)?;
                each_piece(limits, at, len, |at, piece| {
                    // A file that has become shorter gives an error here.
                    self.file.read_exact_at(piece, at)?;
                    to_guest.put(piece).ok_or(Refusal::Failed)
                })
            }
            name::VIRTIO_BLK_T_OUT if self.is_read_only => Err(Refusal::Failed),
            name::VIRTIO_BLK_T_OUT => {
                let len = from_guest.left();
                let at = self.place(header.sector, len)?;
                each_piece(limits, at, len, |at, piece| {
                    from_guest.read_exact(piece)?;
                    Ok(self.file.write_all_at(piece, at)?)
                })
            }
            name::VIRTIO_BLK_T_FLUSH => Ok(self.file.sync_data()?),
            name::VIRTIO_BLK_T_GET_ID => {
                const SERIAL: &[u8; 20] = b"vtlctl-disk\0\0\0\0\0\0\0\0\0";
                let len = to_guest.room().min(SERIAL.len());
                to_guest.put(&SERIAL[..len]).ok_or(Refusal::Failed)
            }
            _ => Err(Refusal::Unsupported),
        }
    }

    /// Offset of sectors in the file, if all of them are on the disk.
    fn place(&self, sector: u64, len: usize) -> Result<u64, Refusal> {
        // CAST: widening.
        let len = len as u64;
        let end = sector.checked_add(len / SECTOR);
        match end {
            Some(end) if len % SECTOR == 0 && end <= self.len_sectors => Ok(sector * SECTOR),
            _ => Err(Refusal::Failed),
        }
    }
}

/// Moves `len` bytes from or to the file, from `at` on, piece by piece.
fn each_piece(
    limits: &Limits<'_>,
    mut at: u64,
    len: usize,
    mut move_one: impl FnMut(u64, &mut [u8]) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    let mut piece = vec![0; len.min(PIECE)];
    let mut left = len;
    while left > 0 {
        // Buffers may repeat, so the rest can be 4 GiB; nobody learns that it was not moved.
        if limits.is_over.load(Ordering::Relaxed) {
            return Err(Refusal::Failed);
        }
        let now = left.min(PIECE);
        move_one(at, &mut piece[..now])?;
        // CAST: widening.
        at += now as u64;
        left -= now;
    }
    Ok(())
}

/// What the guest gives, of known length.
trait DataOut: io::Read {
    fn left(&self) -> usize;
}

impl<B: vm_memory::bitmap::BitmapSlice> DataOut for virtio_queue::Reader<'_, B> {
    fn left(&self) -> usize {
        self.available_bytes()
    }
}

impl From<[u8; 16]> for Header {
    fn from(bytes: [u8; 16]) -> Self {
        let [a, b, c, d, _, _, _, _, sector @ ..] = bytes;
        Self {
            kind: u32::from_le_bytes([a, b, c, d]),
            sector: u64::from_le_bytes(sector),
        }
    }
}
