// SPDX-License-Identifier: GPL-2.0
//! WBINVD and WBNOINVD of a lower VTL, which userspace has seen and asks the kernel to carry out.
//!
//! In a TD these instructions raise a #VE, which the kernel does not handle; the host is asked
//! instead, as the GHCI describes. Its answer does not matter: a TD's memory is coherent for every
//! device that the host can attach, and a host that refuses has no device for which caches would
//! matter.

use crate::cpu::tdcall;
use crate::pure::controls::Flush;
use crate::vp::Vp;

/// Makes the host flush the caches, and clears the request.
pub(super) fn carry_out(vp: &Vp, flush: Flush) {
    // Clear it first: a request made from now on is a new one.
    vp.run_page.consume_flush(flush);
    tdcall::request_flush(flush);
}
