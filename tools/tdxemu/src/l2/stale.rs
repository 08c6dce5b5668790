// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Lets an L2 use a right that L1 has revoked and this processor has not flushed.

use crate::config::Stale;
use crate::console::End;
use crate::machine::npt_rights;
use crate::run::end_by_l1;
use crate::setup::World;
use crate::vp::Vp;
use svm::exit::NpfError;
use svm::npt::Rights;
use tdx_model::gpa::{Gpa, VmIndex};

const fn allow(rights: Rights, error: NpfError) -> bool {
    (!error.is_write() || rights.is_writable) && (!error.is_fetch() || rights.is_executable)
}

/// Returns true if an access that the nested tables refused is still allowed by an old right. If
/// not, the processor drops its translations of the page, as at every EPT violation.
pub fn serve(vp: &mut Vp, vm: VmIndex, error: NpfError, gpa: u64) -> bool {
    let platform = vp.platform;
    // Held to the end: a flush everywhere finds the right in the record, or in the tables.
    let mut world = platform.world();
    let World { td, spaces } = &mut *world;
    let current = spaces.l2_rights(vm, gpa);
    if current.is_some_and(|rights| allow(rights, error)) {
        // Granted meanwhile. Old rights may hide that, in this processor's own tables.
        let is_hidden = vp.overlay.is_in_use();
        vp.overlay.clear();
        return is_hidden;
    }
    // CAST: at most MAX_CPUS.
    let vcpu = vp.index as u32;
    let page = Gpa(gpa & !0xfff);
    let old = td.stale.find(vcpu, vm, page);
    let Some(old) = old else {
        return false;
    };
    let both = npt_rights(old.rights).map(|old| Rights {
        is_writable: old.is_writable || current.is_some_and(|rights| rights.is_writable),
        is_executable: old.is_executable || current.is_some_and(|rights| rights.is_executable),
    });
    let Some(rights) = both.filter(|rights| allow(*rights, error)) else {
        td.stale.forget(vcpu, vm, page);
        vp.overlay.clear();
        return false;
    };
    if platform.config.stale == Stale::Report && old.is_declared_gone {
        end_by_l1(
            End::Stale,
            format_args!(
                "vCPU {vcpu} still has a right of {vm:?} to page {:#x} which L1 has taken away and \
                 declared gone: it has not flushed it",
                page.0
            ),
        );
    }
    vp.shared.stats.count_old_right();
    let base_pa = vp.nested_base_pa(vm);
    let flushes = vp.shared.flushes();
    vp.overlay.map(base_pa, flushes, page.0, rights);
    true
}
