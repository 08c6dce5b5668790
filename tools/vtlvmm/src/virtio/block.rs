// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! A disk [VIRTIO 5.2] backed by a file.
//!
//! The thread of the processor that notifies carries out the requests, one by one.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::FileExt as _;

use virtio_bindings::virtio_blk as name;
use virtio_queue::DescriptorChain;

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

/// Bytes that are moved at once.
const PIECE: usize = 64 << 10;

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
        const PIECES_MOST: u32 = super::mmio::QUEUE_LEN as u32 - 2;
        const PIECES_AT: usize = 12;
        match offset {
            0..8 => self.len_sectors.to_le_bytes()[offset],
            PIECES_AT..16 => PIECES_MOST.to_le_bytes()[offset - PIECES_AT],
            _ => 0,
        }
    }

    /// Carries out a request. Returns the number of bytes written to the guest; `None` if the chain
    /// is no valid request and has no room for a status.
    pub(super) fn serve<M: Ram>(&mut self, memory: &M, chain: DescriptorChain<&M>) -> Option<u32> {
        let mut reader = chain.clone().reader(memory).ok()?;
        let mut writer = chain.writer(memory).ok()?;
        let data_len = writer.available_bytes().checked_sub(1)?;
        let mut status = writer.split_at(data_len).ok()?;
        let mut head = [0; 16];
        reader.read_exact(&mut head).ok()?;
        let outcome = self.carry_out(Header::from(head), &mut reader, &mut writer, data_len);
        let (answer, written) = match outcome {
            Ok(written) => (name::VIRTIO_BLK_S_OK as u8, written), // CAST: 0
            Err(refusal) => (refusal as u8, writer.bytes_written()), // CAST: 1 or 2
        };
        status.write_all(&[answer]).ok()?;
        // A chain of more bytes than there is memory repeats itself; its length means nothing.
        Some(u32::try_from(written).unwrap_or(u32::MAX).saturating_add(1))
    }

    fn carry_out(
        &self,
        header: Header,
        from_guest: &mut impl DataOut,
        to_guest: &mut impl io::Write,
        data_len: usize,
    ) -> Result<usize, Refusal> {
        match header.kind {
            name::VIRTIO_BLK_T_IN => {
                let at = self.place(header.sector, data_len)?;
                self.copy_out(at, to_guest, data_len)?;
                Ok(data_len)
            }
            name::VIRTIO_BLK_T_OUT if self.is_read_only => Err(Refusal::Failed),
            name::VIRTIO_BLK_T_OUT => {
                let len = from_guest.left();
                let at = self.place(header.sector, len)?;
                self.copy_in(at, from_guest, len)?;
                Ok(0)
            }
            name::VIRTIO_BLK_T_FLUSH => {
                self.file.sync_data()?;
                Ok(0)
            }
            name::VIRTIO_BLK_T_GET_ID => {
                const SERIAL: &[u8; 20] = b"vtlctl-disk\0\0\0\0\0\0\0\0\0";
                let len = data_len.min(SERIAL.len());
                to_guest.write_all(&SERIAL[..len])?;
                Ok(len)
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

    fn copy_out(&self, mut at: u64, to: &mut impl io::Write, len: usize) -> io::Result<()> {
        let mut piece = vec![0; len.min(PIECE)];
        let mut left = len;
        while left > 0 {
            let now = left.min(PIECE);
            // A file that has become shorter gives an error here.
            self.file.read_exact_at(&mut piece[..now], at)?;
            to.write_all(&piece[..now])?;
            // CAST: widening.
            at += now as u64;
            left -= now;
        }
        Ok(())
    }

    fn copy_in(&self, mut at: u64, from: &mut impl io::Read, len: usize) -> io::Result<()> {
        let mut piece = vec![0; len.min(PIECE)];
        let mut left = len;
        while left > 0 {
            let now = left.min(PIECE);
            from.read_exact(&mut piece[..now])?;
            self.file.write_all_at(&piece[..now], at)?;
            // CAST: widening.
            at += now as u64;
            left -= now;
        }
        Ok(())
    }
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
