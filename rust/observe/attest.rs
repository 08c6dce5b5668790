// SPDX-License-Identifier: GPL-2.0
//! Hashes of the records of a ring: one leaf for each segment, and the chain over them.
//!
//! A record is hashed before it is overwritten. Who writes them comes to a limit now and then, between two
//! switches or two events, and has whole pages hashed there; a checkpoint has the rest hashed. Both are
//! at it under the lock of the stream, and nothing on the way of a switch is shared but the
//! records: what [`Ring::has`] finds stays until it is hashed. `attest_log.rs` makes the checkpoints.
//! [Documentation/audit-format.rst]

use kernel::mm::virt::VmaNew;
use kernel::prelude::*;
use kernel::sync::{new_mutex, Mutex};

use super::audit::{Ring, Switches};
use crate::glue::ffi;
use crate::pure::attest::{Cut, Mode, Parameters, Segment, Stream};

/// Parameters of the module that are about attestation.
#[derive(Clone, Copy)]
pub(crate) struct Settings {
    /// `attest`.
    pub(crate) mode: Mode,
    /// The others.
    pub(crate) parameters: Parameters,
}

/// What hashes the records of a ring.
#[pin_data]
pub(crate) struct Sealer {
    leaves: Ring,
    batch_pages: u32,
    #[pin]
    stream: Mutex<Stream>,
}

impl Sealer {
    /// For a ring that is empty.
    ///
    /// # Errors
    ///
    /// ENOMEM.
    pub(crate) fn new(id: u32, parameters: &Parameters) -> Result<Pin<KBox<Self>>> {
        let leaves = Ring::new(parameters.leaves)?;
        KBox::pin_init(
            pin_init!(Self {
                leaves,
                batch_pages: parameters.batch_pages,
                stream <- new_mutex!(Stream::new(id), "mshv_vtl_tdx::stream"),
            }),
            GFP_KERNEL,
        )
    }

    /// How far the writer of an empty ring may go.
    pub(crate) fn first_limit(&self, records: u32) -> u64 {
        Stream::new(0).limit(0, records, self.batch_pages)
    }

    /// Hashes whole pages, so that the writer, who is at its limit, may go on.
    pub(crate) fn make_room(&self, ring: &Ring, switches: &mut Switches) {
        let mut stream = self.stream.lock();
        let count = switches.count();
        while let Some(segment) = stream.segment(count, Cut::Pages) {
            self.seal(ring, &mut stream, segment);
        }
        switches.set_limit(stream.limit(count, ring.records(), self.batch_pages));
    }

    /// Hashes all records that are there. The writer may be at work.
    pub(crate) fn seal_all(&self, ring: &Ring) -> Stream {
        let mut stream = self.stream.lock();
        let mut newest = stream.next - 1;
        // It comes to an end: at the limit the writer waits for the lock.
        while ring.has(newest + 1) {
            newest += 1;
            // A page at a time: what is newer comes with the next look.
            if let Some(segment) = stream.segment(newest, Cut::Pages) {
                self.seal(ring, &mut stream, segment);
            }
        }
        if let Some(segment) = stream.segment(newest, Cut::Newest) {
            self.seal(ring, &mut stream, segment);
        }
        *stream
    }

    fn seal(&self, ring: &Ring, stream: &mut Stream, segment: Segment) {
        let leaf = ring.hash(segment);
        let chain = ffi::sha256(&stream.link(segment, &leaf));
        stream.advance(segment, chain);
        let words = segment.leaf_words(stream.id, &leaf);
        self.leaves.write(stream.segments, &words);
    }

    /// Maps the ring of leaves, as [`Ring::map`].
    pub(crate) fn map(&self, vma: &VmaNew) -> Result {
        self.leaves.map(vma)
    }
}
