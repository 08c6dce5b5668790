// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The identity in a file of records: the machine, its boot, its clock.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use vtl::Info;

use crate::json::word;
use crate::options::one_line;

/// The identity for the head of a file. It is not needed for reading the records; what this machine
/// does not report is null.
pub(super) fn of_this_machine(info: &Info) -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let (major, minor, patch) = info.version;
    json!({
        "saved_unix_ns": now.map_or(Value::Null, |now| now.as_nanos().to_string().into()),
        "saved_tsc": word(vtl::tsc()),
        "tsc_khz": info.tsc_khz,
        "boot_id": text("/proc/sys/kernel/random/boot_id"),
        "host": text("/proc/sys/kernel/hostname"),
        "kernel": text("/proc/sys/kernel/osrelease"),
        "module": format!("{major}.{minor}.{patch}"),
        "module_source": text("/sys/module/mshv_vtl_tdx/srcversion"),
    })
}

fn text(path: &str) -> Value {
    match std::fs::read_to_string(path) {
        Ok(text) => text.trim().into(),
        Err(_) => Value::Null,
    }
}

/// A line for each thing that is known.
pub(super) fn lines(identity: &Value) -> String {
    let Some(object) = identity.as_object() else {
        return String::new();
    };
    let known = object.iter().filter(|(_, value)| !value.is_null());
    known
        .map(|(name, value)| match value.as_str() {
            Some(text) => one_line(&format!("# {name}: {text}")) + "\n",
            None => one_line(&format!("# {name}: {value}")) + "\n",
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever writes a file writes its head, too.
    #[test]
    fn no_text_makes_a_line_of_its_own() {
        let identity = json!({ "host": "a\nevent 7\u{1b}[2J", "b\nc": ["d\ne"] });
        let lines = lines(&identity);
        assert_eq!(lines.lines().count(), 2, "{lines}");
        assert!(lines.contains("# host: a\\nevent 7\\u{1b}[2J\n"), "{lines}");
    }

    #[test]
    fn a_machine_says_which_it_is() {
        let identity = of_this_machine(&Info::default());
        assert!(identity["boot_id"].is_string() && identity["kernel"].is_string());
        let lines = lines(&identity);
        assert!(lines.contains("# module: 0.0.0\n"), "{lines}");
        assert!(!lines.contains("null"), "{lines}");
    }
}
