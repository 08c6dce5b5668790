// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The file of `--monitor-baseline`: one JSON object. [Documentation/monitor.rst]

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use vtlvmm::monitor::Baseline;

use crate::options::digits;

/// The first one had no `elsewhere`.
const VERSION: u64 = 2;
/// A file is smaller; more is not read.
const MOST_BYTES: u64 = 16 << 20;

/// What every version has.
#[derive(Deserialize)]
struct Head {
    version: u64,
    kernel: String,
}

/// The object.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Object {
    version: u64,
    kernel: String,
    cr0: String,
    cr4: String,
    efer: String,
    star: String,
    sfmask: String,
    gates: Vec<String>,
    patched: Vec<(u32, String)>,
    elsewhere: Vec<u32>,
}

/// Reads the file, which has to be about a kernel with this text; `None` if there is none.
pub(super) fn read(
    path: &Path,
    text: &[u8],
    fits: impl Fn(&Baseline) -> bool,
) -> anyhow::Result<Option<Baseline>> {
    let failed = || format!("cannot read the monitor's baseline {}", path.display());
    let Some(bytes) = contents(path).with_context(failed)? else {
        return Ok(None);
    };
    let baseline = parse(&bytes, text).with_context(failed)?;
    if !fits(&baseline) {
        bail!("{}: it is about other places than the kernel has", failed());
    }
    Ok(Some(baseline))
}

/// The bytes of a file: nothing that has no end, or that waits for somebody to write.
fn contents(path: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    // CAST: a flag.
    let flags = OFlags::NONBLOCK.bits() as i32;
    let file = match File::options().read(true).custom_flags(flags).open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    ensure!(file.metadata()?.is_file(), "it is no file with contents");
    let mut bytes = Vec::new();
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
    // CAST: widening.
    ensure!(bytes.len() as u64 <= MOST_BYTES, "it is too long");
    Ok(Some(bytes))
}

