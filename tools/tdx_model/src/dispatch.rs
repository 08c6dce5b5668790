// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! TDCALL by L1: the checks common to all leaves, and the way to each leaf [ABI TDCALL].

use crate::gpa::VmIndex;
use crate::gprs::Gprs;
use crate::leaf::{self, Call, Done, Leaf, Stop};
use crate::machine::Machine;
use crate::status::{Operand, Status};
use crate::td::Td;
use crate::vcpu::Vcpu;
use crate::ve::{TdExit, VeDelivery};

/// The mode L1 was in when it executed TDCALL.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    /// Current privilege level.
    pub cpl: u8,
    /// EFER.LMA and CS.L are both set.
    pub long_mode_64: bool,
}

/// What the emulator has to do after a TDCALL of L1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Finished: RAX and outputs are in the registers. Step RIP by 4, end blocking by STI.
    Complete,
    /// #GP(0); nothing has changed.
    InjectGp,
    /// #VE: an operand lies in a page that L1 has not accepted. RIP stays.
    InjectVe,
    /// #DF: the same, and L1 has not asked about the #VE before.
    InjectDf,
    /// Interrupted: RIP stays, RAX too; the operands say where the call goes on.
    Interrupted,
    /// TDG.VP.VMCALL: the host handles the registers `mask` selects, then [`vmcall_done`].
    Vmcall {
        /// Bits 15:0 general-purpose registers, 31:16 XMM registers.
        mask: u32,
    },
    /// The host gets control, RIP stays: the TDCALL is executed again afterwards.
    TdExit(TdExit),
    /// A real module of this version would break here; the text says why.
    Fatal(&'static str),
    /// Run this L2 from its state in [`Vcpu::l2`]. L1's RIP is stepped only when L1 runs again.
    EnterL2(VmIndex),
}

/// Executes the TDCALL whose operands are in `gprs`.
pub fn tdcall<M: Machine>(
    td: &mut Td<'_>,
    vcpu: &mut Vcpu,
    gprs: &mut Gprs,
    caller: Caller,
    machine: &mut M,
) -> Outcome {
    if caller.cpl != 0 || !caller.long_mode_64 {
        return Outcome::InjectGp;
    }
    let rax = gprs.rax;
    let call = Call {
        td,
        vcpu,
        gprs: &mut *gprs,
        machine,
    };
    match run(rax, call) {
        Ok(Done::Status(status)) | Err(Stop::Refused(status)) => {
            gprs.rax = status.0;
            Outcome::Complete
        }
        Ok(Done::Vmcall { mask }) => Outcome::Vmcall { mask },
        Ok(Done::EnterL2(vm)) => Outcome::EnterL2(vm),
        Ok(Done::Interrupted) => Outcome::Interrupted,
        Err(Stop::Exception(VeDelivery::InjectVe)) => Outcome::InjectVe,
        Err(Stop::Exception(VeDelivery::InjectDf)) => Outcome::InjectDf,
        Err(Stop::TdExit(exit)) => Outcome::TdExit(exit),
        Err(Stop::Fatal(why)) => Outcome::Fatal(why),
    }
}

/// Completes a TDG.VP.VMCALL of L1 after the host has changed the selected registers.
pub fn vmcall_done(gprs: &mut Gprs) {
    gprs.rax = Status::SUCCESS.0;
}

/// The name of a leaf, for logs.
#[must_use]
pub const fn leaf_name(leaf: u16) -> Option<&'static str> {
    Some(match leaf {
        0 => "TDG.VP.VMCALL",
        1 => "TDG.VP.INFO",
        2 => "TDG.MR.RTMR.EXTEND",
        3 => "TDG.VP.VEINFO.GET",
        4 => "TDG.MR.REPORT",
        5 => "TDG.VP.CPUIDVE.SET",
        6 => "TDG.MEM.PAGE.ACCEPT",
        7 => "TDG.VM.RD",
        8 => "TDG.VM.WR",
        9 => "TDG.VP.RD",
        10 => "TDG.VP.WR",
        11 => "TDG.SYS.RD",
        12 => "TDG.SYS.RDALL",
        18 => "TDG.SERVTD.RD",
        20 => "TDG.SERVTD.WR",
        22 => "TDG.MR.VERIFYREPORT",
        23 => "TDG.MEM.PAGE.ATTR.RD",
        24 => "TDG.MEM.PAGE.ATTR.WR",
        25 => "TDG.VP.ENTER",
        26 => "TDG.VP.INVEPT",
        27 => "TDG.VP.INVGLA",
        29 => "TDG.MR.KEY.GET",
        30 => "TDG.MEM.PAGE.RELEASE",
        _ => return None,
    })
}

