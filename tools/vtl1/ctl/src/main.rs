// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! `vtl1ctl`: the services of the secure kernel at VTL1, for users of a Linux at VTL0.
//!
//! This file has what is printed, `cli` the command line; `device` speaks with the driver.

#![forbid(unsafe_code)]

mod cli;
mod device;
#[cfg(test)]
#[path = "../../../vtlctl/src/documents.rs"]
mod documents;

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;
use vtl1::keys::SEAL_OVERHEAD;
use vtl1::request::{Command, MAX_INPUT, MAX_OUTPUT};

use cli::{Arguments, What};
use device::Device;

/// Exit status of the process; the numbers are those of [`cli::STATUS_HELP`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ExitStatus {
    Failure = 1,
    File = 3,
    NotSealed = 4,
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Device(#[from] device::Error),
    #[error("cannot read {name}: {error}")]
    Read { name: String, error: io::Error },
    #[error("{name} has more than {most} bytes, which VTL1 does not take; {hint}")]
    TooLong {
        name: String,
        most: usize,
        hint: &'static str,
    },
    #[error("cannot write to standard output: {0}")]
    Write(io::Error),
}

impl Error {
    fn status(&self) -> ExitStatus {
        match self {
            Self::Device(device::Error::NotSealed) => ExitStatus::NotSealed,
            Self::Device(_) => ExitStatus::Failure,
            Self::Read { .. } | Self::TooLong { .. } | Self::Write(_) => ExitStatus::File,
        }
    }
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vtl1ctl: {error}");
            // CAST: below 5.
            ExitCode::from(error.status() as u8)
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Error> {
    // Whatever is wrong with the input is said even where there is no VTL1.
    let (command, input) = request(&arguments.what)?;
    let output = Device::open(&arguments.device)?.ask(command, &input)?;
    let text = match &arguments.what {
        What::Identify => device::Identity::decode(&output)?.to_string(),
        What::Sign { file } => format!("{}  {}\n", hex(&output), file.display()),
        What::Counter => format!("{}\n", device::decode_counter(&output)?),
        What::Seal | What::Unseal => return print(&output),
    };
    print(text.as_bytes())
}

/// The command and its input.
fn request(what: &What) -> Result<(Command, Vec<u8>), Error> {
    const SHORTER: &str = "sign or seal something shorter, for instance a checksum or a key";
    const OTHER: &str = "this was not made by seal";
    let stdin = Path::new("-");
    Ok(match what {
        What::Identify => (Command::Identify, Vec::new()),
        What::Counter => (Command::Count, Vec::new()),
        What::Sign { file } => (Command::Sign, read(file, MAX_INPUT, SHORTER)?),
        What::Seal => (Command::Seal, read(stdin, MAX_INPUT, SHORTER)?),
        What::Unseal => {
            let sealed = read(stdin, MAX_OUTPUT, OTHER)?;
            // VTL1 would call it malformed, which is less than what is known.
            if sealed.len() < SEAL_OVERHEAD {
                return Err(device::Error::NotSealed.into());
            }
            (Command::Unseal, sealed)
        }
    })
}

/// Reads a file, or standard input if its name is -, of at most `most` bytes.
fn read(path: &Path, most: usize, hint: &'static str) -> Result<Vec<u8>, Error> {
    let is_stdin = path == Path::new("-");
    let name = match is_stdin {
        true => "standard input".to_owned(),
        false => path.display().to_string(),
    };
    let mut bytes = Vec::new();
    // CAST: widening.
    let limit = most as u64 + 1;
    let read = match is_stdin {
        true => io::stdin().lock().take(limit).read_to_end(&mut bytes),
        false => File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes)),
    };
    match read {
        Err(error) => Err(Error::Read { name, error }),
        Ok(len) if len > most => Err(Error::TooLong { name, most, hint }),
        Ok(_) => Ok(bytes),
    }
}

fn print(bytes: &[u8]) -> Result<(), Error> {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(bytes)
        .and_then(|()| stdout.flush())
        .map_err(Error::Write)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut digits, byte| {
        // Writing to a string does not fail.
        let _ = write!(digits, "{byte:02x}");
        digits
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_pages_and_the_command_line_say_the_same() {
        assert_eq!(documents::compare(&Arguments::command(), &[]), Ok(()));
    }

    #[test]
    fn a_file_that_is_too_long_or_missing_is_named() -> io::Result<()> {
        let path = std::env::temp_dir().join(format!("vtl1ctl-{}", std::process::id()));
        std::fs::write(&path, [7; 17])?;
        let read_most = |most| read(&path, most, "a hint");
        assert_eq!(read_most(17).ok(), Some(vec![7; 17]));
        let text = |result: Result<Vec<u8>, Error>| {
            result.err().map(|error| {
                assert_eq!(error.status(), ExitStatus::File);
                error.to_string()
            })
        };
        let long = text(read_most(16)).unwrap_or_default();
        assert!(long.ends_with("has more than 16 bytes, which VTL1 does not take; a hint"));
        std::fs::remove_file(&path)?;
        let missing = text(read_most(16)).unwrap_or_default();
        assert!(missing.contains("cannot read ") && missing.contains("No such file"));
        Ok(())
    }

    #[test]
    fn an_output_is_lines_of_text_but_for_sealed_and_unsealed_bytes() {
        assert_eq!(hex(&[0x0a, 0xf0]), "0af0");
        let (command, input) = match request(&What::Counter) {
            Ok(request) => request,
            Err(error) => panic!("{error}"),
        };
        assert_eq!((command, input.len()), (Command::Count, 0));
    }

    #[test]
    fn only_a_seal_that_is_none_has_a_status_of_its_own() {
        let status = |error: device::Error| Error::from(error).status();
        assert_eq!(status(device::Error::NotSealed), ExitStatus::NotSealed);
        assert_eq!(status(device::Error::Reply), ExitStatus::Failure);
    }
}
