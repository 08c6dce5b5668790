// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Rights on a page as letters.

use core::fmt;
use core::str::FromStr;

use vtl::PageRights;

/// Rights of one VTL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rights(pub(super) PageRights);

impl FromStr for Rights {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut rights = PageRights::NONE;
        for letter in text.chars() {
            rights = match letter {
                'r' => rights.with_read(true),
                'w' => rights.with_write(true),
                'x' => rights.with_execute_supervisor(true).with_execute_user(true),
                's' => rights.with_execute_supervisor(true),
                'u' => rights.with_execute_user(true),
                '-' => rights,
                _ => {
                    return Err(format!(
                        "'{letter}' is no right (expected r, w, x, s, u or -)"
                    ));
                }
            };
        }
        if text.is_empty() {
            return Err("no rights are named (expected letters, or - for none)".to_owned());
        }
        Ok(Self(rights))
    }
}

impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(rights) = self;
        let letter = |has: bool, letter| if has { letter } else { '-' };
        let execute = match (rights.execute_supervisor(), rights.execute_user()) {
            (true, true) => 'x',
            (true, false) => 's',
            (false, true) => 'u',
            (false, false) => '-',
        };
        let text: String = [
            letter(rights.read(), 'r'),
            letter(rights.write(), 'w'),
            execute,
        ]
        .iter()
        .collect();
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_right_is_shown_as_it_is_typed() {
        for text in ["---", "r--", "rw-", "rwx", "r-x", "r-s", "r-u"] {
            let rights: Rights = text.parse().expect("letters");
            assert_eq!(rights.to_string(), text);
            assert!(rights.0.valid());
        }
        assert_eq!("xr".parse::<Rights>(), "r-x".parse());
        assert_eq!("-".parse(), Ok(Rights(PageRights::NONE)));
        assert_eq!("rwx".parse(), Ok(Rights(PageRights::ALL)));
    }

    #[test]
    fn other_letters_are_named() {
        let error = "rq".parse::<Rights>().expect_err("no right");
        assert!(error.contains("'q' is no right"), "{error}");
        assert!("".parse::<Rights>().is_err());
    }
}
