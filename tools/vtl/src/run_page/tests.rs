// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Tests of [`super`], with anonymous memory in place of the kernel's page.

use super::*;
use crate::Vectors;

/// A run page that no kernel uses.
pub(crate) fn loose_page() -> Result<RunPage, Errno> {
    Ok(RunPage::on(Mapping::anonymous(abi::PAGE_LEN)?, 0))
}

impl RunPage {
    /// Acts as the kernel: stores one word of the page.
    pub(crate) fn poke(&self, offset: usize, value: u64) {
        self.set_u64(offset, value);
    }
}

#[test]
fn registers_are_where_the_abi_puts_them() -> Result<(), Errno> {
    let page = loose_page()?;
    page.set_gpr(Gpr::R15, 15);
    page.set_rip(0x1234);
    page.set_switched(SwitchedState::TscAux, 7);
    assert_eq!(page.u64(512 + 15 * 8), 15);
    assert_eq!(page.u64(648), 0x1234);
    assert_eq!(page.u64(456), 7);
    Ok(())
}

#[test]
fn the_timer_is_at_the_end_of_the_page() -> Result<(), Errno> {
    let page = loose_page()?;
    page.set_timer_vector(Some(0xec));
    page.set_timer_deadline(0x1234);
    assert_eq!((page.u64(4080), page.u64(4088)), (0x1234, 0xec));
    assert_eq!(page.timer_vector(), Some(0xec));
    // The kernel takes nothing below 16 for a vector.
    for vector in [0, 1, 15] {
        page.set_timer_vector(Some(vector));
        assert_eq!(page.timer_vector(), None);
    }
    page.set_timer_vector(Some(16));
    assert_eq!(page.timer_vector(), Some(16));
    page.set_timer_vector(None);
    assert_eq!((page.timer_vector(), page.u64(4088)), (None, 0));
    Ok(())
}

#[test]
fn registers_come_back_as_they_were_set() -> Result<(), Errno> {
    let page = loose_page()?;
    let registers = Registers {
        gprs: core::array::from_fn(|number| 100 + number as u64),
        rflags: 0x202,
        rip: 3,
        ssp: 4,
        rvi: 5,
        svi: 6,
        switched: core::array::from_fn(|number| 200 + number as u64),
    };
    page.set_registers(&registers);
    assert_eq!(page.registers(), registers);
    assert_eq!((page.u64(656), page.u64(664)), (4, 0x605));
    Ok(())
}

#[test]
fn reset_leaves_a_valid_fpu_and_flags() -> Result<(), Errno> {
    let page = loose_page()?;
    page.set_gpr(Gpr::Rax, 1);
    page.set_fx_state(&[0xff; 512]);
    page.set_halt(Some(Halt::Hlt));
    page.arm_deadline(77);
    page.set_timer_vector(Some(0xec));
    page.set_timer_deadline(88);
    page.reset();
    assert_eq!((page.timer_vector(), page.timer_deadline()), (None, 0));
    assert_eq!(page.gpr(Gpr::Rax), 0);
    assert_eq!(page.rflags(), 2);
    let fx = page.fx_state();
    assert_eq!(
        (&fx[..2], &fx[24..28]),
        (&[0x7f, 3][..], &[0x80, 0x1f, 0, 0][..])
    );
    assert_eq!(fx.iter().filter(|byte| **byte != 0).count(), 4);
    assert_eq!((page.halt(), page.deadline()), (None, None));
    Ok(())
}

#[test]
fn a_cancellation_survives_a_renewal() -> Result<(), Errno> {
    let page = loose_page()?;
    page.canceller().cancel();
    page.request_flush(Flush::Linear);
    page.reset();
    assert!(page.canceller().is_cancelled());
    assert_eq!(page.entry_rcx() & 3, 2);
    Ok(())
}

