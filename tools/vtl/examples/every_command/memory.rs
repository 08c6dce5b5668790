// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Memory of the lower VTLs.

use vtl::{Alias, GpaRange, LowerMemory, LowerMemoryFile, PageRights, Status, Vm};

use crate::{Bed, Outcome, ensure};

const LIST: &str = "/sys/module/mshv_vtl_tdx/parameters/vtl0_mem";
const PIECE: u64 = 2 << 20;

/// The first aligned 2 MiB of the list.
pub(crate) fn find() -> Result<GpaRange, Box<dyn std::error::Error>> {
    let text = std::fs::read_to_string(LIST)?;
    let numbers: Result<Vec<u64>, _> = text.trim().split(',').map(number).collect();
    for range in numbers?.chunks_exact(2) {
        let base = range[0].next_multiple_of(PIECE);
        if base + PIECE <= range[0] + range[1] {
            return Ok(GpaRange::new(base, PIECE)?);
        }
    }
    Err(format!("no aligned piece of 2 MiB in {}", text.trim()).into())
}

fn number(text: &str) -> Result<u64, std::num::ParseIntError> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    }
}

pub(crate) fn rights(bed: &Bed) -> Outcome {
    let base = bed.memory.base();
    let accepted = bed.vtl.accept(&bed.memory)?;
    let all = accepted.fresh_bytes + accepted.earlier_bytes;
    ensure!(all == PIECE, "{accepted:?}");
    let again = bed.vtl.accept(&bed.memory)?;
    ensure!(again.earlier_bytes == PIECE, "{again:?}");

    let read_only = PageRights::NONE.with_read(true);
    bed.vtl0.set_rights(&bed.memory, read_only)?;
    let page = bed.vtl.page_attributes(base + 0x1234)?;
    ensure!(!page.is_pending && page.gpa <= base + 0x1234, "{page:?}");
    let found = page.rights(Vm::VTL0);
    ensure!(found.read() && !found.write(), "{found:?}");
    bed.vtl0.set_rights(&bed.memory, PageRights::ALL)?;
    let found = bed.vtl0.rights(base)?;
    ensure!(found.write() && found.execute_supervisor(), "{found:?}");
    Ok(())
}

pub(crate) fn zeroed(bed: &Bed) -> Outcome {
    let places = [0, 0x1ff0, bed.memory.len() - 1];
    let memory = bed.vtl.accept_zeroed(bed.memory)?;
    for place in places {
        memory.write(place, &[0x5a])?;
    }
    drop(memory);
    let memory = bed.vtl.accept_zeroed(bed.memory)?;
    for place in places {
        let mut byte = [0xff];
        memory.read(place, &mut byte)?;
        ensure!(byte == [0], "{byte:x?} at {place:#x}");
    }
    Ok(())
}

pub(crate) fn contents(bed: &Bed) -> Outcome {
    bed.vtl.accept(&bed.memory)?;
    let memory = LowerMemory::map(bed.memory)?;
    memory.write(PIECE - 5, b"hello")?;
    let mut found = [0; 5];
    LowerMemory::map(bed.memory)?.read(PIECE - 5, &mut found)?;
    ensure!(&found == b"hello", "{found:x?}");
    ensure!(
        memory.write(PIECE - 4, b"hello").is_err(),
        "written outside"
    );
    // The alias that the host has not given may be mapped, only not accessed.
    LowerMemoryFile::open()?.map(bed.memory, Alias::Shared)?;
    Ok(())
}

pub(crate) fn registration(bed: &Bed) -> Outcome {
    bed.vtl.register_memory(&bed.memory)?;
    bed.vtl.register_memory(&bed.memory)?;
    let odd = GpaRange::new(bed.memory.base(), 4096)?;
    match bed.vtl.register_memory(&odd) {
        Err(error) if error.errno() == Some(vtl::Errno::EINVAL) => Ok(()),
        other => Err(format!("a page was registered: {other:?}").into()),
    }
}

/// Releases a page that is not registered, if there is one. A TDX module of version 1.5 does not
/// have this leaf.
pub(crate) fn release(bed: &Bed) -> Outcome {
    let page = GpaRange::new(bed.memory.base(), 4096)?;
    match bed.vtl.release(&page) {
        Ok(()) => {
            bed.vtl.accept(&page)?;
            Ok(())
        }
        Err(error) => {
            let code = error.status().map(Status::code);
            ensure!(code == Some(Status::OPERAND_INVALID), "{error}");
            Ok(())
        }
    }
}
