// SPDX-License-Identifier: GPL-2.0
//! WBINVD and WBNOINVD of a lower VTL, which userspace has seen and wants done.
//!
//! In a TD the instructions raise a #VE, for which the kernel has no answer; the host is asked instead,
//! as the GHCI says. Its answer makes no difference: a TD's memory is coherent for whatever its host
//! lets at it, and a host that does not serve the call has no device for which caches would matter.

use crate::cpu::tdcall;
use crate::pure::controls::Flush;
use crate::vp::Vp;

/// Has the host write back caches. Userspace need not ask for the same again.
pub(super) fn carry_out(vp: &Vp, flush: Flush) {
    // What is asked for from now on is another one.
    vp.run_page.consume_flush(flush);
    tdcall::ask_for_flush(flush);
}
