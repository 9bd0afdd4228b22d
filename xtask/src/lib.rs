//! What `cargo xtask` is made of, as a library: the integration tests start their guests with it too.

pub mod bed;
pub mod bench;
pub mod build;
pub mod cache;
pub mod command;
pub mod dist;
pub mod image;
pub mod inspect;
pub mod kvm;
pub mod linux;
pub mod progress;
pub mod project;
pub mod pygrub;
pub mod run;
pub mod setup;
pub mod space;
pub mod test;
pub mod xen;
