// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The file of `--monitor-baseline`: one JSON object. [Documentation/monitor.rst]

use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use vtlvmm::monitor::Baseline;

use crate::json::word;
use crate::options::digits;

const VERSION: u64 = 1;
/// A file is smaller; more is not read.
const MOST_BYTES: u64 = 64 << 20;

/// Reads the file, which has to be about a kernel with this text; `None` if there is none.
pub(super) fn read(path: &Path, text: &[u8]) -> anyhow::Result<Option<Baseline>> {
    let failed = || format!("cannot read the monitor's baseline {}", path.display());
    let bytes = match std::fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(failed),
        Ok(about) if about.len() > MOST_BYTES => bail!("{}: it is too long", failed()),
        Ok(_) => std::fs::read(path).with_context(failed)?,
    };
    let object: Value = serde_json::from_slice(&bytes)
        .with_context(failed)
        .context("a baseline is one JSON object")?;
    parse(&object, text).with_context(failed).map(Some)
}

/// Writes the file as a whole, or not at all.
pub(super) fn write(path: &Path, text: &[u8], baseline: &Baseline) -> anyhow::Result<()> {
    let failed = || format!("cannot write the baseline {}", path.display());
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let line = format!("{}\n", object(text, baseline));
    let written = std::fs::File::create(&new).and_then(|mut file| {
        file.write_all(line.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&new, path)
    });
    if written.is_err() {
        // What is half written is of no use.
        let _ = std::fs::remove_file(&new);
    }
    written.with_context(failed)
}

/// What tells a kernel from another one.
fn hash(text: &[u8]) -> String {
    digits(&Sha256::digest(text))
}

fn object(text: &[u8], baseline: &Baseline) -> Value {
    let Baseline {
        control: [cr0, cr4, efer],
        star,
        sfmask,
        gates,
        patched,
    } = baseline;
    let patched = patched.iter().map(|(at, bytes)| json!([at, digits(bytes)]));
    json!({
        "version": VERSION,
        "kernel": hash(text),
        "cr0": word(*cr0),
        "cr4": word(*cr4),
        "efer": word(*efer),
        "star": word(*star),
        "sfmask": word(*sfmask),
        "gates": gates.iter().map(|gate| digits(gate)).collect::<Vec<_>>(),
        "patched": patched.collect::<Vec<_>>(),
    })
}

fn parse(object: &Value, text: &[u8]) -> anyhow::Result<Baseline> {
    let field = |name: &str| {
        let value = object.get(name);
        value.with_context(|| format!("it has no \"{name}\""))
    };
    let version = field("version")?.as_u64();
    ensure!(
        version == Some(VERSION),
        "its version is not {VERSION}, which this command knows"
    );
    ensure!(
        field("kernel")?.as_str() == Some(&hash(text)),
        "it is of another kernel; remove it to have a new one made"
    );
    let number = |name| {
        let digits = field(name)?.as_str().and_then(|it| it.strip_prefix("0x"));
        let number = digits.and_then(|it| u64::from_str_radix(it, 16).ok());
        number.with_context(|| format!("\"{name}\" is no hexadecimal number"))
    };
    let list = |name| {
        let list = field(name)?.as_array();
        list.with_context(|| format!("\"{name}\" is no list"))
    };
    let gates = list("gates")?.iter().map(|gate| {
        let bytes = bytes(gate).and_then(|bytes| bytes.try_into().ok());
        bytes.context("a gate is not 16 bytes")
    });
    let patched = list("patched")?.iter().map(|run| {
        let at = run.get(0).and_then(Value::as_u64);
        let at = at.and_then(|at| u32::try_from(at).ok());
        let bytes = run.get(1).and_then(bytes);
        at.zip(bytes)
            .context("what was patched is no offset and bytes")
    });
    let baseline = Baseline {
        control: [number("cr0")?, number("cr4")?, number("efer")?],
        star: number("star")?,
        sfmask: number("sfmask")?,
        gates: gates.collect::<anyhow::Result<_>>()?,
        patched: patched.collect::<anyhow::Result<_>>()?,
    };
    ensure!(
        baseline.fits(text.len()),
        "it is about more than the kernel has"
    );
    Ok(baseline)
}

/// Bytes of pairs of hexadecimal digits.
fn bytes(value: &Value) -> Option<Vec<u8>> {
    let pairs = value.as_str()?.as_bytes().chunks(2);
    let bytes = pairs.map(|pair| {
        let pair = core::str::from_utf8(pair).ok()?;
        let is_pair = pair.len() == 2 && pair.bytes().all(|it| it.is_ascii_hexdigit());
        is_pair.then(|| u8::from_str_radix(pair, 16).ok())?
    });
    bytes.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: [u8; 64] = [0x90; 64];

    fn baseline() -> Baseline {
        Baseline {
            control: [1, u64::MAX, 0xd01],
            star: 0x23 << 48,
            sfmask: 0x257fd5,
            gates: vec![[0xa5; 16]; 3],
            patched: vec![(0, vec![0xc3, 0xcc]), (60, vec![1, 2, 3, 4])],
        }
    }

    /// Why a file with one thing changed is not taken.
    fn refused(change: impl Fn(&mut Value)) -> String {
        let mut changed = object(&TEXT, &baseline());
        change(&mut changed);
        let error = parse(&changed, &TEXT).expect_err("it is wrong");
        error.to_string()
    }

    #[test]
    fn what_is_written_is_read_again() -> anyhow::Result<()> {
        let folder = std::env::temp_dir().join(format!("vtlctl-baseline-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let path = folder.join("baseline");
        assert_eq!(read(&path, &TEXT)?, None);
        write(&path, &TEXT, &baseline())?;
        assert_eq!(read(&path, &TEXT)?, Some(baseline()));
        assert_eq!(std::fs::read_dir(&folder)?.count(), 1);
        std::fs::write(&path, b"{\"version\":1,")?;
        let error = format!("{:#}", read(&path, &TEXT).expect_err("it was cut off"));
        assert!(
            error.contains("cannot read the monitor's baseline"),
            "{error}"
        );
        assert!(!error.contains('\n'), "{error}");
        std::fs::remove_dir_all(&folder)?;
        Ok(())
    }

    #[test]
    fn a_file_that_is_not_about_this_kernel_or_not_whole_is_refused() {
        let other = parse(&object(&[0x91; 64], &baseline()), &TEXT).expect_err("another kernel");
        assert!(other.to_string().contains("of another kernel"), "{other}");
        for name in ["version", "kernel", "cr4", "star", "gates", "patched"] {
            refused(|it| it[name] = Value::Null);
            let why = refused(|it| drop(it.as_object_mut().map(|all| all.remove(name))));
            assert_eq!(why, format!("it has no \"{name}\""));
        }
        assert!(refused(|it| it["version"] = 2.into()).contains("version is not 1"));
        assert!(refused(|it| it["star"] = "35".into()).contains("no hexadecimal number"));
        let digits = "a5".repeat(15);
        for gate in [digits.clone(), digits.clone() + "a", digits + "+5"] {
            assert!(refused(|it| it["gates"][1] = gate.clone().into()).contains("16 bytes"));
        }
        for run in [json!([61, "01020304"]), json!([u64::MAX, "01"])] {
            refused(|it| it["patched"][1] = run.clone());
        }
        assert!(refused(|it| it["patched"][1][0] = (-1).into()).contains("no offset"));
    }
}
