//! GRUB 2's configurations, as the GRUB Manual, "Writing your own configuration file", describes them: a script that defines menu
//! entries, which are scripts themselves.
//!
//! [`parser`] reads a script, [`Machine`] executes it. Commands that draw, load modules or drive devices do nothing here; one that
//! is not known fails, and says so.

mod blscfg;
mod commands;
mod condition;
mod devices;
mod env;
mod gptprio;
mod lexer;
mod machine;
pub mod parser;
mod words;

pub use env::Env;
pub use machine::{Loaded, Machine, Opened};
pub use parser::Script;
