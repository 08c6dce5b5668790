// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! State of a virtual processor.

use std::os::fd::AsFd as _;

use vtl::field::L2Field;
use vtl::{
    ApicRegister, DebugRegisters, Errno, Error, Gpr, Mode, SharedRegister, Vectors, Vm, Vtl,
};

use crate::{Bed, Outcome, ensure};

pub(crate) fn registers(bed: &Bed) -> Outcome {
    let mut vp = bed.vtl0.bind(0)?;
    vp.renew(bed.info.num_l2_vms)?;
    let [xcr0, dr6] = vp.shared([SharedRegister::XFEM, SharedRegister::DR6])?;
    ensure!(xcr0 == 1, "XCR0 of a new VP is {xcr0:#x}");
    vp.set_shared(&[(SharedRegister::XFEM, 3), (SharedRegister::DR6, dr6)])?;
    ensure!(
        vp.shared([SharedRegister::XFEM])? == [3],
        "XCR0 was not kept"
    );
    let debug = DebugRegisters {
        addresses: [1, 2, 3, 4],
        dr6,
    };
    vp.set_debug_registers(&debug)?;
    ensure!(
        vp.debug_registers()? == debug,
        "{:?}",
        vp.debug_registers()?
    );
    let base = SharedRegister::mtrr_phys_base(15).ok_or("no such MTRR")?;
    vp.set_shared(&[(base, 0x8000_0006)])?;
    ensure!(vp.shared([base])? == [0x8000_0006], "the MTRR was not kept");
    vp.renew(bed.info.num_l2_vms)?;
    ensure!(vp.shared([base])? == [0], "the MTRR was not renewed");
    Ok(())
}

pub(crate) fn refused(bed: &Bed) -> Outcome {
    let vp = bed.vtl0.bind(0)?;
    let bad = [
        (SharedRegister::XFEM, 1),
        (SharedRegister::DR6, 1 << 32),
        (SharedRegister::DR0, 0),
    ];
    let expected = Error::Registers {
        refused: Some(SharedRegister::DR6.number()),
        errno: Errno::EINVAL,
    };
    let found = vp.set_shared(&bad);
    ensure!(found == Err(expected), "{found:?}");
    Ok(())
}

pub(crate) fn extended(bed: &Bed) -> Outcome {
    let vp = bed.vtl0.bind(0)?;
    let initial = vp.initial_extended_state()?;
    vp.set_extended_state(&initial)?;
    let mut fx = vp.page().fx_state();
    fx[160] = 0x77;
    vp.page().set_fx_state(&fx);
    let image = vp.extended_state()?;
    ensure!(image.to_bytes()[160] == 0x77, "XMM0 is not in the image");
    vp.set_extended_state(&initial)?;
    ensure!(vp.page().fx_state()[160] == 0, "XMM0 was not replaced");
    Ok(())
}

pub(crate) fn fields(bed: &Bed) -> Outcome {
    let vtl0 = bed.vtl0.bind(0)?;
    vtl0.write(L2Field::GUEST_FS_BASE, 0x1000)?;
    if bed.info.num_l2_vms > 1 {
        let vtl1 = vtl0.sibling(Vm::VTL1);
        vtl1.write(L2Field::GUEST_FS_BASE, 0x2000)?;
        ensure!(
            vtl1.read(L2Field::GUEST_FS_BASE)? == 0x2000,
            "VTL1 has another"
        );
    }
    ensure!(
        vtl0.read(L2Field::GUEST_FS_BASE)? == 0x1000,
        "VTL0 has another"
    );
    vtl0.invalidate_linear(0x1000, 2)?;
    // The policy never allows the monitor trap flag.
    let refused = vtl0.write_masked(L2Field::PRIMARY_CONTROLS, 1 << 27, 1 << 27);
    let status = refused.err().and_then(|error| error.status());
    ensure!(status.is_some_and(vtl::Status::is_error), "{status:?}");
    Ok(())
}

pub(crate) fn apic(bed: &Bed) -> Outcome {
    let apic = bed.vtl.map_vapic_page(0)?;
    apic.write(ApicRegister::Tpr, 0x20);
    apic.request(0x31);
    let again = bed.vtl.map_vapic_page(0)?;
    ensure!(
        again.read(ApicRegister::Tpr) == 0x20,
        "the TPR was not kept"
    );
    ensure!(again.requested().contains(0x31), "{:?}", again.requested());
    apic.write(ApicRegister::Tpr, 0);
    apic.set_requested(Vectors::NONE);
    Ok(())
}

pub(crate) fn own_apic(bed: &Bed) -> Outcome {
    let vtl0 = bed.vtl0.bind(0)?;
    let taken = vtl0.write(L2Field::VIRTUAL_APIC_ADDRESS, bed.memory.base());
    ensure!(
        matches!(taken, Err(Error::PhysicalAddress { .. })),
        "{taken:?}"
    );
    if bed.info.num_l2_vms > 1 {
        let vtl1 = vtl0.sibling(Vm::VTL1);
        let apic = vtl1.new_apic_page()?;
        apic.write(ApicRegister::Tpr, 0x30);
        ensure!(apic.read(ApicRegister::Tpr) == 0x30, "the TPR was not kept");
    }
    Ok(())
}

pub(crate) fn descriptor(bed: &Bed) -> Outcome {
    let duplicate = |fd: std::os::fd::BorrowedFd<'_>| fd.try_clone_to_owned();
    let again = Vtl::try_from(duplicate(bed.vtl.as_fd())?)?;
    ensure!(again.stats(0)?.is_some(), "another file");
    let opened = Vtl::try_from(duplicate(Vtl::open()?.as_fd())?)?;
    ensure!(opened.stats(0)?.is_some(), "another device");
    let refused = Vtl::try_from(duplicate(bed.mshv.as_fd())?);
    ensure!(
        matches!(refused, Err(Error::NoVtlFile)),
        "{refused:?} from /dev/mshv"
    );
    Ok(())
}

pub(crate) fn binding(bed: &Bed) -> Outcome {
    let vtl0 = bed.vtl0.bind(0)?;
    vtl0.reset(Mode::Protected32, bed.memory.base())?;
    vtl0.page().set_gpr(Gpr::R12, 0x1234);
    vtl0.page().arm_deadline(u64::MAX - 1);
    let before = vtl0.page().registers();
    let again = bed.vtl.bind(0, Vm::VTL1)?;
    let sibling = vtl0.sibling(Vm::VTL1);
    ensure!(again.vm() == sibling.vm() && again.cpu() == 0, "{again:?}");
    ensure!(vtl0.page().registers() == before, "registers have changed");
    let deadline = vtl0.page().deadline();
    ensure!(deadline == Some(u64::MAX - 1), "{deadline:x?}");
    vtl0.page().disarm_deadline();
    Ok(())
}