#[test]
fn cancel_sets_the_first_word_until_cleared() -> Result<(), Errno> {
    let page = loose_page()?;
    let canceller = page.canceller();
    canceller.cancel();
    assert!(canceller.is_cancelled());
    assert_eq!(page.u64(0) & 0xffff_ffff, 1);
    canceller.clear();
    assert_eq!(page.u64(0), 0);
    Ok(())
}

#[test]
fn a_flush_is_not_lost_and_the_stronger_one_counts() -> Result<(), Errno> {
    let page = loose_page()?;
    assert!(!page.aim(Vm::VTL1));
    assert_eq!(page.entry_rcx(), 2 << 52);
    page.request_flush(Flush::LinearNonGlobal);
    assert_eq!(page.entry_rcx() & 3, 3);
    page.request_flush(Flush::Linear);
    assert!(!page.aim(Vm::VTL1));
    assert!(page.aim(Vm::VTL0), "that was VTL1's");
    assert_eq!(page.entry_rcx(), (1 << 52) | 1);
    // What an earlier user left in reserved bits is discarded.
    page.poke(504, u64::MAX);
    page.aim(Vm::VTL0);
    assert_eq!(page.entry_rcx(), (1 << 52) | 3);
    Ok(())
}

#[test]
fn requested_interrupts_are_announced_and_taken_once() -> Result<(), Errno> {
    let page = loose_page()?;
    page.request_interrupt(0x31);
    page.request_interrupt(0xff);
    assert_eq!((page.u64(8) >> 32) & 0xff, 1, "scan_proxy_irr");
    assert_eq!(page.u64(1552) >> 32, 1 << 17);
    assert_eq!(page.take_interrupts(), Vectors::from_iter([0x31, 0xff]));
    assert_eq!((page.u64(8) >> 32) & 0xff, 0);
    assert!(page.take_interrupts().is_empty());
    Ok(())
}

#[test]
fn masks_of_the_host_have_their_places() -> Result<(), Errno> {
    let page = loose_page()?;
    page.set_blocked_interrupts(Vectors::ALL);
    page.set_exit_interrupts(Vectors::from_iter([0]));
    assert_eq!(
        (page.u64(1584), page.u64(1616)),
        (0xffff_ffff << 32, (1 << 32) | 0xffff_ffff)
    );
    assert_eq!(page.blocked_interrupts(), Vectors::ALL);
    assert_eq!(page.exit_interrupts(), Vectors::from_iter([0]));
    Ok(())
}

#[test]
fn halts_and_offload_share_a_byte_and_keep_apart() -> Result<(), Errno> {
    let page = loose_page()?;
    page.set_offload(Offload::new().with_interrupts(true).with_x2apic(true));
    for halt in [Halt::Hlt, Halt::GuestIdle, Halt::Userspace, Halt::Plain] {
        page.set_halt(Some(halt));
        assert_eq!(page.halt(), Some(halt));
    }
    page.set_halt(Some(Halt::Hlt));
    assert_eq!(page.u64(8), (0x43 << 40) | 1);
    page.set_offload(Offload::new().with_interrupts(true));
    assert_eq!(page.u64(8), (0x41 << 40) | 1);
    page.set_halt(None);
    assert_eq!(page.u64(8), 1 << 40);
    assert!(page.offload().interrupts());
    Ok(())
}

#[test]
fn a_deadline_is_armed_with_its_update_bit() -> Result<(), Errno> {
    let page = loose_page()?;
    page.arm_deadline(0x1234);
    assert_eq!((page.u64(672), page.u64(680)), (0x1234, 1));
    assert_eq!(page.deadline(), Some(0x1234));
    page.disarm_deadline();
    assert_eq!((page.u64(672), page.u64(680)), (0, 1));
    Ok(())
}

#[test]
fn cache_flushes_are_flags_of_the_vp_state() -> Result<(), Errno> {
    let page = loose_page()?;
    page.request_cache_flush(CacheFlush::WriteBackInvalidate);
    page.request_cache_flush(CacheFlush::WriteBack);
    assert_eq!(page.u64(464), 3);
    Ok(())
}
