// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! L2.
use crate::run::not_modelled;
use crate::vp::Vp;
use tdx_model::gpa::VmIndex;
pub fn enter(vp: &mut Vp, vm: VmIndex) { not_modelled(vp, format_args!("L2 {vm:?}")) }
pub fn step(vp: &mut Vp, vm: VmIndex) { not_modelled(vp, format_args!("L2 {vm:?}")) }
