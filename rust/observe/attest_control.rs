// SPDX-License-Identifier: GPL-2.0
//! Records of the control plane, in a ring of their own: all of them, whatever the rate limit of the
//! texts. Who causes one pays for its hash.

// UNSAFETY: declares C functions.
#![allow(unsafe_code)]

use kernel::mm::virt::VmaNew;
use kernel::prelude::*;
use kernel::sync::{new_mutex, Mutex};

use super::attest::Sealer;
use super::audit::{Ring, Switches};
use crate::glue::abi::safe_in_c;
use crate::glue::ffi;
use crate::pure::attest::{Parameters, Stream, CONTROL_ID};
use crate::pure::attest_event::{self, Op};

// Looks at the caller.
safe_in_c! {
    fn vtl_user() -> u32;
}

/// The ring, and what hashes it.
#[pin_data]
pub(crate) struct Control {
    ring: Ring,
    sealer: Pin<KBox<Sealer>>,
    #[pin]
    written: Mutex<Switches>,
}

impl Control {
    /// An empty ring.
    ///
    /// # Errors
    ///
    /// ENOMEM.
    pub(super) fn new(records: u32, parameters: &Parameters) -> Result<Pin<KBox<Self>>> {
        let sealer = Sealer::new(CONTROL_ID, parameters)?;
        let written = Switches::new(sealer.first_limit(records));
        let ring = Ring::new(records)?;
        KBox::pin_init(
            pin_init!(Self {
                ring,
                sealer,
                written <- new_mutex!(written, "mshv_vtl_tdx::control"),
            }),
            GFP_KERNEL,
        )
    }

    /// Writes one more record, of what the current process has caused. May sleep.
    pub(super) fn record(&self, op: Op, operands: [u64; 3], result: u64) {
        let mut written = self.written.lock();
        if written.is_at_limit() {
            self.sealer.make_room(&self.ring, &mut written);
        }
        let record = attest_event::Control {
            tsc: ffi::tsc(),
            op,
            operands,
            result,
            process: ffi::process(),
            user: vtl_user(),
        };
        written.record(&self.ring, &record.words());
    }

    /// Hashes all there is.
    pub(super) fn seal_all(&self) -> Stream {
        self.sealer.seal_all(&self.ring)
    }

    /// Maps the ring, as [`Ring::map`].
    pub(crate) fn map(&self, vma: &VmaNew) -> Result {
        self.ring.map(vma)
    }

    /// Maps the ring of leaves, likewise.
    pub(crate) fn map_leaves(&self, vma: &VmaNew) -> Result {
        self.sealer.map(vma)
    }
}
