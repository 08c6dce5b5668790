// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The commands of the nodes themselves, and the nodes of Hyper-V.

use vtl::hvcall::{Control, HypercallFile};
use vtl::sint::MessageFile;
use vtl::{Errno, Error, Extension, abi};

use crate::{Bed, Outcome, ensure};

pub(crate) fn facts(bed: &Bed) -> Outcome {
    ensure!(bed.info.num_l2_vms >= 1, "{:?}", bed.info);
    for extension in Extension::ALL {
        let answer = bed.mshv.check_extension(*extension)?;
        ensure!(answer.is_some(), "{} is not known", extension.name());
        // CAST: the number of a capability.
        let bit = (*extension as u32).checked_sub(0x100);
        let is_told = bit.is_none_or(|bit| (bed.info.capabilities >> bit) & 1 == 1);
        ensure!(is_told, "{} is missing in {:?}", extension.name(), bed.info);
    }
    let fixed = bed.vtl.cr4_fixed1()?;
    ensure!(fixed & (1 << 5) != 0, "CR4.PAE is not in {fixed:#x}");
    Ok(())
}

pub(crate) fn policy(bed: &Bed) -> Outcome {
    let leaves = bed.mshv.policy()?;
    ensure!(
        leaves.iter().any(|line| line.name == "VP.INVGLA"),
        "{leaves:?}"
    );
    let calls = bed.mshv.hypercall_policy()?;
    ensure!(calls.iter().any(|line| line.leaf == 0x5d), "{calls:?}");
    Ok(())
}

pub(crate) fn time(bed: &Bed) -> Outcome {
    match bed.vtl.restore_partition_time(1, 2) {
        Err(error) if error.errno() == Some(Errno::EOPNOTSUPP) => Ok(()),
        other => Err(format!("{other:?}").into()),
    }
}

fn is_missing(error: &Error, node: &str) -> Outcome {
    let exists = std::path::Path::new(node).exists();
    ensure!(!exists && error.errno() == Some(Errno::ENOENT), "{error}");
    Ok(())
}

pub(crate) fn hypercalls(_bed: &Bed) -> Outcome {
    const GET_VP_INDEX: u16 = 0x9a;
    let file = match HypercallFile::open([GET_VP_INDEX]) {
        Ok(file) => file,
        Err(error) => return is_missing(&error, abi::DEV_MSHV_HVCALL),
    };
    let refused = file.call(Control::of(GET_VP_INDEX + 1), &[], &mut []);
    let errno = refused.err().and_then(|error| error.errno());
    ensure!(errno == Some(Errno::EPERM), "{errno:?}");
    // This partition, own VTL; then the APIC ID 0.
    let mut input = [0xff; 20];
    input[8..].fill(0);
    let mut output = [0xff; 4];
    let control = Control::of(GET_VP_INDEX).with_elements(1);
    let status = file.call_elements(control, &input, &mut output)?;
    println!("# the host says {status}, VP {output:x?}");
    ensure!(
        status.is_success() == (status.elements_done() == 1),
        "{status}"
    );
    Ok(())
}

pub(crate) fn messages(_bed: &Bed) -> Outcome {
    let file = match MessageFile::open() {
        Ok(file) => file,
        Err(error) => return is_missing(&error, abi::DEV_MSHV_SINT),
    };
    let (socket, _other) = std::os::unix::net::UnixStream::pair()?;
    let refused = file.set_eventfd(3, &socket);
    let errno = refused.err().and_then(|error| error.errno());
    ensure!(
        errno == Some(Errno::EINVAL),
        "a socket is no eventfd: {errno:?}"
    );
    file.clear_eventfd(3)?;
    let refused = file.signal_event(1, 2048);
    ensure!(refused.is_err(), "there is no flag 2048");
    file.post_message(0xffff, 1, b"to nobody")?;
    file.resume()?;
    file.pause()?;
    while let Some(message) = file.read()? {
        println!("# message of type {:#x}", message.message_type);
    }
    Ok(())
}

pub(crate) fn redirection(bed: &Bed) -> Outcome {
    let interrupt = bed.vtl.redirect_interrupt(0x41, 0)?;
    ensure!((32..256).contains(&interrupt.host_vector), "{interrupt:?}");
    bed.vtl.release_interrupt(interrupt)?;
    match bed.vtl.release_interrupt(interrupt) {
        Err(error) if error.errno() == Some(Errno::EINVAL) => Ok(()),
        other => Err(format!("taken back twice: {other:?}").into()),
    }
}