/// Writes the file as a whole, or not at all.
pub(super) fn write(path: &Path, text: &[u8], baseline: &Baseline) -> anyhow::Result<()> {
    let failed = || format!("cannot write the baseline {}", path.display());
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let mut line = serde_json::to_vec(&object(text, baseline)).with_context(failed)?;
    line.push(b'\n');
    // What a start that was killed has left, or a link to somebody else's file: of that, the link.
    let _ = std::fs::remove_file(&new);
    let created = File::options().write(true).create_new(true).open(&new);
    let mut file = created.with_context(failed)?;
    let written = file.write_all(&line).and_then(|()| file.sync_all());
    let written = written.and_then(|()| std::fs::rename(&new, path));
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

fn object(text: &[u8], baseline: &Baseline) -> Object {
    let Baseline {
        control: [cr0, cr4, efer],
        star,
        sfmask,
        gates,
        patched,
        elsewhere,
    } = baseline;
    let word = |value: &u64| format!("{value:#x}");
    let patched = patched.iter().map(|(at, bytes)| (*at, digits(bytes)));
    Object {
        version: VERSION,
        kernel: hash(text),
        cr0: word(cr0),
        cr4: word(cr4),
        efer: word(efer),
        star: word(star),
        sfmask: word(sfmask),
        gates: gates.iter().map(|gate| digits(gate)).collect(),
        patched: patched.collect(),
        elsewhere: elsewhere.clone(),
    }
}

fn parse(file: &[u8], text: &[u8]) -> anyhow::Result<Baseline> {
    const WHAT: &str = "a baseline is one JSON object";
    let head: Head = serde_json::from_slice(file).context(WHAT)?;
    ensure!(
        head.version == VERSION,
        "its version is not {VERSION}, which this command knows; remove it to have a new one made"
    );
    ensure!(
        head.kernel == hash(text),
        "it is of another kernel; remove it to have a new one made"
    );
    let object: Object = serde_json::from_slice(file).context(WHAT)?;
    let number = |name: &str, value: &str| {
        let number = value.strip_prefix("0x");
        let number = number.and_then(|it| u64::from_str_radix(it, 16).ok());
        number.with_context(|| format!("\"{name}\" is no hexadecimal number"))
    };
    let gates = object.gates.iter().map(|gate| {
        let bytes = bytes(gate).and_then(|bytes| bytes.try_into().ok());
        bytes.context("a gate is not 16 bytes")
    });
    let patched = object.patched.iter().map(|(at, run)| {
        let run = bytes(run).context("what was patched is no bytes")?;
        Ok((*at, run))
    });
    Ok(Baseline {
        control: [
            number("cr0", &object.cr0)?,
            number("cr4", &object.cr4)?,
            number("efer", &object.efer)?,
        ],
        star: number("star", &object.star)?,
        sfmask: number("sfmask", &object.sfmask)?,
        gates: gates.collect::<anyhow::Result<_>>()?,
        patched: patched.collect::<anyhow::Result<_>>()?,
        elsewhere: object.elsewhere,
    })
}

/// Bytes of pairs of hexadecimal digits.
fn bytes(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2);
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
    use rustix::fs::{CWD, FileType, Mode};
    use serde_json::{Value, json};

    const TEXT: [u8; 64] = [0x90; 64];

    fn baseline() -> Baseline {
        Baseline {
            control: [1, u64::MAX, 0xd01],
            star: 0x23 << 48,
            sfmask: 0x257fd5,
            gates: vec![[0xa5; 16]; 3],
            patched: vec![(0, vec![0xc3, 0xcc]), (60, vec![1, 2, 3, 4])],
            elsewhere: vec![7, u32::MAX],
        }
    }

    fn all(_: &Baseline) -> bool {
        true
    }

    fn folder(name: &str) -> anyhow::Result<PathBuf> {
        let name = format!("vtlctl-baseline-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// Why a file with one thing changed is not taken.
    fn refused(change: impl Fn(&mut Value)) -> String {
        let mut changed = serde_json::to_value(object(&TEXT, &baseline())).expect("no map");
        change(&mut changed);
        let error = parse(changed.to_string().as_bytes(), &TEXT).expect_err("it is wrong");
        format!("{error:#}")
    }

    #[test]
    fn what_is_written_is_read_again() -> anyhow::Result<()> {
        let folder = folder("whole")?;
        let path = folder.join("baseline");
        assert_eq!(read(&path, &TEXT, all)?, None);
        write(&path, &TEXT, &baseline())?;
        assert_eq!(read(&path, &TEXT, all)?, Some(baseline()));
        assert_eq!(std::fs::read_dir(&folder)?.count(), 1);
        let error = read(&path, &TEXT, |_| false).expect_err("other places");
        assert!(error.to_string().contains("other places"), "{error}");
        std::fs::write(&path, b"{\"version\":2,")?;
        let error = format!("{:#}", read(&path, &TEXT, all).expect_err("it was cut off"));
        assert!(
            error.contains("cannot read the monitor's baseline"),
            "{error}"
        );
        assert!(!error.contains('\n'), "{error}");
        std::fs::remove_dir_all(&folder)?;
        Ok(())
    }

    #[test]
    fn what_has_no_end_or_no_writer_is_no_baseline() -> anyhow::Result<()> {
        let folder = folder("fifo")?;
        let fifo = folder.join("fifo");
        let (kind, mode) = (FileType::Fifo, Mode::RUSR | Mode::WUSR);
        rustix::fs::mknodat(CWD, &fifo, kind, mode, 0)?;
        for path in [fifo.as_path(), Path::new("/dev/zero"), &folder] {
            let error = read(path, &TEXT, all).expect_err("no file");
            assert!(
                format!("{error:#}").contains("no file with contents"),
                "{error:#}"
            );
        }
        let long = folder.join("long");
        File::create(&long)?.set_len(MOST_BYTES + 1)?;
        let error = format!("{:#}", read(&long, &TEXT, all).expect_err("too long"));
        assert!(error.contains("too long"), "{error}");
        std::fs::remove_dir_all(&folder)?;
        Ok(())
    }

    #[test]
    fn a_link_in_the_place_of_the_new_file_is_not_followed() -> anyhow::Result<()> {
        let folder = folder("link")?;
        let (path, other) = (folder.join("baseline"), folder.join("other"));
        std::fs::write(&other, b"of somebody else")?;
        std::os::unix::fs::symlink(&other, folder.join("baseline.new"))?;
        write(&path, &TEXT, &baseline())?;
        assert_eq!(std::fs::read(&other)?, b"of somebody else");
        assert_eq!(read(&path, &TEXT, all)?, Some(baseline()));
        assert_eq!(std::fs::read_dir(&folder)?.count(), 2);
        std::fs::remove_dir_all(&folder)?;
        Ok(())
    }

    #[test]
    fn a_file_that_is_not_about_this_kernel_or_not_whole_is_refused() {
        let other = |it: &mut Value| it["kernel"] = hash(&[0x91; 64]).into();
        assert!(refused(other).contains("of another kernel"));
        for name in [
            "version",
            "kernel",
            "cr4",
            "star",
            "gates",
            "patched",
            "elsewhere",
        ] {
            refused(|it| it[name] = Value::Null);
            let why = refused(|it| drop(it.as_object_mut().map(|all| all.remove(name))));
            assert!(why.contains(&format!("missing field `{name}`")), "{why}");
        }
        assert!(refused(|it| it["version"] = 1.into()).contains("version is not 2"));
        assert!(refused(|it| it["more"] = 1.into()).contains("unknown field"));
        assert!(refused(|it| it["star"] = "35".into()).contains("no hexadecimal number"));
        let digits = "a5".repeat(15);
        for gate in [digits.clone(), digits.clone() + "a", digits + "+5"] {
            assert!(refused(|it| it["gates"][1] = gate.clone().into()).contains("16 bytes"));
        }
        assert!(refused(|it| it["patched"][1] = json!([61, "0"])).contains("no bytes"));
        for run in [json!([u64::MAX, "01"]), json!([-1, "01"]), json!([1])] {
            refused(|it| it["patched"][1] = run.clone());
        }
    }
}
