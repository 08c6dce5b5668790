// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The guest image: a flat binary from a file, or the built-in demo.

use std::path::Path;

use anyhow::{Context as _, anyhow};

use crate::{ExitStatus, Failure};

/// Reads the flat binary at `path`; `room` is how many bytes it may have.
pub(crate) fn read(path: &Path, room: u64) -> Result<Vec<u8>, Failure> {
    let guest_file = |error| Failure::new(ExitStatus::File, error);
    let shown = path.display();
    let metadata = std::fs::metadata(path)
        .with_context(|| format!("cannot use the guest file {shown}"))
        .map_err(guest_file)?;
    if !metadata.is_file() {
        return Err(guest_file(anyhow!(
            "the guest file {shown} is no regular file"
        )));
    }
    // The size is checked before the contents are read: a huge file must not
    // fill this level's memory.
    check_size(metadata.len(), room)
        .with_context(|| format!("cannot use the guest file {shown}"))
        .map_err(guest_file)?;
    let bytes = std::fs::read(path)
        .with_context(|| format!("cannot read the guest file {shown}"))
        .map_err(guest_file)?;
    // CAST: widening. The file may have changed in between.
    check_size(bytes.len() as u64, room)
        .and_then(|()| check_kind(&bytes))
        .with_context(|| format!("cannot use the guest file {shown}"))
        .map_err(guest_file)?;
    Ok(bytes)
}

/// Refuses files whose first bytes are no instructions: executed, they would do anything.
fn check_kind(bytes: &[u8]) -> anyhow::Result<()> {
    /// Where a Linux kernel has the signature of its boot protocol.
    const KERNEL_SIGNATURE: usize = 0x202;
    const BEGINNINGS: [(&[u8], &str); 6] = [
        (
            b"\x7fELF",
            "an ELF file (make it flat by 'objcopy -O binary', or boot it by 'vtlctl boot --kernel')",
        ),
        (b"\x1f\x8b", "compressed by gzip (decompress it)"),
        (b"\xfd7zXZ\0", "compressed by xz (decompress it)"),
        (b"\x28\xb5\x2f\xfd", "compressed by zstd (decompress it)"),
        (b"#!", "a script (expected a flat binary)"),
        (b"MZ", "an EFI program (expected a flat binary)"),
    ];
    if bytes
        .get(KERNEL_SIGNATURE..)
        .is_some_and(|rest| rest.starts_with(b"HdrS"))
    {
        return Err(anyhow!(
            "it is a Linux kernel (boot it by 'vtlctl boot --kernel')"
        ));
    }
    match BEGINNINGS
        .iter()
        .find(|(bytes_of, _)| bytes.starts_with(bytes_of))
    {
        Some((_, what)) => Err(anyhow!("it is {what}")),
        None => Ok(()),
    }
}

fn check_size(size: u64, room: u64) -> anyhow::Result<()> {
    if size == 0 {
        return Err(anyhow!("it is empty (expected a flat binary)"));
    }
    if size > room {
        return Err(anyhow!(
            "it has {size} bytes, there is room for {room} between the load address and the end \
             of the guest's memory; lower --load-address or give more --memory"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(path: &Path, room: u64) -> String {
        match read(path, room) {
            Ok(_) => panic!("{} was accepted", path.display()),
            Err(failure) => {
                assert_eq!(failure.status, ExitStatus::File);
                format!("{:#}", failure.error)
            }
        }
    }

    #[test]
    fn bad_files_are_refused_with_their_own_status() -> anyhow::Result<()> {
        let folder = std::env::temp_dir().join(format!("vtlctl-image-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let file = folder.join("guest");
        assert!(refused(&file, 16).contains("cannot use the guest file"));
        assert!(refused(&folder, 16).contains("no regular file"));
        std::fs::write(&file, [])?;
        assert!(refused(&file, 16).contains("empty"));
        std::fs::write(&file, [0xf4; 17])?;
        assert!(refused(&file, 16).contains("17 bytes, there is room for 16"));
        std::fs::write(&file, [0xf4; 16])?;
        assert_eq!(
            read(&file, 16).map_err(|failure| failure.error)?,
            [0xf4; 16]
        );
        std::fs::remove_dir_all(&folder)?;
        Ok(())
    }

    #[test]
    fn what_is_no_code_is_refused_by_its_name() {
        let mut kernel = vec![0; 0x1000];
        kernel[..2].copy_from_slice(b"MZ");
        kernel[0x202..0x206].copy_from_slice(b"HdrS");
        for (bytes, what) in [
            (&b"\x7fELF\x02\x01\x01"[..], "an ELF file"),
            (b"\x1f\x8b\x08", "gzip"),
            (b"\xfd7zXZ\0", "xz"),
            (b"\x28\xb5\x2f\xfd", "zstd"),
            (b"#!/bin/sh\n", "a script"),
            (b"MZ\x90", "an EFI program"),
            (&kernel, "a Linux kernel"),
        ] {
            let said = check_kind(bytes).map_err(|error| error.to_string());
            assert!(said.is_err_and(|said| said.contains(what)), "{what}");
        }
        for code in [&b"\xf4"[..], b"\x7fEL", b"MO", &[0x90; 0x1000]] {
            assert!(check_kind(code).is_ok(), "{code:x?}");
        }
    }
}
