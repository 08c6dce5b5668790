// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Rule by rule: tables of what the specification says about fields, MSRs and entries, against the
//! model. Each row is a rule; a failure prints it.
//!
//! The tables are written from the specification, not from the code under test.

mod cpuid;
mod entry;
mod fields;
mod leaves;
mod msrs;
mod routes;
