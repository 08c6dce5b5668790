// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! TDREPORTs and quotes, by Linux's own driver (`tdx-guest`, `tsm_report`).

use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::{Error, Result, sys};

/// Length of a TDREPORT.
pub const REPORT_LEN: usize = 1024;

const DEVICE: &str = "/dev/tdx_guest";
const QUOTES: &str = "/sys/kernel/config/tsm/report";

/// Has the TDX module make a TDREPORT.
///
/// # Errors
/// [`Error::Open`] if the driver is not loaded, [`Error::Command`].
pub fn report(data: &[u8; 64]) -> Result<[u8; REPORT_LEN]> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let file = rustix::fs::open(DEVICE, flags, Mode::empty()).map_err(|errno| Error::Open {
        path: DEVICE,
        errno: errno.into(),
    })?;
    sys::tdx_report(file, data).map_err(|errno| Error::Command {
        command: "TDX_CMD_GET_REPORT0",
        errno: errno.into(),
    })
}

/// Has the host make a quote.
///
/// # Errors
/// [`Error::Query`]: the driver is not loaded, configfs is not mounted, or the host makes none.
pub fn quote(data: &[u8; 64]) -> Result<Vec<u8>> {
    let name = format!("vtl-{}", std::process::id());
    let folder = Path::new(QUOTES).join(name);
    std::fs::create_dir(&folder).map_err(error)?;
    let quote = ask(&folder, data);
    // What is left behind is an empty request.
    let _ = std::fs::remove_dir(&folder);
    quote
}

fn ask(folder: &Path, data: &[u8; 64]) -> Result<Vec<u8>> {
    std::fs::write(folder.join("inblob"), data).map_err(error)?;
    std::fs::read(folder.join("outblob")).map_err(error)
}

fn error(error: std::io::Error) -> Error {
    let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
    Error::Query {
        what: "a quote",
        errno: errno.into(),
    }
}