/// Decodes RAX: leaf 15:0, version 23:16, the rest reserved.
fn run<M: Machine>(rax: u64, call: Call<'_, '_, M>) -> Leaf {
    let (number, version) = (rax & 0xffff, rax >> 16);
    let is_known = match number {
        _ if version > 0xff => false,
        3 => version == 0 || call.td.config.is_second(),
        7 => version <= 1,
        _ => version == 0,
    };
    if !is_known {
        return Err(Stop::Refused(Status::invalid(Operand::Rax)));
    }
    match number {
        0 => leaf::tdg_vp_vmcall::tdg_vp_vmcall(call),
        1 => leaf::tdg_vp_info::tdg_vp_info(call),
        2 => leaf::tdg_mr_rtmr_extend::tdg_mr_rtmr_extend(call),
        3 => leaf::tdg_vp_veinfo_get::tdg_vp_veinfo_get(call, version),
        4 => leaf::tdg_mr_report::tdg_mr_report(call),
        5 => leaf::tdg_vp_cpuidve_set::tdg_vp_cpuidve_set(call),
        6 => leaf::tdg_mem_page_accept::tdg_mem_page_accept(call),
        7 if version == 1 => leaf::tdg_vm_rd_wr::tdg_vm_rd_v1(call),
        7 => leaf::tdg_vm_rd_wr::tdg_vm_rd_v0(call),
        8 => leaf::tdg_vm_rd_wr::tdg_vm_wr(call),
        9 => leaf::tdg_vp_rd_wr::tdg_vp_rd(call),
        10 => leaf::tdg_vp_rd_wr::tdg_vp_wr(call),
        11 => leaf::tdg_sys_rd::tdg_sys_rd(call),
        12 => leaf::tdg_sys_rdall::tdg_sys_rdall(call),
        23 => leaf::tdg_mem_page_attr_rd::tdg_mem_page_attr_rd(call),
        24 => leaf::tdg_mem_page_attr_wr::tdg_mem_page_attr_wr(call),
        25 => leaf::tdg_vp_enter::tdg_vp_enter(call),
        26 => leaf::tdg_vp_invept::tdg_vp_invept(call),
        27 => leaf::tdg_vp_invgla::tdg_vp_invgla(call),
        29 if call.td.config.is_later() => leaf::tdg_mr_key_get::tdg_mr_key_get(call),
        30 if call.td.config.has_page_release() => {
            leaf::tdg_mem_page_release::tdg_mem_page_release(call)
        }
        _ => Err(Stop::Refused(Status::invalid(Operand::Rax))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{KERNEL, with_td};

    #[test]
    fn unknown_leaf_version_and_reserved_bits_are_refused_alike() {
        with_td(|td, vcpu, m| {
            let refused = [
                18,
                20,
                22,
                28,
                30,
                31,
                0xffff,
                1 << 16,
                1 << 16 | 3,
                2 << 16 | 7,
                1 << 24 | 1,
                1 << 63 | 1,
            ];
            for rax in refused {
                let mut g = Gprs {
                    rax,
                    rcx: 5,
                    ..Gprs::ZERO
                };
                assert_eq!(tdcall(td, vcpu, &mut g, KERNEL, m), Outcome::Complete);
                assert_eq!(
                    g,
                    Gprs {
                        rax: 0xc000_0100_0000_0000,
                        rcx: 5,
                        ..Gprs::ZERO
                    },
                    "{rax:#x}"
                );
            }
        });
    }

    #[test]
    fn outside_kernel_long_mode_is_a_fault() {
        with_td(|td, vcpu, m| {
            for caller in [
                Caller { cpl: 3, ..KERNEL },
                Caller {
                    long_mode_64: false,
                    ..KERNEL
                },
            ] {
                let mut g = Gprs {
                    rax: 1,
                    ..Gprs::ZERO
                };
                assert_eq!(tdcall(td, vcpu, &mut g, caller, m), Outcome::InjectGp);
                assert_eq!(g.rax, 1);
            }
        });
    }
}
