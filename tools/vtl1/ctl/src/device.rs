// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The driver's device: one write is a request, the read after it has the output.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use vtl1::request::Command;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot open {}: {error}{}", path.display(), hint(error))]
    Open { path: PathBuf, error: io::Error },
    #[error("the input was changed, or sealed with other keys")]
    NotSealed,
    #[error("VTL1's counter is at its end")]
    CounterEnd,
    #[error("VTL1 does not answer: the driver was unloaded, or has lost it")]
    NoVtl1,
    #[error("the driver or VTL1 refused the request: {0}")]
    Refused(io::Error),
    #[error("VTL1's reply is not what the command returns")]
    Reply,
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::NotFound => {
            " (is vtl1_client.ko loaded, and was this Linux started with a VTL1?)"
        }
        ErrorKind::PermissionDenied => " (it is root's)",
        _ => "",
    }
}

/// What a write to the device failed with.
fn refusal(error: io::Error) -> Error {
    const ENODEV: i32 = 19;
    const EOVERFLOW: i32 = 75;
    const EBADMSG: i32 = 74;
    match error.raw_os_error() {
        Some(EBADMSG) => Error::NotSealed,
        Some(EOVERFLOW) => Error::CounterEnd,
        Some(ENODEV) => Error::NoVtl1,
        _ => Error::Refused(error),
    }
}

/// The open device.
pub(crate) struct Device<F = File>(F);

impl Device {
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let opened = OpenOptions::new().read(true).write(true).open(path);
        opened.map(Device).map_err(|error| Error::Open {
            path: path.to_path_buf(),
            error,
        })
    }
}

impl<F: Read + Write> Device<F> {
    /// Has VTL1 carry out a command; returns the output.
    pub(crate) fn ask(mut self, command: Command, input: &[u8]) -> Result<Vec<u8>, Error> {
        // CAST: a small number.
        let mut request = (command as u64).to_le_bytes().to_vec();
        request.extend_from_slice(input);
        // One write: the rest of a request would be another one.
        let len = self.0.write(&request).map_err(refusal)?;
        if len != request.len() {
            return Err(Error::Reply);
        }
        let mut output = Vec::new();
        self.0.read_to_end(&mut output).map_err(Error::Refused)?;
        Ok(output)
    }
}

/// Output of [`Command::Identify`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    version: u32,
    most_bytes: u32,
    keys: [u8; 16],
}

impl Identity {
    pub(crate) fn decode(output: &[u8]) -> Result<Self, Error> {
        let parts = output.split_first_chunk().and_then(|(version, rest)| {
            let (most_bytes, keys) = rest.split_first_chunk()?;
            Some((version, most_bytes, keys.try_into().ok()?))
        });
        let (version, most_bytes, keys) = parts.ok_or(Error::Reply)?;
        Ok(Self {
            version: u32::from_le_bytes(*version),
            most_bytes: u32::from_le_bytes(*most_bytes),
            keys,
        })
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "version     {}", self.version)?;
        writeln!(f, "most bytes  {}", self.most_bytes)?;
        writeln!(f, "keys        {}", crate::hex(&self.keys))
    }
}

/// Output of [`Command::Count`].
pub(crate) fn decode_counter(output: &[u8]) -> Result<u64, Error> {
    let bytes = output.try_into().map_err(|_| Error::Reply)?;
    Ok(u64::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A device that takes `room` bytes, or fails, and has an output.
    struct Fake<'a> {
        written: &'a mut Vec<u8>,
        outcome: Result<usize, i32>,
        output: &'a [u8],
    }

    impl Write for Fake<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.written.extend_from_slice(bytes);
            self.outcome
                .map(|room| room.min(bytes.len()))
                .map_err(io::Error::from_raw_os_error)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Read for Fake<'_> {
        fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
            self.output.read(bytes)
        }
    }

    fn ask(outcome: Result<usize, i32>) -> (Result<Vec<u8>, Error>, Vec<u8>) {
        let mut written = Vec::new();
        let fake = Fake {
            written: &mut written,
            outcome,
            output: b"output",
        };
        let result = Device(fake).ask(Command::Seal, b"input");
        (result, written)
    }

    #[test]
    fn a_request_is_one_write_and_its_output_what_is_read_then() {
        let (result, written) = ask(Ok(100));
        assert_eq!(result.ok().as_deref(), Some(&b"output"[..]));
        assert_eq!(written, b"\x04\0\0\0\0\0\0\0input");
    }

    #[test]
    fn each_refusal_has_words_of_its_own() {
        let text = |errno| {
            ask(Err(errno))
                .0
                .map_or_else(|error| error.to_string(), |_| String::new())
        };
        assert!(text(74).contains("was changed"));
        assert!(text(75).contains("counter"));
        assert!(text(19).contains("does not answer"));
        assert!(text(22).contains("refused the request: Invalid argument"));
        assert!(matches!(ask(Ok(3)).0, Err(Error::Reply)));
    }

    #[test]
    fn an_output_of_another_length_is_no_reply() {
        let bytes: Vec<u8> = (0..24).collect();
        let expected = Identity {
            version: 0x0302_0100,
            most_bytes: 0x0706_0504,
            keys: std::array::from_fn(|at| at as u8 + 8),
        };
        assert_eq!(Identity::decode(&bytes).ok(), Some(expected));
        assert_eq!(
            decode_counter(&bytes[1..9]).ok(),
            Some(0x0807_0605_0403_0201)
        );
        for wrong in [0, 7, 9, 23, 25] {
            let bytes = vec![0; wrong];
            assert!(Identity::decode(&bytes).is_err(), "{wrong}");
            assert!(decode_counter(&bytes).is_err(), "{wrong}");
        }
    }
}
